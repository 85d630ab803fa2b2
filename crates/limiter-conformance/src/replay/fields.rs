//! A JSON object read strictly: each field asked for by name, none left over, none twice.
//!
//! Derived readers are laxer than the format: they take an array for a struct, `{"output":null}` for an enum, and
//! the last of two equal names in a map. And they see 2^64 as a float, which the format calls a number.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::operation::Change;
use super::read::Unreadable;

/// The fields of one object that have not been asked for yet.
pub(super) struct Fields<'line>(BTreeMap<String, &'line RawValue>);

/// Reads the value of one field; an error says what it must be.
pub(super) type ReadValue<'line, T> = fn(&'line RawValue) -> Result<T, Unreadable>;

impl<'line> Fields<'line> {
    /// The fields of the object that `text` is.
    pub(super) fn of(text: &'line str) -> Result<Self, Unreadable> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(EachOnce).map_err(Unreadable::NotAnObject)?;
        deserializer.end().map_err(Unreadable::NotAnObject)?;
        Ok(Self(fields))
    }

    /// A field that must be there, and not null.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: ReadValue<'line, T>,
    ) -> Result<T, Unreadable> {
        self.optional(name, read)?.ok_or(Unreadable::Missing { field: name })
    }

    /// A field that may be absent, but not null.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: ReadValue<'line, T>,
    ) -> Result<Option<T>, Unreadable> {
        self.0.remove(name).map(|value| read_named(name, value, read)).transpose()
    }

    /// A field for which absent and null are the same.
    pub(super) fn nullable<T>(
        &mut self,
        name: &'static str,
        read: ReadValue<'line, T>,
    ) -> Result<Option<T>, Unreadable> {
        Ok(self.change(name, read)?.changed().flatten())
    }

    /// A field for which absent and null are different things.
    pub(super) fn change<T>(
        &mut self,
        name: &'static str,
        read: ReadValue<'line, T>,
    ) -> Result<Change<T>, Unreadable> {
        match self.0.remove(name) {
            None => Ok(Change::Keep),
            Some(value) if is_null(value) => Ok(Change::Clear),
            Some(value) => read_named(name, value, read).map(Change::Set),
        }
    }

    /// All fields, whatever their names: the object is a map. A null value is `None`.
    pub(super) fn entries<T>(
        self,
        read: ReadValue<'line, T>,
    ) -> Result<BTreeMap<String, Option<T>>, Unreadable> {
        let entries = self.0.into_iter();
        entries
            .map(|(name, value)| {
                let value =
                    if is_null(value) { None } else { Some(read_named(&name, value, read)?) };
                Ok((name, value))
            })
            .collect()
    }

    /// There must be no other field.
    pub(super) fn finish(self) -> Result<(), Unreadable> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(field) => Err(Unreadable::UnknownField { field }),
        }
    }
}

/// A whole number from 0. One that does not fit is read as the largest `u64`, which is out of bounds everywhere.
pub(super) fn number(value: &RawValue) -> Result<u64, Unreadable> {
    let text = value.get();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.parse().unwrap_or(u64::MAX))
    } else {
        Err(Unreadable::MustBe { expected: "a whole number from 0" })
    }
}

/// A string.
pub(super) fn text(value: &RawValue) -> Result<String, Unreadable> {
    serde_json::from_str(value.get()).map_err(|_| Unreadable::MustBe { expected: "a string" })
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

fn read_named<'line, T>(
    name: &str,
    value: &'line RawValue,
    read: ReadValue<'line, T>,
) -> Result<T, Unreadable> {
    read(value)
        .map_err(|problem| Unreadable::Field { field: name.to_owned(), problem: Box::new(problem) })
}

struct EachOnce;

impl<'line> Visitor<'line> for EachOnce {
    type Value = BTreeMap<String, &'line RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'line>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &'line RawValue>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the field `{name}` is there twice")));
            }
            fields.insert(name, value);
        }
        Ok(fields)
    }
}
