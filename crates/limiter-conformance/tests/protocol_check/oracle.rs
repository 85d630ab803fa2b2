//! The oracle: it replays the effects of operations, in the order in which the server did them. It shares no code with the
//! core: whole numbers, plain sums, a set of the thresholds that have fired in each window.

use std::fmt;

use limiter_core::{MAX_COUNT, Record, ScopeState, Stops, Thresholds, Timestamp, Unit, Window};

use crate::server::Snapshot;

/// The effect of an operation that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Check { asset: bool, cost: Cost },
    Reserve { id: u8, asset: bool, cost: Cost },
    Amend { id: u8, to: Cost },
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

/// A scope that is counted: its number, minute and day. The minute counts only while it has limits, in force or pending; the
/// day always, for its account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    number: u32,
    /// Whether it is counted without limits too.
    listed: bool,
    windows: [Counted; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counted {
    end: i64,
    rebases: u32,
    used: [u64; 2],
    credits: u64,
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

/// A threshold: scope, window and unit, percent, used, limit.
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
            Effect::Amend { id, to } => {
                let call =
                    self.key.as_ref().and_then(|key| key.call(*id)).filter(|call| !call.ended);
                let call = call.ok_or("an amendment of nothing")?;
                let added = to.beyond(call.cost);
                if added != Cost::default() {
                    allowed(self.decide(call.asset, added, now))?;
                }
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
            Effect::Amend { id, to } => {
                let call = key.call(*id).cloned().expect("the server has it");
                key.call_mut(*id).cost = *to;
                key.correct(&call, *to, ms, &mut fired);
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
        if let Some(damage) = &stored.damage {
            return Some(format!("corrupt: {damage}"));
        }
        let state = &stored.state;
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
        let budget = cells(state.global().record(), state.thresholds()).pop().map(|cell| cell.mark);
        compare(&mut differs, "fired thresholds of the budget", budget, Some(key.fired.len()));
        let thresholds = state.thresholds();
        let same = thresholds.percents().eq(key.thresholds.iter().copied());
        compare(&mut differs, "thresholds as configured", same, true);
        let mut assets = state.assets();
        let of_asset = assets.next().map(|(_, listed, scope)| (listed, scope));
        let stored = [Some((true, state.global())), of_asset];
        for ((stored, must), name) in stored.into_iter().zip(&key.scopes).zip(NAMES) {
            compare(&mut differs, name, stored.is_some(), must.is_some());
            let (Some((listed, scope)), Some(must)) = (stored, must) else { continue };
            compare(&mut differs, "listed", listed, must.listed);
            must.compare(scope, state.thresholds(), name, &mut differs);
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
            if scope == 0 || limits != NO_LIMITS {
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
            credits: 0,
            limits: [None; 2],
            pending: None,
            fired: [Vec::new(), Vec::new()],
        });
        Scope { number: self.scopes_begun, listed: true, windows }
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
        let mut rules: Vec<_> =
            self.budget.map(|budget| ([0, 2, 2], self.spent, budget)).into_iter().collect();
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
        rules.sort_unstable();
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
            rule[1] < 2 && !admits(*limit, *used, cost.of(rule[2]), cost.requests)
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
            counted.map_or([None; 2], |counted| [0, 1].map(|window| counted.id(window)))
        })
    }

    fn charge(&mut self, asset: bool, cost: Cost, now: i64, fired: &mut Vec<Fired>) {
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
        self.fire(asset, fired);
    }

    fn correct(&mut self, call: &Call, actual: Cost, now: i64, fired: &mut Vec<Fired>) {
        self.write_met(call.asset, now);
        for (number, scope) in self.scopes.iter_mut().enumerate().take(1 + usize::from(call.asset))
        {
            let Some(scope) = scope else { continue };
            for window in [0, 1] {
                let id = scope.id(window);
                let admitted = id.is_some() && call.admitted[number][window] == id;
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
        fire([0, 2, 2], &mut self.fired, self.spent, self.budget);
    }

    fn change(&mut self, wanted: &Wanted, now: i64) {
        for (number, limits) in [wanted.global, wanted.asset].into_iter().enumerate() {
            let keeps = number == 0 || limits != NO_LIMITS;
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

impl Scope {
    /// The identity of a window that is counted.
    fn id(&self, window: usize) -> Option<(u32, i64, u32)> {
        let counted = &self.windows[window];
        (window == 1 || counted.is_limited()).then_some((self.number, counted.end, counted.rebases))
    }

    /// The scope as it stands; `None` if neither limits are left nor the day in which it counted.
    fn as_of(&self, now: i64) -> Option<Self> {
        let scope = self.rolled(now);
        let day_ended = self.windows[1].end <= now;
        (scope.listed || !day_ended || scope.has_limits()).then_some(scope)
    }

    fn rolled(&self, now: i64) -> Self {
        let mut scope = self.clone();
        for (window, length) in scope.windows.iter_mut().zip(LENGTHS) {
            if window.end <= now {
                window.limits = window.pending.take().unwrap_or(window.limits);
                window.end = end_of(length, now);
                (window.used, window.credits, window.fired) = ([0; 2], 0, Default::default());
            }
            window.rebase(length, now);
        }
        scope
    }

    /// The scope after a change; `None` if it is over.
    fn changed(self, limits: Limits, keeps: bool, now: i64) -> Option<Self> {
        let day_ended = self.windows[1].end <= now;
        let is_over = !keeps && day_ended && !self.rolled(now).has_limits();
        let changes = self.configured() != limits;
        let mut scope = if changes || is_over { self.rolled(now) } else { self };
        if changes {
            scope.limit(limits, now);
        }
        scope.listed = keeps;
        (keeps || !day_ended || scope.has_limits()).then_some(scope)
    }

    /// Sets the limits from the next windows on.
    fn limit(&mut self, limits: Limits, now: i64) {
        for ((window, limits), length) in self.windows.iter_mut().zip(limits).zip(LENGTHS) {
            let begins = length == LENGTHS[0] && !window.is_limited();
            window.pending = (limits != window.limits).then_some(limits);
            if begins {
                (window.end, window.rebases) = (end_of(length, now), 0);
                (window.used, window.fired) = ([0; 2], Default::default());
            }
        }
    }

    fn configured(&self) -> Limits {
        self.windows.each_ref().map(|window| window.pending.unwrap_or(window.limits))
    }

    fn has_limits(&self) -> bool {
        self.windows.iter().any(Counted::is_limited)
    }

    /// Describes how a stored scope differs, if it does.
    fn compare(
        &self,
        scope: &ScopeState,
        thresholds: Thresholds,
        name: &str,
        differs: &mut String,
    ) {
        let record = scope.record();
        let cells = cells(record, thresholds);
        for (must, window) in self.windows.iter().zip([Window::Minute, Window::Day]) {
            let mut compare = |what: &str, is: &dyn fmt::Debug, must: &dyn fmt::Debug| {
                let (is, must) = (format!("{is:?}"), format!("{must:?}"));
                if is != must {
                    *differs +=
                        &format!("{what} of the {window} of {name}: {is}, must be {must}; ");
                }
            };
            let counts = record.windows().any(|counted| counted == window);
            compare("counted", &counts, &(window == Window::Day || must.is_limited()));
            if !counts {
                continue;
            }
            compare("end", &record.span(window).end.unix_ms(), &must.end);
            let limits = |of: &limiter_core::Limits| UNITS.map(|unit| of.get(window, unit));
            compare("limits", &limits(&record.limits()), &must.limits);
            compare("pending limits", &scope.pending(window).map(limits), &must.pending);
            for (at, unit) in UNITS.into_iter().enumerate() {
                let limited = cells
                    .iter()
                    .find(|cell| cell.is_limited && (cell.window, cell.unit) == (window, unit));
                if let Some(cell) = limited {
                    compare("used", &cell.used, &must.used[at]);
                    compare("fired thresholds", &cell.mark, &must.fired[at].len());
                }
            }
            if window == Window::Day {
                let account = record.account();
                let is =
                    (account.requests(), account.input_tokens(), account.credits().millionths());
                compare("account", &is, &(must.used[0], must.used[1], must.credits));
            }
        }
    }
}

/// What a stored cell has counted.
struct Cell {
    window: Window,
    unit: Unit,
    is_limited: bool,
    used: u64,
    mark: usize,
}

fn cells(record: &Record, thresholds: Thresholds) -> Vec<Cell> {
    let stored = record.stored();
    let cells = stored.windows.iter().flat_map(|window| &window.cells);
    let cell = |(counted, cell): (limiter_core::Counted, &limiter_core::Cell)| {
        let mark = usize::from(cell.mark);
        let stops = Stops::new(counted.limit, thresholds);
        let floor = stops.floors().get(mark).copied().unwrap_or(0);
        Cell {
            window: counted.window,
            unit: counted.unit,
            is_limited: counted.limit.is_some(),
            used: (stops.cap() - cell.value - floor).cast_unsigned(),
            mark,
        }
    };
    record.counted().zip(cells).map(cell).collect()
}

impl Counted {
    fn is_limited(&self) -> bool {
        self.pending.is_some() || self.limits != [None; 2]
    }

    /// Carries the counts into the current window, if this one is later than the next one.
    fn rebase(&mut self, length: i64, now: i64) {
        if length == LENGTHS[0] && !self.is_limited() {
            return;
        }
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
pub(crate) const NO_LIMITS: Limits = [[None; 2]; 2];
const UNITS: [Unit; 2] = [Unit::Requests, Unit::Tokens];
const NAMES: [&str; 2] = ["all calls", "the asset"];
