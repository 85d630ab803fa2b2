//! Makes an [`Operation`] of a call, the known limits and the time: its conditions, and the amounts to take.
//!
//! The known state may be old: a remote store prepares from the state that it saw last, and an estimated time. The
//! operation contains the conditions that it relies on, so that one prepared from stale limits, windows or time is
//! refused, never wrong.

use smallvec::{SmallVec, smallvec};

use crate::charge::{Amount, Amounts, Charge};
use crate::clock::Timestamp;
use crate::crossing::Crossing;
use crate::limits::MAX_COUNT;
use crate::meter::{ANY, Take, least};
use crate::operation::{Guard, Operation, Step, Takes, Verdict, apply};
use crate::record::{Record, Span, WindowId, meters_of};
use crate::rule::Scope;
use crate::rules::Rules;
use crate::schedule::{Pending, ScopeState};
use crate::state::{KeyState, LocatedAsset};
use crate::window::{Step as Tick, Window};

/// An operation, and the limits after it.
#[derive(Clone, Debug)]
pub struct Prepared {
    operation: Operation,
    plan: Plan,
}

/// A scope as it stands at an instant, before anything is stored.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    pub(crate) record: Record,
    /// The limits that are still pending.
    pub(crate) pending: Pending,
    guards: [Guard; 2],
    /// The windows as they are stored.
    pub(crate) seen: [Span; 2],
    has_windows: bool,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    rebased: bool,
    /// Whether pending limits come into force.
    promoted: bool,
    /// Whether a window is still the one that admitted the call.
    admits: [bool; 2],
}

/// The windows that a call was charged to, by scope: `None` for windows that are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmittingWindows {
    /// Minute and day of the global scope.
    pub global: [Option<WindowId>; 2],
    /// Minute and day of the asset's scope.
    pub asset: [Option<WindowId>; 2],
}

/// The correction of a charge, in the windows that admitted it and in all others.
pub(crate) struct Settlement<'a> {
    pub(crate) admitted: &'a AdmittingWindows,
    pub(crate) charged: &'a Charge,
    pub(crate) actual: &'a Charge,
}

/// Prepares a check of calls that make a request, or of top-ups: each is charged in full or denied.
///
/// With `stops`, the operation reaches thresholds and limits exactly. Without, it is short, and a call that reaches a stop is
/// refused as one that does not fit.
#[must_use]
pub fn check(
    state: &KeyState,
    asset: LocatedAsset<'_>,
    charges: &[Charge],
    stops: bool,
    now: Timestamp,
) -> Prepared {
    let plan = Plan::at(state, asset, now);
    let calls = charges.iter().map(|charge| {
        let amounts = Amounts::of(charge);
        plan.takes(|record, meter, _| {
            let less = amounts.get(record.counts[meter]);
            // Without stops, a count without a limit must have room as well: one that is at the largest number, or would
            // pass it, is refused. So all meters of an amount need the same, which is what `take` compares.
            let limit = if stops { record.limits[meter] } else { MAX_COUNT };
            let least = least(limit, less, amounts.makes_request());
            Take { least, less }
        })
    });
    let calls = calls.collect();
    plan.prepared(calls, stops, now)
}

/// Prepares a charge that counts whether it fits or not.
#[must_use]
pub fn record(
    state: &KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Prepared {
    let plan = Plan::at(state, asset, now);
    let amounts = Amounts::of(charge);
    let call =
        plan.takes(|record, meter, _| Take { least: ANY, less: amounts.get(record.counts[meter]) });
    plan.prepared(smallvec![call], true, now)
}

/// Prepares the correction of a charge. A window that admitted it gets the count that `actual` would have given. Any
/// other window gets the excess of `actual` over it.
pub(crate) fn settle(
    state: &KeyState,
    asset: LocatedAsset<'_>,
    settlement: &Settlement<'_>,
    now: Timestamp,
) -> Prepared {
    let Settlement { admitted, charged, actual } = settlement;
    let (charged, actual) = (Amounts::of(charged), Amounts::of(actual));
    let (change, overrun) = (actual.less(&charged), actual.excess(&charged));
    let plan = Plan::fenced(state, asset, admitted, now);
    let call = plan.takes(|record, meter, admits| {
        let counts = record.counts[meter];
        let less = if admits || counts == Amount::Credits { change } else { overrun };
        Take { least: ANY, less: less.get(counts) }
    });
    plan.prepared(smallvec![call], true, now)
}

/// Prepares an operation that only rebases windows, after the clock was set right; `None` if there is nothing to
/// rebase.
#[must_use]
pub fn rebase(state: &KeyState, asset: LocatedAsset<'_>, now: Timestamp) -> Option<Prepared> {
    let none = &AdmittingWindows::NONE;
    let global = Staged::at(&state.global, &none.global, now, Rolls::Wait);
    let asset = state.asset(asset).map(|scope| Staged::at(scope, &none.asset, now, Rolls::Wait));
    let plan = Plan { global, asset, expires_at: None };
    let rebases = plan.scopes().any(|scope| scope.rebased);
    rebases.then(|| plan.prepared(SmallVec::new(), false, now))
}

/// The scopes of a call as they stand at an instant.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) global: Staged,
    pub(crate) asset: Option<Staged>,
    expires_at: Option<Timestamp>,
}

impl Plan {
    pub(crate) fn at(state: &KeyState, asset: LocatedAsset<'_>, now: Timestamp) -> Self {
        Self::fenced(state, asset, &AdmittingWindows::NONE, now)
    }

    /// Plans the correction of a call that these windows admitted. They are found again by their identity alone.
    fn fenced(
        state: &KeyState,
        asset: LocatedAsset<'_>,
        admitted: &AdmittingWindows,
        now: Timestamp,
    ) -> Self {
        Self {
            global: Staged::at(&state.global, &admitted.global, now, Rolls::Go),
            asset: state
                .asset(asset)
                .map(|scope| Staged::at(scope, &admitted.asset, now, Rolls::Go)),
            expires_at: state.expires_at,
        }
    }

    pub(crate) fn scopes(&self) -> impl Iterator<Item = &Staged> {
        std::iter::once(&self.global).chain(&self.asset)
    }

    /// Returns the amounts that a call takes from each record. `take` gets a record, a meter, and whether its window
    /// admitted the call.
    fn takes(&self, take: impl Fn(&Record, usize, bool) -> Take) -> SmallVec<[Takes; 2]> {
        let of_scope = |scope: &Staged| -> Takes {
            std::array::from_fn(|meter| {
                let admits = scope.admits(meter);
                take(&scope.record, meter, admits)
            })
        };
        self.scopes().map(of_scope).collect()
    }

    fn prepared(
        self,
        calls: SmallVec<[SmallVec<[Takes; 2]>; 1]>,
        stops: bool,
        now: Timestamp,
    ) -> Prepared {
        let (mut from, mut until) = (Timestamp::MIN, Timestamp::from_window_end(i64::MAX));
        match self.expires_at {
            Some(expires_at) if expires_at <= now => from = expires_at,
            Some(expires_at) => until = expires_at,
            None => {}
        }
        for scope in self.scopes() {
            (from, until) = (from.max(scope.from), until.min(scope.until));
        }
        let steps = self.scopes().map(|scope| scope.step(stops)).collect();
        let operation = Operation { from, until, steps, calls };
        Prepared { operation, plan: self }
    }
}

impl Prepared {
    /// Returns the operation.
    #[must_use]
    pub const fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Returns whether it drops the asset's scope, because its limits have ended.
    #[must_use]
    pub fn drops_asset(&self) -> bool {
        self.plan.asset.as_ref().is_some_and(Staged::is_over)
    }

    /// Returns whether the global scope counts windows afterwards, and whether the asset is counted before.
    #[must_use]
    pub fn scopes_counted(&self) -> [bool; 2] {
        let Plan { global, asset, .. } = &self.plan;
        [global.record.has_windows() && !global.is_over(), asset.is_some()]
    }

    /// Returns whether limits come into force, or end.
    #[must_use]
    pub fn changes_limits(&self) -> bool {
        self.plan.scopes().any(|scope| scope.promoted)
    }

    /// Applies the operation of at most one call to the state that it was prepared from. Returns the rules afterwards
    /// and the thresholds that the call was the first to reach, or `None` if it does not fit.
    pub fn commit(
        &self,
        state: &mut KeyState,
        asset: LocatedAsset<'_>,
        now: Timestamp,
    ) -> Option<Committed> {
        let mut records: SmallVec<[&mut Record; 2]> =
            state.scopes_mut(asset).map(|scope| &mut scope.record).collect();
        let verdict = apply(&mut records, &self.operation, now);
        drop(records);
        if !matches!(verdict, Verdict::Applied(_)) {
            return None;
        }
        self.put_in_force(state, asset);
        let committed = Committed::of(self, state, asset);
        self.drop_ended(state, asset);
        Some(committed)
    }

    /// Returns whether the operation would do all its calls on the state that it was prepared from.
    #[must_use]
    pub fn fits(&self, state: &KeyState, asset: LocatedAsset<'_>, now: Timestamp) -> bool {
        let mut records: SmallVec<[Record; 2]> = state.records_of(asset).copied().collect();
        let mut records: SmallVec<[&mut Record; 2]> = records.iter_mut().collect();
        let verdict = apply(&mut records, &self.operation, now);
        matches!(verdict, Verdict::Applied(done) if done.iter().all(|done| *done))
    }

    /// Stores the limits that have come into force, as [`commit`](Self::commit) does, but no counts.
    pub fn put_limits(&self, state: &mut KeyState, asset: LocatedAsset<'_>) {
        self.put_in_force(state, asset);
        self.drop_ended(state, asset);
    }

    fn put_in_force(&self, state: &mut KeyState, asset: LocatedAsset<'_>) {
        for (scope, staged) in state.scopes_mut(asset).zip(self.plan.scopes()) {
            scope.record.limits = staged.record.limits;
            scope.record.counts = staged.record.counts;
            scope.set_pending(staged.pending);
        }
    }

    fn drop_ended(&self, state: &mut KeyState, asset: LocatedAsset<'_>) {
        if self.plan.global.is_over() {
            state.global.end();
        }
        if self.drops_asset() {
            state.drop_asset(asset);
        }
    }
}

/// The result of an operation.
#[derive(Clone, Debug)]
pub struct Committed {
    pub(crate) rules: Rules,
    /// The thresholds that it was the first to reach, in the order of the rules.
    pub crossed: Vec<Crossing>,
}

impl Committed {
    fn of(prepared: &Prepared, state: &KeyState, asset: LocatedAsset<'_>) -> Self {
        let before = prepared.plan.scopes().map(|scope| &scope.record);
        let after = state.scopes(asset).map(|scope| &scope.record);
        let mut crossed = Vec::new();
        for (scope, (before, after)) in
            [Scope::Global, Scope::Asset].into_iter().zip(before.zip(after))
        {
            let asset = asset.id.filter(|_| scope == Scope::Asset);
            Crossing::between(scope, asset, before, after, &mut crossed);
        }
        // The crossings of the rules by their order, then those of the budget.
        crossed.sort_by_key(|crossing| crossing.rule.is_none());
        Self { rules: state.rules(asset), crossed }
    }
}

/// Whether windows that have ended are replaced by current ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rolls {
    Go,
    Wait,
}

impl Staged {
    pub(crate) fn at(
        scope: &ScopeState,
        admitted: &[Option<WindowId>; 2],
        now: Timestamp,
        rolls: Rolls,
    ) -> Self {
        let mut staged = Self::unmoved(scope);
        if !staged.record.has_windows() {
            return staged;
        }
        for (window, admitted) in Window::ALL.into_iter().zip(admitted) {
            let seen = staged.record.span(window);
            match window.step(seen.end, now) {
                Tick::Stays => {
                    staged.move_to(window, Guard::Same(seen, seen), seen, window.stay(seen.end));
                }
                Tick::Rolls(_) if rolls == Rolls::Wait => {}
                Tick::Rolls(end) => staged.roll(window, end, admitted.as_ref()),
                Tick::Rebased(end) => {
                    let next = Span { end, rebases: seen.rebases.wrapping_add(1) };
                    let valid = (window.start(end), end);
                    staged.move_to(window, Guard::Same(seen, next), next, valid);
                    staged.rebased = true;
                }
            }
        }
        for (window, admitted) in Window::ALL.into_iter().zip(admitted) {
            staged.admits[window.place()] = *admitted == Some(staged.record.id(window));
        }
        staged
    }

    /// Returns the scope as it is stored, at any time.
    pub(crate) fn unmoved(scope: &ScopeState) -> Self {
        let record = scope.record;
        Self {
            record,
            pending: scope.pending_limits(),
            guards: [Guard::Keep; 2],
            seen: Window::ALL.map(|window| record.span(window)),
            has_windows: record.has_windows(),
            from: Timestamp::MIN,
            until: Timestamp::from_window_end(i64::MAX),
            rebased: false,
            promoted: false,
            admits: [false; 2],
        }
    }

    fn roll(&mut self, window: Window, end: Timestamp, admitted: Option<&WindowId>) {
        let pending = self.pending[window.place()].take();
        self.promoted |= pending.is_some();
        let limits = pending.unwrap_or_else(|| self.record.window_limits(window));
        self.record.set_window_limits(window, limits);
        let rolled = Span { end, ..self.record.span(window) };
        let valid = (window.start(end), end);
        match admitted {
            // The known state may be older than the call. Then the window must be the one that admitted it, or the
            // operation is tried again. A window that was rebased since is a different one.
            Some(id)
                if id.generation == self.record.generation
                    && id.span.end == end
                    && id.span.rebases.wrapping_sub(rolled.rebases) < 128 =>
            {
                self.move_to(window, Guard::Same(id.span, id.span), id.span, valid);
            }
            _ => self.move_to(window, Guard::Roll(end), rolled, valid),
        }
    }

    fn move_to(&mut self, window: Window, guard: Guard, span: Span, valid: (Timestamp, Timestamp)) {
        self.guards[window.place()] = guard;
        self.record.set_span(window, span);
        self.is_valid_in(valid);
    }

    pub(crate) fn is_valid_in(&mut self, (from, until): (Timestamp, Timestamp)) {
        (self.from, self.until) = (self.from.max(from), self.until.min(until));
    }

    /// Returns whether the windows are not counted any more, since the limits of the scope have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.record.has_windows()
            && self.pending == Pending::default()
            && Window::ALL.into_iter().all(|window| self.record.window_limits(window).is_none())
    }

    /// Returns the ends of its windows.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let (ends, has_windows) = (self.record.ends, self.has_windows);
        ends.into_iter().filter(move |_| has_windows)
    }

    fn admits(&self, meter: usize) -> bool {
        Window::ALL
            .into_iter()
            .any(|window| self.admits[window.place()] && meters_of(window).contains(&meter))
    }

    pub(crate) fn step(&self, stops: bool) -> Step {
        let mut step = Step {
            generations: [self.record.generation; 2],
            guards: self.guards,
            start: self.record.values,
            has_windows: self.has_windows,
            counts: self.record.counts,
            ladders: stops.then(|| self.record.ladders()),
        };
        if self.is_over() && self.record.has_credits() {
            step.end(self.seen);
        }
        step
    }
}

impl ScopeState {
    /// Returns the scope as it stands at `now`, or `None` when its limits have ended by then.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Option<Self> {
        let staged = Staged::at(self, &[None; 2], now, Rolls::Go);
        let mut scope = self.clone();
        scope.record = staged.record;
        scope.set_pending(staged.pending);
        (scope.record.has_windows() && !scope.is_over()).then_some(scope)
    }
}

impl AdmittingWindows {
    /// No window that can be found again.
    pub const NONE: Self = Self { global: [None; 2], asset: [None; 2] };

    /// Returns the windows that are stored right after the call was charged.
    pub(crate) fn of(state: &KeyState, asset: LocatedAsset<'_>) -> Self {
        let ids = |scope: Option<&ScopeState>| match scope {
            Some(scope) if scope.record.has_windows() => {
                Window::ALL.map(|window| Some(scope.record.id(window)))
            }
            _ => [None; 2],
        };
        Self { global: ids(Some(&state.global)), asset: ids(state.asset(asset)) }
    }
}
