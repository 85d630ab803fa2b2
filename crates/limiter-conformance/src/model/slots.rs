//! Parallel limits: the slots of reservations, by scope.

use std::collections::{BTreeMap, BTreeSet};

use crate::replay::{Rule, Scope as RuleScope, ScopeName};

use super::remembered::Remembered;
use super::scope::RuleState;

/// A reservation that holds a slot, by its key and its id. A key that is created again is another key.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    call: String,
    name: String,
}

impl Holder {
    pub(super) fn new(path: &str, number: u64, id: &str) -> Self {
        let call = format!("{path}//{id}//");
        Self { name: format!("{call}{number}"), call }
    }
}

/// The parallel limits of a level, and the reservations that hold a slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    limits: BTreeMap<ScopeName, u64>,
    held: BTreeMap<ScopeName, Remembered<()>>,
    /// Scopes in which reservations of an earlier key of the same id may hold a slot, and until when.
    left: Left,
}

pub(super) type Left = BTreeMap<ScopeName, i64>;

impl Slots {
    pub(super) fn limit(&mut self, name: ScopeName, limit: Option<u64>) {
        match limit {
            Some(limit) => self.limits.insert(name, limit),
            None => self.limits.remove(&name),
        };
    }

    /// Lifts the limits of all assets.
    pub(super) fn unlist(&mut self) {
        self.limits.retain(|name, _| !matches!(name, ScopeName::Asset(_)));
    }

    pub(super) fn has_limit(&self, name: &ScopeName) -> bool {
        self.limits.contains_key(name)
    }

    pub(super) fn limits(&self) -> BTreeMap<ScopeName, u64> {
        self.limits.clone()
    }

    /// "Its `retry_at` is the expiry that brings the number of open ones below the limit".
    pub(super) fn state(&self, name: &ScopeName, now: i64) -> Option<RuleState> {
        let limit = *self.limits.get(name)?;
        let mut untils: Vec<i64> = self.held.get(name).map(Remembered::untils).unwrap_or_default();
        untils.retain(|until| *until > now);
        untils.sort_unstable();
        let used = untils.len() as u64;
        let above = used.checked_sub(limit).and_then(|above| usize::try_from(above).ok());
        let resets_at = above.and_then(|above| untils.get(above).copied());
        let scope = match name {
            ScopeName::Global => RuleScope::Global,
            ScopeName::Asset(_) => RuleScope::Asset,
            ScopeName::Other => RuleScope::Other,
        };
        Some(RuleState { rule: Rule::parallel(scope), limit, used, resets_at })
    }

    pub(super) fn states(&self, now: i64) -> Vec<(ScopeName, RuleState)> {
        let state = |name: &ScopeName| Some((name.clone(), self.state(name, now)?));
        self.limits.keys().filter_map(state).collect()
    }

    pub(super) fn hold(&mut self, name: ScopeName, holder: &Holder, until: i64) {
        self.held.entry(name).or_default().insert(&holder.name, until, ());
    }

    /// "An amendment does not bring back a slot that has expired."
    pub(super) fn renew(&mut self, name: &ScopeName, holder: &Holder, until: i64) {
        if let Some(held) = self.held.get_mut(name)
            && held.get(&holder.name).is_some()
        {
            held.insert(&holder.name, until, ());
        }
    }

    pub(super) fn free(&mut self, name: &ScopeName, holder: &Holder) {
        if let Some(held) = self.held.get_mut(name) {
            held.remove(&holder.name);
        }
    }

    pub(super) fn look_at_the_clock(&mut self, now: i64) {
        self.held.values_mut().for_each(|held| held.look_at_the_clock(now));
    }

    /// Returns whether the specification says how many slots of any of these scopes are held.
    pub(super) fn specifies(&self, now: i64) -> bool {
        let limited: BTreeSet<_> = self.limits.keys().collect();
        let mut held = self.held.iter().filter(|(name, _)| limited.contains(name));
        let mut left = self.left.iter().filter(|(name, _)| limited.contains(name));
        held.all(|(_, held)| held.specifies_all(now)) && left.all(|(_, until)| *until <= now)
    }

    /// "Ids are never used again (callers who choose ids promise this …)": where one is, slots that are held when the key is
    /// deleted, in scopes without a parallel limit, may be there when a later key of this id gets one.
    pub(super) fn left_behind(&self) -> Left {
        let of = |(name, held): (&ScopeName, &Remembered<()>)| {
            Some((name.clone(), held.untils_at_most()?))
        };
        let held = self.held.iter().filter_map(of).chain(self.left.clone());
        let mut left = Left::new();
        for (name, until) in held.filter(|(name, _)| !self.limits.contains_key(name)) {
            let latest = left.entry(name).or_insert(until);
            *latest = until.max(*latest);
        }
        left
    }

    /// Returns all slots that an unregistered key leaves behind when it is registered: whether that finds them is not specified.
    pub(super) fn all_left(&self) -> Left {
        let of = |(name, held): (&ScopeName, &Remembered<()>)| {
            Some((name.clone(), held.untils_at_most()?))
        };
        self.held.iter().filter_map(of).collect()
    }

    /// Takes over the slots of an earlier state.
    pub(super) fn find_expired(&mut self, of: &Self) {
        self.held = of.held.clone();
    }

    pub(super) fn find_left(&mut self, left: Left) {
        self.left = left;
    }

    /// Returns whether the specification says what a reservation of this holder takes. "Ids are never used again (callers who
    /// choose ids promise this …)": where one is, and an earlier key of this id has held a slot for the same request id, a
    /// store may take both for one call.
    pub(super) fn specifies_holder(&self, holder: &Holder, now: i64) -> bool {
        let mut names = self.held.values().flat_map(|held| held.ids_at(now));
        !names.any(|name| name.starts_with(&holder.call) && name != holder.name)
    }
}
