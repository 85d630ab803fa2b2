//! How a key looks in Redis. The scripts know none of it but the layout of hot records.
//!
//! | key | type | content |
//! |---|---|---|
//! | `k` | hash | hot: `g` the global record, `a` + asset that of an asset that is counted, `o` that of others ([`hot`]) |
//! | `l` | hash | cold, by the same fields: limits in force and pending; with `g` also what else is configured ([`cold`]) |
//! | `m` | hash | for management: id, workspace, name, labels, access keys, times, version ([`management`]) |
//! | `r` | hash | reservations by id ([`entry`]) |
//! | `o`, `e` | sorted sets | ids of open and of ended reservations, by the time until which they are remembered |
//! | `c`, `p` | sorted sets | ids of checks and of records, by the same |
//! | `s` | sorted set | for each scope with a parallel limit: the keys and ids of the reservations that hold a slot, by the time until which they do |
//! | `h` | sorted set | accounts of days that have ended, by the ends of the days ([`day`]) |
//! | `b` | hash | of a group: the ids of the keys and groups directly beneath it |
//! | `wp` | hash | the plans of a workspace by their names, in JSON |
//! | `wh` | sorted set | the ids of the keys that have a plan, or are about to get it ([`crate::directory::planning`]) |
//!
//! Numbers are little-endian. A count or an instant takes seven bytes, the end of a window six. Every write of limits draws
//! a new *stamp*, which stands at the start of the global record: with an equal stamp, a process has the limits at hand.

mod bytes;
mod cold;
mod day;
mod entry;
mod hot;
mod management;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use limiter_core::{
    AssetId, KeyId, KeyKind, KeyState, LevelPlace, Levels, LevelsMut, Place, ScopeId, ScopeState,
    StoredPlan, Timestamp,
};
use redis::Value;
use thiserror::Error;

use crate::keys::Subject;
use crate::random::draw;

pub(crate) use self::bytes::push_int;
pub(crate) use self::cold::{read_state, write_asset, write_global};
pub(crate) use self::day::closed_days;
pub(crate) use self::entry::{
    Entry, REMEMBERED, Token, after_windows, amended, before_windows, ended, read_entry, read_until,
};
pub(crate) use self::hot::{GENERATION, Layout, push_end};
pub(crate) use self::management::{
    HashFields, read_plan, secret_fields, stored_key, whole_key, written_labels, written_own,
    written_plan,
};
pub(crate) use self::step::{Counted, look, packed, push_stops, stops_of};

/// A random number for each write of a key's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Stamp(pub(crate) [u8; 8]);

/// Why bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Misread {
    /// A later version of this crate wrote them.
    #[error("written by a later version")]
    Newer,
    /// Something else wrote them.
    #[error("{0}")]
    Corrupt(&'static str),
    /// The key has another type.
    #[error("another type")]
    WrongType,
}

/// A key as it was read: the global scope, and the scopes of assets and of other assets that were read with it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) stamp: Stamp,
    pub(crate) state: KeyState,
    /// Whether nothing is stored of it yet: nobody registered the key, and no call of it was charged.
    pub(crate) is_new: bool,
}

/// The levels of a key as they were read, the outermost first: its groups, and the key itself.
#[derive(Clone, Debug)]
pub(crate) struct KnownLevels(Vec<Arc<Known>>);

impl Known {
    pub(crate) const fn stored(stamp: Stamp, state: KeyState) -> Self {
        Self { stamp, state, is_new: false }
    }

    /// The same key in another state.
    pub(crate) fn with_state(&self, state: KeyState) -> Self {
        Self { state, ..self.clone() }
    }

    /// Whether perhaps nothing is left of an unregistered key, so that it is to begin anew. Not all of its scopes are known.
    pub(crate) fn may_begin_anew(&self, now: Timestamp) -> bool {
        !self.is_new
            && !self.state.is_registered()
            && self.state.is_over(now)
            && (self.state.generations() > 1 || self.state.begins_differently(now))
    }

    /// An unregistered key, beneath a group that is open with this plan.
    pub(crate) fn unregistered(plan: &StoredPlan, now: Timestamp) -> Self {
        let state = KeyState::unregistered(plan, now);
        Self { stamp: Stamp::draw(), state, is_new: true }
    }
}

impl KnownLevels {
    /// The key itself.
    pub(crate) fn own(&self) -> Option<&Known> {
        self.0.last().map(|known| &**known)
    }

    /// Returns whether nothing is stored of the key yet.
    pub(crate) fn is_new(&self) -> bool {
        self.own().is_some_and(|own| own.is_new)
    }

    /// Returns whether somebody registered the key.
    pub(crate) fn is_registered(&self) -> bool {
        self.own().is_none_or(|own| own.state.is_registered())
    }

    /// Returns whether the key is as its group would have it: registered, or the group is open with the plan that it has.
    pub(crate) fn is_in_place(&self) -> bool {
        let group = self.0.iter().rev().nth(1);
        let opens = group.and_then(|group| group.state.opens());
        let plan = self.own().and_then(|own| own.state.plan()).map(|taken| &taken.name);
        self.is_registered() || opens.is_some() && opens == plan
    }

    /// The same after the state of the key was stored.
    pub(crate) fn after_storing(mut self) -> Self {
        if let Some(own) = self.0.last_mut().filter(|own| own.is_new) {
            Arc::make_mut(own).is_new = false;
        }
        self
    }

    pub(crate) const fn new(levels: Vec<Arc<Known>>) -> Self {
        Self(levels)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Known>> {
        self.0.iter()
    }

    /// Each level of this key, by its id.
    pub(crate) fn each<'a>(&'a self, key: &'a KeyId) -> impl Iterator<Item = (KeyId, &'a Known)> {
        key.levels().zip(self.0.iter().map(|known| &**known))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns what a call of this key and asset meets.
    pub(crate) fn met<'a>(&'a self, of: Subject<'a>) -> Levels<'a> {
        Levels::new(of.key, of.asset, self.0.iter().map(|known| &known.state))
    }

    /// The same, to be changed.
    pub(crate) fn met_mut<'a>(&'a mut self, of: Subject<'a>) -> LevelsMut<'a> {
        let states = self.0.iter_mut().map(|known| &mut Arc::make_mut(known).state);
        LevelsMut::new(of.key, of.asset, states)
    }

    pub(crate) fn set(&mut self, level: usize, known: Known) {
        if let Some(before) = self.0.get_mut(level) {
            *before = Arc::new(known);
        }
    }

    pub(crate) fn level(&self, level: usize) -> Option<&Known> {
        self.0.get(level).map(|known| &**known)
    }

    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        self.0.iter().map(|known| known.stamp).collect()
    }

    /// Returns whether the last level is a group, which makes no calls.
    pub(crate) fn is_group(&self) -> bool {
        self.0.last().is_some_and(|known| known.state.kind() == KeyKind::Group)
    }

    pub(crate) fn scope_at(&self, at: LevelPlace) -> Option<&ScopeState> {
        self.level(at.level)?.state.scope_at(at.place)
    }

    /// The layouts of the records at these places.
    pub(crate) fn layouts(&self, places: impl IntoIterator<Item = LevelPlace>) -> Vec<Layout> {
        let layout = |at: LevelPlace| {
            Some(Layout::of(at.place == Place::Global, self.scope_at(at)?.record()))
        };
        places.into_iter().filter_map(layout).collect()
    }

    /// Returns whether a retry of the call may look at limits of other assets that an operation on these places did not
    /// compare.
    pub(crate) fn leaves_out_other(
        &self,
        asset: Option<&AssetId>,
        compared: &[LevelPlace],
    ) -> bool {
        self.0.iter().enumerate().any(|(level, known)| {
            let other = LevelPlace { level, place: Place::Other };
            known.state.may_meet_other(known.state.locate(asset)) && !compared.contains(&other)
        })
    }
}

impl Stamp {
    pub(crate) fn draw() -> Self {
        Self(draw().to_le_bytes())
    }
}

/// The field of the global record and of its limits.
pub(crate) const GLOBAL: &[u8] = b"g";

/// The field of the record of other assets, and of their limits.
pub(crate) const OTHER: &[u8] = b"o";

/// The field of a scope's record and of its limits.
pub(crate) fn scope_field(scope: &ScopeId) -> Vec<u8> {
    match (&scope.asset, scope.scope) {
        (Some(asset), _) => asset_field(asset),
        (None, limiter_core::Scope::Other) => OTHER.to_vec(),
        (None, _) => GLOBAL.to_vec(),
    }
}

/// The field of an asset's record and of its limits.
pub(crate) fn asset_field(asset: &AssetId) -> Vec<u8> {
    [b"a", asset.as_str().as_bytes()].concat()
}

/// Reads the two texts of TIME.
pub(crate) fn time_of(seconds: &[u8], micros: &[u8]) -> Result<Timestamp, Misread> {
    let number = |text: &[u8]| str::from_utf8(text).ok()?.parse::<i64>().ok();
    let (seconds, micros) = number(seconds).zip(number(micros)).ok_or(NOT_AN_ANSWER)?;
    let unix_ms = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(micros / 1_000));
    Ok(Timestamp::from_unix_ms(unix_ms.ok_or(NOT_AN_ANSWER)?))
}

/// An answer's first part: seconds, letters, microseconds.
pub(crate) fn head_of(text: &[u8]) -> Result<(Timestamp, &[u8]), Misread> {
    let (seconds, text) = text.split_at(digits(text));
    let letters = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (letters, micros) = text.split_at(letters);
    Ok((time_of(seconds, micros)?, letters))
}

/// The length of the number at the start.
fn digits(text: &[u8]) -> usize {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
    text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len())
}

pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) const NOT_AN_ANSWER: Misread = Misread::Corrupt("a script returned an unexpected reply");
