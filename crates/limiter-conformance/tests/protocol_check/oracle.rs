//! The oracle: it replays the effects of operations, in the order in which the server did them. It shares no code with the
//! core: whole numbers, plain sums, a set of the thresholds that have fired in each window.

use std::fmt;

use limiter_core::{CREDITS, MAX_COUNT, Timestamp, Window, WindowLimits};

use crate::server::Snapshot;

/// The effect of an operation that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Check { asset: bool, cost: Cost },
    Reserve { id: u8, asset: bool, cost: Cost },
    Extend { id: u8, to: Cost },
    End { id: u8, actual: Cost },
    Rebase { asset: bool },
    Change(Wanted),
    Create(Wanted),
    Delete,
}

/// The cost of a call, with its credits in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) credits: u64,
}

/// Requests and tokens of a minute, then of a day.
pub(crate) type Limits = [[Option<u64>; 2]; 2];

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) global: Limits,
    pub(crate) asset: Limits,
    pub(crate) budget: Option<u64>,
    pub(crate) thresholds: Vec<u8>,
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Oracle {
    key: Option<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    expires_at: Option<i64>,
    thresholds: Vec<u8>,
    budget: Option<u64>,
    spent: u64,
    fired: Vec<u8>,
    scopes: [Option<Scope>; 2],
    scopes_begun: u32,
    calls: Vec<(u8, Call)>,
}

/// A scope that is counted: its number, minute and day.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    number: u32,
    windows: [Counted; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counted {
    end: i64,
    rebases: u32,
    used: [u64; 2],
    limits: [Option<u64>; 2],
    pending: Option<[Option<u64>; 2]>,
    fired: [Vec<u8>; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    asset: bool,
    cost: Cost,
    /// Number, end and rebases of the windows that admitted it.
    admitted: [[Option<(u32, i64, u32)>; 2]; 2],
    ended: bool,
}

/// A threshold: scope, window and unit (2, 0, 0 for the budget), percent, used, limit.
pub(crate) type Fired = ([usize; 3], u8, u64, u64);

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    Allowed,
    Unknown,
    Expired,
    Budget,
    /// The rules that are violated with their counts, and when it would fit.
    Limited(Vec<([usize; 3], u64, u64)>, Option<i64>),
}

impl Oracle {
    pub(crate) fn decide(&self, asset: bool, cost: Cost, now: Timestamp) -> Decided {
        let Some(key) = &self.key else { return Decided::Unknown };
        let now = now.unix_ms();
        let decided = key.decide(asset, cost, now);
        let Decided::Limited(violated, _) = decided else { return decided };
        let rebased = key.rebased(asset, now);
        let met = rebased.met(asset, now);
        let mut ends: Vec<i64> =
            met.iter().flat_map(|(_, scope)| scope.windows.iter().map(|it| it.end)).collect();
        ends.sort_unstable();
        let fits = |end: &i64| rebased.decide(asset, cost, *end) == Decided::Allowed;
        Decided::Limited(violated, ends.into_iter().find(fits))
    }

    /// The rules that apply to a call, with their counts and limits.
    pub(crate) fn rules(&self, asset: bool, now: Timestamp) -> Vec<([usize; 3], u64, u64)> {
        self.key.as_ref().map_or_else(Vec::new, |key| key.rules(asset, now.unix_ms()))
    }

    /// The sum of all counts.
    pub(crate) fn used(&self) -> u128 {
        let scopes = self.key.iter().flat_map(|key| key.scopes.iter().flatten());
        let used = scopes.flat_map(|scope| &scope.windows).flat_map(|window| window.used);
        used.map(u128::from).sum()
    }

    /// Whether a window of the call's scopes is so far in the future that it must be rebased.
    pub(crate) fn is_ahead(&self, asset: bool, now: Timestamp) -> bool {
        self.key.as_ref().is_some_and(|key| key.rebased(asset, now.unix_ms()) != *key)
    }

    /// Applies the effect of an operation, if that is allowed. Returns the thresholds that fire.
    pub(crate) fn take_effect(
        &mut self,
        effect: &Effect,
        now: Timestamp,
    ) -> Result<Vec<Fired>, String> {
        let allowed = |decided| match decided {
            Decided::Allowed => Ok(()),
            denied => Err(format!("{effect:?} was admitted: {denied:?}")),
        };
        match effect {
            Effect::Check { asset, cost } | Effect::Reserve { asset, cost, .. } => {
                allowed(self.decide(*asset, *cost, now))?;
            }
            Effect::Extend { id, to } => {
                let call =
                    self.key.as_ref().and_then(|key| key.call(*id)).filter(|call| !call.ended);
                let call = call.ok_or("an extension of nothing")?;
                allowed(self.decide(call.asset, to.beyond(call.cost), now))?;
            }
            _ => {}
        }
        let ms = now.unix_ms();
        if let Effect::Create(wanted) = effect {
            return match self.key {
                Some(_) => Err("a key was created twice".to_owned()),
                None => {
                    self.key = Some(Key::created(wanted, ms));
                    Ok(Vec::new())
                }
            };
        }
        let key = self.key.as_mut().ok_or("an operation on no key")?;
        let mut fired = Vec::new();
        match effect {
            Effect::Create(_) => {}
            Effect::Delete => self.key = None,
            Effect::Check { asset, cost } => key.charge(*asset, *cost, ms, &mut fired),
            Effect::Reserve { id, asset, cost } => {
                key.charge(*asset, *cost, ms, &mut fired);
                if key.call(*id).is_some() {
                    return Err("a call was reserved twice".to_owned());
                }
                let call =
                    Call { asset: *asset, cost: *cost, admitted: key.ids(*asset), ended: false };
                key.calls.push((*id, call));
            }
            Effect::Extend { id, to } => {
                let call = key.call_mut(*id);
                let (asset, more) = (call.asset, to.beyond(call.cost));
                call.cost = *to;
                key.charge(asset, more, ms, &mut fired);
            }
            Effect::End { id, actual } => {
                let call = key.call_mut(*id);
                if std::mem::replace(&mut call.ended, true) {
                    return Err("a call ended twice".to_owned());
                }
                let call = call.clone();
                key.correct(&call, *actual, ms, &mut fired);
            }
            Effect::Rebase { asset } => *key = key.rebased(*asset, ms),
            Effect::Change(wanted) => key.change(wanted, ms),
        }
        fired.sort_unstable();
        Ok(fired)
    }

    /// Describes how the stored key differs from the oracle's, if it does.
    pub(crate) fn differs(&self, stored: Option<&Snapshot>) -> Option<String> {
        let (key, stored) = match (&self.key, stored) {
            (None, None) => return None,
            (Some(key), Some(stored)) => (key, stored),
            _ => return Some("there is a key, or there is none".to_owned()),
        };
        let state = match stored.state() {
            Ok(state) => state,
            Err(error) => return Some(format!("corrupt: {error}")),
        };
        let mut differs = String::new();
        let expires_at = state.expires_at().map(Timestamp::unix_ms);
        compare(&mut differs, "expiry", expires_at, key.expires_at);
        let credits = state.credits();
        compare(&mut differs, "spent", credits.spent.millionths(), key.spent);
        compare(
            &mut differs,
            "budget",
            credits.budget.map(|budget| budget.millionths()),
            key.budget,
        );
        let fired = usize::from(stored.hot.marks[CREDITS]);
        compare(&mut differs, "fired thresholds of the budget", fired, key.fired.len());
        let thresholds = state.thresholds();
        let same = thresholds.percents().eq(key.thresholds.iter().copied());
        compare(&mut differs, "thresholds as configured", same, true);
        for (scope, must) in key.scopes.iter().enumerate() {
            let is = if scope == 0 {
                state.global()
            } else {
                state.assets().next().map(|(_, scope)| scope)
            };
            compare(&mut differs, NAMES[scope], is.is_some(), must.is_some());
            let (Some(is), Some(must)) = (is, must) else { continue };
            for (at, window) in Window::ALL.into_iter().enumerate() {
                let (counts, must) = (is.counts(window), &must.windows[at]);
                let mut compare =
                    |what: &str, is: &dyn fmt::Debug, must: &dyn fmt::Debug, same: bool| {
                        if !same {
                            differs += &format!(
                                "{what} of the {window} of {}: {is:?}, must be {must:?}; ",
                                NAMES[scope]
                            );
                        }
                    };
                let end = counts.resets_at().unix_ms();
                compare("end", &end, &must.end, end == must.end);
                let used = [counts.requests().used(), counts.tokens().used()];
                compare("used", &used, &must.used, used == must.used);
                let limits = |it: WindowLimits| [it.requests(), it.tokens()];
                let in_force = limits(counts.limits());
                compare("limits", &in_force, &must.limits, in_force == must.limits);
                let pending = is.pending(window).map(limits);
                compare("pending limits", &pending, &must.pending, pending == must.pending);
                let marks = &is.record().marks()[2 * at..2 * at + 2];
                let fired = must.fired.each_ref().map(Vec::len);
                let same = marks.iter().map(|mark| usize::from(*mark)).eq(fired);
                compare("fired thresholds", &marks, &fired, same);
            }
        }
        (!differs.is_empty()).then_some(differs)
    }
}

fn compare<T: PartialEq + fmt::Debug>(differs: &mut String, what: &str, is: T, must: T) {
    if is != must {
        *differs += &format!("{what}: {is:?}, must be {must:?}; ");
    }
}

impl Key {
    fn created(wanted: &Wanted, now: i64) -> Self {
        let mut key = Self {
            expires_at: wanted.expires_at.map(Timestamp::unix_ms),
            thresholds: wanted.thresholds.clone(),
            budget: wanted.budget,
            spent: 0,
            fired: Vec::new(),
            scopes: [None, None],
            scopes_begun: 0,
            calls: Vec::new(),
        };
        for (scope, limits) in [wanted.global, wanted.asset].into_iter().enumerate() {
            if limits != NO_LIMITS {
                let mut counted = key.begun(now);
                for (window, limits) in counted.windows.iter_mut().zip(limits) {
                    window.limits = limits;
                }
                key.scopes[scope] = Some(counted);
            }
        }
        key
    }

    /// A scope that is counted from now on.
    fn begun(&mut self, now: i64) -> Scope {
        self.scopes_begun += 1;
        let windows = LENGTHS.map(|length| Counted {
            end: end_of(length, now),
            rebases: 0,
            used: [0; 2],
            limits: [None; 2],
            pending: None,
            fired: [Vec::new(), Vec::new()],
        });
        Scope { number: self.scopes_begun, windows }
    }

    fn call(&self, id: u8) -> Option<&Call> {
        self.calls.iter().find(|(other, _)| *other == id).map(|(_, call)| call)
    }

    fn call_mut(&mut self, id: u8) -> &mut Call {
        let call = self.calls.iter_mut().find(|(other, _)| *other == id);
        &mut call.expect("the server has it").1
    }

    /// The scopes of a call, as a write at `now` stores them.
    fn met(&self, asset: bool, now: i64) -> Vec<(usize, Scope)> {
        let scopes = self.scopes.iter().enumerate().take(1 + usize::from(asset));
        scopes.filter_map(|(number, scope)| Some((number, scope.as_ref()?.as_of(now)?))).collect()
    }

    fn rules(&self, asset: bool, now: i64) -> Vec<([usize; 3], u64, u64)> {
        let mut rules = Vec::new();
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

    fn decide(&self, asset: bool, cost: Cost, now: i64) -> Decided {
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Decided::Expired;
        }
        if self
            .budget
            .is_some_and(|budget| !admits(budget, self.spent, cost.credits, cost.requests))
        {
            return Decided::Budget;
        }
        let violated = |(rule, used, limit): &([usize; 3], u64, u64)| {
            !admits(*limit, *used, cost.of(rule[2]), cost.requests)
        };
        let violated: Vec<_> = self.rules(asset, now).into_iter().filter(violated).collect();
        if violated.is_empty() { Decided::Allowed } else { Decided::Limited(violated, None) }
    }

    fn rebased(&self, asset: bool, now: i64) -> Self {
        let mut key = self.clone();
        for scope in key.scopes.iter_mut().take(1 + usize::from(asset)).flatten() {
            for (window, length) in scope.windows.iter_mut().zip(LENGTHS) {
                window.rebase(length, now);
            }
        }
        key
    }

    fn write_met(&mut self, asset: bool, now: i64) {
        for scope in self.scopes.iter_mut().take(1 + usize::from(asset)) {
            *scope = scope.as_ref().and_then(|scope| scope.as_of(now));
        }
    }

    fn ids(&self, asset: bool) -> [[Option<(u32, i64, u32)>; 2]; 2] {
        [0, 1].map(|scope| {
            let counted = self.scopes[scope].as_ref().filter(|_| scope == 0 || asset);
            counted.map_or([None; 2], |counted| [0, 1].map(|window| Some(counted.id(window))))
        })
    }

    fn charge(&mut self, asset: bool, cost: Cost, now: i64, fired: &mut Vec<Fired>) {
        self.write_met(asset, now);
        for scope in self.scopes.iter_mut().take(1 + usize::from(asset)).flatten() {
            for window in &mut scope.windows {
                for unit in [0, 1] {
                    window.used[unit] = moved(window.used[unit], cost.of(unit), 0);
                }
            }
        }
        self.spent = moved(self.spent, cost.credits, 0);
        self.fire(asset, fired);
    }

    fn correct(&mut self, call: &Call, actual: Cost, now: i64, fired: &mut Vec<Fired>) {
        self.write_met(call.asset, now);
        for (number, scope) in self.scopes.iter_mut().enumerate().take(1 + usize::from(call.asset))
        {
            let Some(scope) = scope else { continue };
            for window in [0, 1] {
                let admitted = call.admitted[number][window] == Some(scope.id(window));
                let counted = &mut scope.windows[window];
                for unit in [0, 1] {
                    let (was, is) = (call.cost.of(unit), actual.of(unit));
                    let refund = if admitted { was.saturating_sub(is) } else { 0 };
                    counted.used[unit] = moved(counted.used[unit], is.saturating_sub(was), refund);
                }
            }
        }
        let (was, is) = (call.cost.credits, actual.credits);
        self.spent = moved(self.spent, is.saturating_sub(was), was.saturating_sub(is));
        self.fire(call.asset, fired);
    }

    /// Fires each threshold that is reached and has not fired in its window.
    fn fire(&mut self, asset: bool, fired_now: &mut Vec<Fired>) {
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
        fire([2, 0, 0], &mut self.fired, self.spent, self.budget);
    }

    fn change(&mut self, wanted: &Wanted, now: i64) {
        for (number, limits) in [wanted.global, wanted.asset].into_iter().enumerate() {
            self.scopes[number] = match self.scopes[number].take() {
                Some(scope) if scope.configured() == limits => Some(scope),
                None if limits == NO_LIMITS => None,
                scope => {
                    let current = scope.and_then(|scope| scope.as_of(now));
                    let mut scope = current.unwrap_or_else(|| self.begun(now));
                    for (window, limits) in scope.windows.iter_mut().zip(limits) {
                        window.pending = (limits != window.limits).then_some(limits);
                    }
                    scope.if_counted()
                }
            };
        }
        let others = self.budget != wanted.budget;
        (self.thresholds, self.budget) = (wanted.thresholds.clone(), wanted.budget);
        self.expires_at = wanted.expires_at.map(Timestamp::unix_ms);
        // A threshold that is passed already never fires; nor does one that is no higher than a fired one of the same limit.
        let passed = |fired: &mut Vec<u8>, used, limit, another: bool| {
            let highest = fired.iter().copied().max().filter(|_| !another).unwrap_or(0);
            let passes = |percent: &&u8| **percent <= highest || reaches(used, limit, **percent);
            *fired = wanted.thresholds.iter().filter(passes).copied().collect();
        };
        passed(&mut self.fired, self.spent, self.budget, others);
        for window in self.scopes.iter_mut().flatten().flat_map(|scope| &mut scope.windows) {
            for unit in [0, 1] {
                passed(&mut window.fired[unit], window.used[unit], window.limits[unit], false);
            }
        }
    }
}

impl Scope {
    fn id(&self, window: usize) -> (u32, i64, u32) {
        (self.number, self.windows[window].end, self.windows[window].rebases)
    }

    fn as_of(&self, now: i64) -> Option<Self> {
        let mut scope = self.clone();
        for (window, length) in scope.windows.iter_mut().zip(LENGTHS) {
            if window.end <= now {
                window.limits = window.pending.take().unwrap_or(window.limits);
                (window.end, window.used, window.fired) =
                    (end_of(length, now), [0; 2], Default::default());
            }
            window.rebase(length, now);
        }
        scope.if_counted()
    }

    fn configured(&self) -> Limits {
        self.windows.each_ref().map(|window| window.pending.unwrap_or(window.limits))
    }

    fn if_counted(self) -> Option<Self> {
        let counts = |window: &Counted| window.pending.is_some() || window.limits != [None; 2];
        self.windows.iter().any(counts).then_some(self)
    }
}

impl Counted {
    /// Carries the counts into the current window, if this one is later than the next one.
    fn rebase(&mut self, length: i64, now: i64) {
        if self.end - now > 2 * length {
            (self.end, self.rebases) = (end_of(length, now), self.rebases + 1);
        }
    }
}

impl Cost {
    pub(crate) fn of(self, unit: usize) -> u64 {
        if unit == 0 { self.requests } else { self.tokens }
    }

    /// The tokens and credits by which it exceeds another cost.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self {
            requests: 0,
            tokens: self.tokens.saturating_sub(other.tokens),
            credits: self.credits.saturating_sub(other.credits),
        }
    }
}

/// Whether a limit of which `used` is used admits `more`.
fn admits(limit: u64, used: u64, more: u64, requests: u64) -> bool {
    match (more, requests) {
        (0, 0) => true,
        (0, _) => used < limit,
        _ => used + more <= limit,
    }
}

fn reaches(used: u64, limit: Option<u64>, percent: u8) -> bool {
    limit.is_some_and(|limit| {
        limit > 0 && u128::from(used) * 100 >= u128::from(limit) * u128::from(percent)
    })
}

/// A count stays between nothing and the largest number.
fn moved(used: u64, more: u64, less: u64) -> u64 {
    (used + more).min(MAX_COUNT).saturating_sub(less)
}

fn end_of(length: i64, now: i64) -> i64 {
    now - now % length + length
}

/// Of a minute and of a day, in ms.
const LENGTHS: [i64; 2] = [60_000, 86_400_000];
const NO_LIMITS: Limits = [[None; 2]; 2];
const NAMES: [&str; 2] = ["all calls", "the asset"];
