//! A key or a group as the oracle counts it.

use std::collections::BTreeMap;

use limiter_core::Timestamp;

use super::scope::{Counted, LENGTHS, Scope, end_of, moved, reaches};
use super::slots::Slots;
use super::{Cost, EVER, PARALLEL, Wanted};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Level {
    pub(super) group: Option<usize>,
    pub(super) expires_at: Option<i64>,
    pub(super) thresholds: Vec<u8>,
    pub(super) budget: Option<u64>,
    pub(super) spent: u64,
    pub(super) fired: Vec<u8>,
    pub(super) scopes: [Option<Scope>; 2],
    pub(super) scopes_begun: u32,
    /// Of all calls and of the asset.
    pub(super) slots: [Slots; 2],
    /// The reservations of a level.
    pub(super) calls: BTreeMap<u8, Call>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) asset: bool,
    pub(super) cost: Cost,
    /// The windows that admitted it, by level.
    pub(super) admitted: Vec<Ids>,
    /// The slots that it holds, or held until they expired: the places of their levels, and their scopes.
    pub(super) slots: Vec<(usize, usize)>,
    pub(super) ended: bool,
}

/// Number, end and rebases of the windows of all calls and of the asset.
pub(super) type Ids = [[Option<(u32, i64, u32)>; 2]; 2];

/// A threshold of a level: scope, window and unit, percent, used, limit.
type Fired = ([usize; 3], u8, u64, u64);

impl Level {
    pub(super) fn created(wanted: &Wanted, group: Option<usize>, now: i64) -> Self {
        let mut level = Self {
            group,
            expires_at: wanted.expires_at.map(Timestamp::unix_ms),
            thresholds: wanted.thresholds.clone(),
            budget: wanted.budget,
            spent: 0,
            fired: Vec::new(),
            scopes: [None, None],
            scopes_begun: 0,
            slots: Default::default(),
            calls: BTreeMap::new(),
        };
        for (scope, limits) in [wanted.global, wanted.asset].into_iter().enumerate() {
            if wanted.lists(scope) {
                let mut counted = level.begun(now);
                for (window, limits) in counted.windows.iter_mut().zip(limits) {
                    window.limits = limits;
                }
                level.scopes[scope] = Some(counted);
            }
        }
        level.limit_slots(wanted);
        level
    }

    /// A scope that is counted from now on.
    fn begun(&mut self, now: i64) -> Scope {
        self.scopes_begun += 1;
        let windows = LENGTHS.map(|length| Counted {
            end: end_of(length, now),
            rebases: 0,
            used: [0; 2],
            credits: 0,
            limits: [None; 2],
            pending: None,
            fired: [Vec::new(), Vec::new()],
        });
        Scope { number: self.scopes_begun, listed: true, windows }
    }

    /// The scopes of a call, as a write at `now` stores them.
    fn met(&self, asset: bool, now: i64) -> Vec<(usize, Scope)> {
        let scopes = self.scopes.iter().enumerate().take(1 + usize::from(asset));
        scopes.filter_map(|(number, scope)| Some((number, scope.as_ref()?.as_of(now)?))).collect()
    }

    /// The parallel limits of a call with their scopes.
    pub(super) fn slots_met(&self, asset: bool) -> impl Iterator<Item = (usize, &Slots)> {
        let met = self.slots.iter().enumerate().take(1 + usize::from(asset));
        met.filter(|(_, slots)| slots.limit.is_some())
    }

    fn limit_slots(&mut self, wanted: &Wanted) {
        for (slots, limit) in self.slots.iter_mut().zip(wanted.parallel) {
            slots.limit = limit;
        }
    }

    pub(super) fn rules(&self, asset: bool, cost: Cost, now: i64) -> Vec<([usize; 3], u64, u64)> {
        let mut rules: Vec<_> =
            self.budget.map(|budget| ([0, EVER, 2], self.spent, budget)).into_iter().collect();
        for (scope, slots) in self.slots_met(asset).filter(|_| cost.slot) {
            rules.extend(slots.rule(now).map(|(held, limit)| ([scope, PARALLEL, 0], held, limit)));
        }
        for (scope, counted) in self.met(asset, now) {
            for (window, counted) in counted.windows.iter().enumerate() {
                for unit in [0, 1] {
                    let limit = counted.limits[unit];
                    rules.extend(
                        limit.map(|limit| ([scope, window, unit], counted.used[unit], limit)),
                    );
                }
            }
        }
        rules
    }

    pub(super) fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// The instants at which a call may fit again: the ends of its windows, and the expiries of slots.
    pub(super) fn instants(&self, asset: bool, cost: Cost, now: i64) -> Vec<i64> {
        let met = self.met(asset, now).into_iter();
        let ends = met.flat_map(|(_, scope)| scope.windows.map(|window| window.end));
        let slots = self.slots_met(asset).filter(|_| cost.slot);
        ends.chain(slots.filter_map(|(_, slots)| slots.frees_at(now))).collect()
    }

    /// The sum of all counts.
    pub(super) fn used(&self) -> u128 {
        let windows = self.scopes.iter().flatten().flat_map(|scope| &scope.windows);
        windows.flat_map(|window| window.used).map(u128::from).sum()
    }

    pub(super) fn rebased(&self, asset: bool, now: i64) -> Self {
        let mut level = self.clone();
        for scope in level.scopes.iter_mut().take(1 + usize::from(asset)).flatten() {
            for (window, length) in scope.windows.iter_mut().zip(LENGTHS) {
                window.rebase(length, now);
            }
        }
        level
    }

    fn write_met(&mut self, asset: bool, now: i64) {
        for scope in self.scopes.iter_mut().take(1 + usize::from(asset)) {
            *scope = scope.as_ref().and_then(|scope| scope.as_of(now));
        }
    }

    pub(super) fn ids(&self, asset: bool) -> Ids {
        [0, 1].map(|scope| {
            let counted = self.scopes[scope].as_ref().filter(|_| scope == 0 || asset);
            counted.map_or([None; 2], |counted| [0, 1].map(|window| counted.id(window)))
        })
    }

    pub(super) fn charge(&mut self, asset: bool, cost: Cost, now: i64) -> Vec<Fired> {
        self.write_met(asset, now);
        for scope in self.scopes.iter_mut().take(1 + usize::from(asset)).flatten() {
            for window in &mut scope.windows {
                for unit in [0, 1] {
                    window.used[unit] = moved(window.used[unit], cost.of(unit), 0);
                }
                window.credits = moved(window.credits, cost.credits, 0);
            }
        }
        self.spent = moved(self.spent, cost.credits, 0);
        self.fire(asset)
    }

    /// Corrects the cost of a call, in whose path this level has this place.
    pub(super) fn correct(
        &mut self,
        call: &Call,
        place: usize,
        actual: Cost,
        now: i64,
    ) -> Vec<Fired> {
        self.write_met(call.asset, now);
        for (number, scope) in self.scopes.iter_mut().enumerate().take(1 + usize::from(call.asset))
        {
            let Some(scope) = scope else { continue };
            for window in [0, 1] {
                let id = scope.id(window);
                let admitted = id.is_some() && call.admitted[place][number][window] == id;
                let counted = &mut scope.windows[window];
                for unit in [0, 1] {
                    let (was, is) = (call.cost.of(unit), actual.of(unit));
                    let refund = if admitted { was.saturating_sub(is) } else { 0 };
                    counted.used[unit] = moved(counted.used[unit], is.saturating_sub(was), refund);
                }
                let (was, is) = (call.cost.credits, actual.credits);
                let refund = if admitted { was.saturating_sub(is) } else { 0 };
                counted.credits = moved(counted.credits, is.saturating_sub(was), refund);
            }
        }
        let (was, is) = (call.cost.credits, actual.credits);
        self.spent = moved(self.spent, is.saturating_sub(was), was.saturating_sub(is));
        self.fire(call.asset)
    }

    /// Fires each threshold that is reached and has not fired in its window.
    fn fire(&mut self, asset: bool) -> Vec<Fired> {
        let mut fired_now = Vec::new();
        let thresholds = &self.thresholds;
        let mut fire = |rule, fired: &mut Vec<u8>, used, limit| {
            for percent in thresholds.iter().filter(|percent| reaches(used, limit, **percent)) {
                if !fired.contains(percent) {
                    fired.push(*percent);
                    fired_now.push((rule, *percent, used, limit.unwrap_or(0)));
                }
            }
        };
        for (number, scope) in self.scopes.iter_mut().enumerate().take(1 + usize::from(asset)) {
            let windows = scope.iter_mut().flat_map(|scope| &mut scope.windows);
            for (window, counted) in windows.enumerate() {
                for unit in [0, 1] {
                    let (used, limit) = (counted.used[unit], counted.limits[unit]);
                    fire([number, window, unit], &mut counted.fired[unit], used, limit);
                }
            }
        }
        fire([0, EVER, 2], &mut self.fired, self.spent, self.budget);
        fired_now
    }

    pub(super) fn change(&mut self, wanted: &Wanted, now: i64) {
        for (number, limits) in [wanted.global, wanted.asset].into_iter().enumerate() {
            let keeps = wanted.lists(number);
            self.scopes[number] = match self.scopes[number].take() {
                None if !keeps => None,
                None => {
                    let mut scope = self.begun(now);
                    scope.limit(limits, now);
                    Some(scope)
                }
                Some(scope) => scope.changed(limits, keeps, now),
            };
        }
        self.limit_slots(wanted);
        let rearms = self.thresholds != wanted.thresholds;
        let others = self.budget != wanted.budget;
        (self.thresholds, self.budget) = (wanted.thresholds.clone(), wanted.budget);
        self.expires_at = wanted.expires_at.map(Timestamp::unix_ms);
        // Other thresholds, or those of another limit, have fired if they are reached.
        let rearm = |fired: &mut Vec<u8>, used, limit| {
            let reached = |percent: &&u8| reaches(used, limit, **percent);
            *fired = wanted.thresholds.iter().filter(reached).copied().collect();
        };
        if rearms || others {
            rearm(&mut self.fired, self.spent, self.budget);
        }
        for window in self.scopes.iter_mut().flatten().flat_map(|scope| &mut scope.windows) {
            for unit in [0, 1] {
                if rearms {
                    rearm(&mut window.fired[unit], window.used[unit], window.limits[unit]);
                }
            }
        }
    }
}
