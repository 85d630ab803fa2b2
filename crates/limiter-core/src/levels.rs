//! The levels that a call meets: the groups of its key, and the key itself.

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::config::KeyKind;
use crate::names::{AssetId, KeyId};
use crate::parallel::Parallel;
use crate::state::{KeyState, Place};

/// A key and its groups as they stand, the outermost first, and the asset of a call.
#[derive(Clone, Debug)]
pub struct Levels<'a> {
    pub(crate) key: &'a KeyId,
    pub(crate) asset: Option<&'a AssetId>,
    pub(crate) states: SmallVec<[&'a KeyState; KeyId::MAX_SEGMENTS]>,
    /// Of a reservation, the parallel limits that it meets.
    pub(crate) parallel: &'a [Parallel],
}

/// The same, to be changed.
#[derive(Debug)]
pub struct LevelsMut<'a> {
    pub(crate) key: &'a KeyId,
    pub(crate) asset: Option<&'a AssetId>,
    pub(crate) states: SmallVec<[&'a mut KeyState; KeyId::MAX_SEGMENTS]>,
    pub(crate) parallel: &'a [Parallel],
}

/// Some levels of a key, by their numbers from the outermost, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct LevelSet(u8);

/// A scope of one of the levels that a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelPlace {
    /// The number of the level, from the outermost, which is 0.
    pub level: usize,
    /// The scope within the level.
    pub place: Place,
}

impl LevelSet {
    /// No level.
    pub const NONE: Self = Self(0);
    /// Every level.
    pub const ALL: Self = Self(u8::MAX);

    /// Returns the set from its bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Returns a bit for each level, the outermost lowest.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether it has no level.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether it has this level.
    #[must_use]
    pub const fn contains(self, level: usize) -> bool {
        level < 8 && self.0 & (1 << level) != 0
    }

    /// Returns the set with this level too.
    #[must_use]
    pub const fn with(self, level: usize) -> Self {
        if level < 8 { Self(self.0 | (1 << level)) } else { self }
    }

    /// Returns the levels that are not in the set.
    #[must_use]
    pub const fn others(self) -> Self {
        Self(!self.0)
    }

    /// Returns the levels that either set has.
    #[must_use]
    pub const fn and_also(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the levels that both sets have.
    #[must_use]
    pub const fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns whether it has each of the first `count` levels.
    #[must_use]
    pub fn has_all(self, count: usize) -> bool {
        (0..count).all(|level| self.contains(level))
    }
}

impl FromIterator<usize> for LevelSet {
    fn from_iter<I: IntoIterator<Item = usize>>(levels: I) -> Self {
        levels.into_iter().fold(Self::NONE, Self::with)
    }
}

impl<'a> Levels<'a> {
    /// Creates the levels of a key: its groups, the outermost first, and at last the key itself.
    pub fn new(
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        states: impl IntoIterator<Item = &'a KeyState>,
    ) -> Self {
        Self { key, asset, states: states.into_iter().collect(), parallel: &[] }
    }

    /// Creates the one level of a key without groups.
    #[must_use]
    pub fn of_key(key: &'a KeyId, asset: Option<&'a AssetId>, state: &'a KeyState) -> Self {
        Self::new(key, asset, [state])
    }

    /// Returns the levels for a reservation, which meets these parallel limits too.
    #[must_use]
    pub fn reserving<'b>(&'b self, parallel: &'b [Parallel]) -> Levels<'b> {
        let states = self.states.iter().map(|state| &**state);
        Levels { parallel, ..Levels::new(self.key, self.asset, states) }
    }

    /// Returns the states, the outermost first.
    #[must_use]
    pub fn states(&self) -> &[&'a KeyState] {
        &self.states
    }

    /// Returns the id of a group by its level; `None` for the key itself.
    pub(crate) fn group(&self, level: usize) -> Option<KeyId> {
        if level.saturating_add(1) >= self.states.len() {
            return None;
        }
        self.key.groups().nth(level)
    }

    /// Returns whether the kinds and expiries of all levels and their lists of assets allow a call at `now`.
    #[must_use]
    pub fn may_call(&self, now: Timestamp) -> bool {
        let denies = |state: &&&KeyState| !state.shadow && state.denies(state.locate(self.asset));
        self.states.last().is_some_and(|key| key.kind == KeyKind::Member)
            && !self.states.iter().any(|state| state.is_expired(now))
            && self.states.iter().find(denies).is_none()
    }

    /// Returns whether something may be added to a call at `now`: it [may be made](Self::may_call), and also no level in shadow
    /// mode refuses its asset.
    #[must_use]
    pub fn may_add(&self, now: Timestamp) -> bool {
        self.may_call(now) && self.denying().is_empty()
    }

    /// Returns the levels in shadow mode.
    pub(crate) fn in_shadow(&self) -> LevelSet {
        let levels = self.states.iter().enumerate();
        levels.filter(|(_, state)| state.shadow).map(|(level, _)| level).collect()
    }

    /// Returns the levels that refuse the asset of the call.
    pub(crate) fn denying(&self) -> LevelSet {
        let levels = self.states.iter().enumerate();
        let denies = levels.filter(|(_, state)| state.denies(state.locate(self.asset)));
        denies.map(|(level, _)| level).collect()
    }
}

impl<'a> LevelsMut<'a> {
    /// Creates the levels of a key: its groups, the outermost first, and at last the key itself.
    pub fn new(
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        states: impl IntoIterator<Item = &'a mut KeyState>,
    ) -> Self {
        Self { key, asset, states: states.into_iter().collect(), parallel: &[] }
    }

    /// Creates the one level of a key without groups.
    pub fn of_key(key: &'a KeyId, asset: Option<&'a AssetId>, state: &'a mut KeyState) -> Self {
        Self::new(key, asset, [state])
    }

    /// Returns the levels for a reservation, which meets these parallel limits too.
    #[must_use]
    pub fn reserving<'b>(&'b mut self, parallel: &'b [Parallel]) -> LevelsMut<'b> {
        LevelsMut { parallel, ..self.of_asset(self.asset) }
    }

    /// Returns the levels for a call of another asset.
    pub(crate) fn of_asset<'b>(&'b mut self, asset: Option<&'b AssetId>) -> LevelsMut<'b> {
        LevelsMut::new(self.key, asset, self.states.iter_mut().map(|state| &mut **state))
    }

    /// Returns the levels, to be read.
    #[must_use]
    pub fn as_ref(&self) -> Levels<'_> {
        let states = self.states.iter().map(|state| &**state);
        Levels { parallel: self.parallel, ..Levels::new(self.key, self.asset, states) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_levels_that_it_was_made_of() {
        let set: LevelSet = [0, 2].into_iter().collect();
        assert_eq!([0, 1, 2, 3].map(|level| set.contains(level)), [true, false, true, false]);
        assert_eq!((set.bits(), LevelSet::from_bits(5)), (5, set));
        assert!(!set.has_all(2) && set.with(1).has_all(3) && LevelSet::NONE.has_all(0));
        assert!(set.others().contains(1) && !set.others().contains(2));
    }
}
