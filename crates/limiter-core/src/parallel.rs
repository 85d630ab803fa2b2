//! Parallel limits: how many reservations of a scope may be open at the same time.
//!
//! A reservation holds a *slot* in each limited scope that it meets, until it ends, or until the slot expires. So the slots of
//! a caller that crashed come back by themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::levels::{LevelSet, Levels, LevelsMut};
use crate::names::{AssetId, KeyId, RequestId};
use crate::remembered::Remembered;
use crate::rule::{Rule, Scope};
use crate::rules::RuleState;
use crate::state::{KeyState, ScopeId};

/// A parallel limit that a reservation meets, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parallel {
    /// The level, from the outermost, which is 0.
    pub level: usize,
    /// The scope of the level.
    pub scope: Scope,
    /// The most reservations that may be open at the same time.
    pub limit: u64,
    /// The number of slots that are held.
    pub open: u64,
    /// If no slot is free: the instant at which enough slots have expired. `None` for a limit of zero, too.
    pub frees_at: Option<Timestamp>,
}

/// The slots that a reservation holds: scopes of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slots(u16);

/// The parallel limits of a level, and the slots that reservations hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ParallelScopes(BTreeMap<ScopeId, ParallelScope>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ParallelScope {
    limit: Option<u64>,
    /// The reservations that hold a slot, each until its slot expires. The limit may have changed since.
    open: Remembered<Holder, ()>,
}

/// A reservation that holds a slot: its key and its id.
pub(crate) type Holder = (KeyId, RequestId);

impl Parallel {
    /// Returns whether no slot is free.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.open >= self.limit
    }

    /// Returns it as it stands at a later time, if nothing but time passes.
    pub(crate) fn at(self, later: Timestamp) -> Self {
        match self.frees_at {
            Some(frees_at) if frees_at <= later => self.with_open(self.limit.saturating_sub(1)),
            _ => self,
        }
    }

    /// Returns it after one more reservation, which did not hold a slot in these levels.
    pub(crate) fn taken(self, but: LevelSet) -> Self {
        let taken = !but.contains(self.level);
        self.with_open(self.open.saturating_add(u64::from(taken)))
    }

    /// Returns it with this number of slots held.
    pub(crate) const fn with_open(self, open: u64) -> Self {
        Self { open, frees_at: None, ..self }
    }

    pub(crate) fn state(&self) -> RuleState {
        RuleState {
            group: None,
            rule: Rule::parallel(self.scope),
            limit: self.limit,
            used: self.open,
            remaining: self.limit.saturating_sub(self.open),
            resets_at: self.frees_at,
        }
    }
}

impl Slots {
    /// No slot.
    pub const NONE: Self = Self(0);

    /// Returns the slots from their bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Returns a bit for each scope: four for each level, the outermost lowest.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns whether it has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns them with one of this scope of a level.
    #[must_use]
    pub const fn with(self, level: usize, scope: Scope) -> Self {
        let bit = 4_usize.saturating_mul(level).saturating_add(scope as usize);
        if bit < 16 { Self(self.0 | 1 << bit) } else { self }
    }

    /// Returns the level and the scope of each.
    pub fn iter(self) -> impl Iterator<Item = (usize, Scope)> {
        let scopes = |level| Scope::ALL.into_iter().map(move |scope| (level, scope));
        let all = (0..KeyId::MAX_SEGMENTS).flat_map(scopes);
        all.filter(move |(level, scope)| !Self::NONE.with(*level, *scope).is_disjoint_from(self))
    }

    /// Returns them without those of these levels.
    #[must_use]
    pub fn but(self, levels: LevelSet) -> Self {
        let kept = self.iter().filter(|(level, _)| !levels.contains(*level));
        kept.fold(Self::NONE, |slots, (level, scope)| slots.with(level, scope))
    }

    const fn is_disjoint_from(self, other: Self) -> bool {
        self.0 & other.0 == 0
    }
}

impl ParallelScopes {
    fn limit(&self, scope: &ScopeId) -> Option<u64> {
        self.0.get(scope)?.limit
    }

    pub(crate) fn limits(&self) -> impl Iterator<Item = (&ScopeId, u64)> {
        self.0.iter().filter_map(|(scope, of)| Some((scope, of.limit?)))
    }

    /// Replaces all limits. Slots that are held stay.
    fn set_limits(&mut self, limits: impl IntoIterator<Item = (ScopeId, u64)>) {
        self.0.values_mut().for_each(|of| of.limit = None);
        for (scope, limit) in limits {
            self.0.entry(scope).or_default().limit = Some(limit);
        }
        self.drop_unused();
    }

    fn drop_unused(&mut self) {
        self.0.retain(|_, of| of.limit.is_some() || !of.open.is_empty());
    }
}

impl ScopeId {
    /// Returns the name of a scope of a call of this asset.
    #[must_use]
    pub fn of_call(scope: Scope, asset: Option<&AssetId>) -> Self {
        let asset = asset.filter(|_| scope == Scope::Asset).cloned();
        Self { scope, asset }
    }
}

impl KeyState {
    /// Returns the parallel limit of a scope, if it has one.
    #[must_use]
    pub fn parallel_limit(&self, scope: &ScopeId) -> Option<u64> {
        self.parallel.as_deref()?.limit(scope)
    }

    /// Returns all parallel limits, in canonical order.
    pub fn parallel_limits(&self) -> impl Iterator<Item = (&ScopeId, u64)> {
        self.parallel.as_deref().into_iter().flat_map(ParallelScopes::limits)
    }

    /// Returns the state with these parallel limits in place of its own. Slots that are held stay.
    #[must_use]
    pub fn with_parallel_limits(
        mut self,
        limits: impl IntoIterator<Item = (ScopeId, u64)>,
    ) -> Self {
        let mut limits = limits.into_iter().peekable();
        if limits.peek().is_some() || self.parallel.is_some() {
            let parallel = self.parallel.get_or_insert_default();
            parallel.set_limits(limits);
            if parallel.0.is_empty() {
                self.parallel = None;
            }
        }
        self
    }

    /// Returns how many slots of a scope are held, if it has a parallel limit, and when one is free if none is.
    pub(crate) fn parallel_at(
        &self,
        level: usize,
        scope: &ScopeId,
        now: Timestamp,
    ) -> Option<Parallel> {
        let of = self.parallel.as_deref()?.0.get(scope)?;
        let limit = of.limit?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (open, frees_at) = of.open.standing(most, now);
        let open = u64::try_from(open).unwrap_or(u64::MAX);
        Some(Parallel { level, scope: scope.scope, limit, open, frees_at })
    }

    /// Returns the scopes with a parallel limit that a call of this asset meets: of other assets if it is not listed.
    fn parallel_met(&self, asset: Option<&AssetId>) -> SmallVec<[(ScopeId, u64); 2]> {
        if self.parallel.is_none() {
            return SmallVec::new();
        }
        let second = asset.map(|asset| match self.lists(asset) {
            true => ScopeId::asset(asset.clone()),
            false => ScopeId::OTHER,
        });
        let met = [Some(ScopeId::GLOBAL), second].into_iter().flatten();
        met.filter_map(|scope| self.parallel_limit(&scope).map(|limit| (scope, limit))).collect()
    }

    fn open_in(&mut self, scope: &ScopeId) -> Option<&mut Remembered<Holder, ()>> {
        Some(&mut self.parallel.as_deref_mut()?.0.get_mut(scope)?.open)
    }

    /// Returns the slots that are held: of each scope, and by whom until when.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (&ScopeId, &Holder, Timestamp)> {
        let scopes = self.parallel.as_deref().into_iter().flat_map(|parallel| &parallel.0);
        scopes.flat_map(|(scope, of)| of.open.unordered().map(move |(by, at, ())| (scope, by, at)))
    }

    /// Returns the state with the slots that reservations hold in another one.
    pub(crate) fn with_slots_of(mut self, other: &Self) -> Self {
        for (scope, by, until) in other.slots() {
            self.hold_slot(scope.clone(), by.clone(), until);
        }
        self
    }

    /// Holds a slot for a reservation of this key and id, whatever the limit is, as a store that keeps slots elsewhere does.
    pub fn hold_slot(&mut self, scope: ScopeId, by: (KeyId, RequestId), until: Timestamp) {
        let parallel = self.parallel.get_or_insert_default();
        parallel.0.entry(scope).or_default().open.insert(by, until, ());
    }
}

impl Levels<'_> {
    /// Returns the parallel limits that a reservation meets, each with its level and scope.
    pub fn parallel_limits(&self) -> impl Iterator<Item = (usize, ScopeId, u64)> {
        let levels = self.states.iter().enumerate();
        let of_level = |(level, state): (usize, &&KeyState)| {
            let met = state.parallel_met(self.asset);
            met.into_iter().map(move |(scope, limit)| (level, scope, limit))
        };
        levels.flat_map(of_level)
    }

    /// Returns the same as they stand at `now`, by the slots that these states hold.
    #[must_use]
    pub fn parallel_at(&self, now: Timestamp) -> SmallVec<[Parallel; 2]> {
        let standing = |(level, scope, _): (usize, ScopeId, u64)| {
            self.states.get(level)?.parallel_at(level, &scope, now)
        };
        self.parallel_limits().filter_map(standing).collect()
    }
}

impl LevelsMut<'_> {
    /// Holds a slot of each of these limits, but of these levels. Slots of these scopes that have expired are forgotten.
    pub(crate) fn hold_slots(
        &mut self,
        limits: &[Parallel],
        but: LevelSet,
        id: &RequestId,
        until: Timestamp,
        now: Timestamp,
    ) -> Slots {
        let held = limits.iter().filter(|of| !but.contains(of.level));
        let slots = held.fold(Slots::NONE, |slots, of| slots.with(of.level, of.scope));
        self.in_each(slots, id, |open, holder| {
            open.forget_until(now);
            open.insert(holder, until, ());
        });
        slots
    }

    /// Holds these slots until another time, unless they have expired.
    pub(crate) fn renew_slots(
        &mut self,
        slots: Slots,
        id: &RequestId,
        until: Timestamp,
        now: Timestamp,
    ) {
        self.in_each(slots, id, |open, holder| {
            if open.until(&holder).is_some_and(|until| until > now) {
                open.insert(holder, until, ());
            }
        });
    }

    /// Frees these slots.
    pub(crate) fn free_slots(&mut self, slots: Slots, id: &RequestId) {
        self.in_each(slots, id, |open, holder| drop(open.remove(&holder)));
    }

    fn in_each(
        &mut self,
        slots: Slots,
        id: &RequestId,
        act: impl Fn(&mut Remembered<Holder, ()>, Holder),
    ) {
        for (level, scope) in slots.iter() {
            let scope = ScopeId::of_call(scope, self.asset);
            let open = self.states.get_mut(level).and_then(|state| state.open_in(&scope));
            if let Some(open) = open {
                act(open, (self.key.clone(), id.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_were_added() {
        let slots = Slots::NONE.with(0, Scope::Global).with(3, Scope::Other).with(1, Scope::Asset);
        let all = [(0, Scope::Global), (1, Scope::Asset), (3, Scope::Other)];
        assert!(slots.iter().eq(all));
        assert_eq!(Slots::from_bits(slots.bits()), slots);
        assert!(slots.but([1, 3].into_iter().collect()).iter().eq([all[0]]));
        assert!(Slots::NONE.is_empty() && !slots.is_empty());
    }
}
