//! Ways in which another program may write over a key of ours.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The fields of a hash.
pub(crate) type Fields = BTreeMap<Vec<u8>, Vec<u8>>;

/// A damage to one of the hashes of a key.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Truncate(Index, Index),
    Extend(Index, Vec<u8>),
    Flip(Index, Index, u8),
    SetByte(Index, Index, u8),
    Replace(Index, Vec<u8>),
    Remove(Index),
    Add(Vec<u8>, Vec<u8>),
    /// A field gets the value of another field.
    Copy(Index, Index),
    /// A field gets the value of the same field of another key.
    FromOther(Index),
}

/// A value that is found instead of a hash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OtherType {
    Text,
    List,
    Nothing,
}

impl Damage {
    pub(crate) fn apply(&self, fields: &mut Fields, other: &Fields) {
        let names: Vec<_> = fields.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let name = |index: &Index| names[index.index(names.len())].clone();
        let value_of = |index: &Index| fields[&name(index)].clone();
        let (field, value) = match self {
            Self::Truncate(field, at) => {
                let mut value = value_of(field);
                value.truncate(at.index(value.len() + 1));
                (name(field), Some(value))
            }
            Self::Extend(field, more) => {
                (name(field), Some([value_of(field), more.clone()].concat()))
            }
            Self::Flip(field, at, bit) => {
                (name(field), Some(with_byte(value_of(field), at, |byte| byte ^ (1 << bit))))
            }
            Self::SetByte(field, at, byte) => {
                (name(field), Some(with_byte(value_of(field), at, |_| *byte)))
            }
            Self::Replace(field, by) => (name(field), Some(by.clone())),
            Self::Remove(field) => (name(field), None),
            Self::Add(name, value) => (name.clone(), Some(value.clone())),
            Self::Copy(from, to) => (name(to), Some(value_of(from))),
            Self::FromOther(field) => (name(field), other.get(&name(field)).cloned()),
        };
        match value {
            Some(value) => drop(fields.insert(field, value)),
            None => drop(fields.remove(&field)),
        }
    }
}

fn with_byte(mut value: Vec<u8>, at: &Index, change: impl Fn(u8) -> u8) -> Vec<u8> {
    if !value.is_empty() {
        let at = at.index(value.len());
        value[at] = change(value[at]);
    }
    value
}

pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    vec(damage(), 1..4)
}

pub(crate) fn other_types() -> impl Strategy<Value = Option<OtherType>> {
    let other = select(vec![OtherType::Text, OtherType::List, OtherType::Nothing]);
    prop_oneof![30 => Just(None), 1 => other.prop_map(Some)]
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    let bytes = || {
        prop_oneof![
            vec(any::<u8>(), 0..70),
            select(vec!["", "1", "-1", "nan", "9007199254740993", "text"])
                .prop_map(|text| text.as_bytes().to_vec()),
        ]
    };
    let field = || prop_oneof![vec(any::<u8>(), 0..6), Just(b"am2".to_vec()), Just(b"g".to_vec())];
    prop_oneof![
        2 => (index(), index()).prop_map(|(field, at)| Damage::Truncate(field, at)),
        1 => (index(), vec(any::<u8>(), 1..30)).prop_map(|(field, more)| Damage::Extend(field, more)),
        6 => (index(), index(), 0_u8..8).prop_map(|(field, at, bit)| Damage::Flip(field, at, bit)),
        4 => (index(), index(), any::<u8>()).prop_map(|(field, at, byte)| Damage::SetByte(field, at, byte)),
        2 => (index(), bytes()).prop_map(|(field, by)| Damage::Replace(field, by)),
        2 => index().prop_map(Damage::Remove),
        1 => (field(), bytes()).prop_map(|(field, value)| Damage::Add(field, value)),
        2 => (index(), index()).prop_map(|(from, to)| Damage::Copy(from, to)),
        2 => index().prop_map(Damage::FromOther),
    ]
}
