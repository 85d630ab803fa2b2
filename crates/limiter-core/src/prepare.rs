//! Makes an [`Operation`] of a call, the known limits and the time: its conditions, and the amounts to take.
//!
//! The known state may be old: a remote store prepares from the state that it saw last, and an estimated time. The
//! operation contains the conditions that it relies on, so that one prepared from stale limits, windows or time is
//! refused, never wrong.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::crossing::{CrossedIn, Crossing};
use crate::history::ClosedDay;
use crate::levels::{LevelPlace, LevelSet, Levels, LevelsMut};
use crate::limits::MAX_COUNT;
use crate::meter::{ANY, Take, least};
use crate::names::AssetId;
use crate::operation::{
    CellStep, Guard, Operation, Origin, Step, Takes, Verdict, WindowStep, apply,
};
use crate::record::{Counted, Record, Span, Stored};
use crate::rule::Scope;
use crate::rules::Rules;
use crate::schedule::{Pending, ScopeState};
use crate::state::{KeyState, Place};
use crate::window::{NEVER, Step as Tick, Window};
use crate::zone::TimeZone;

/// An operation, and the limits after it.
#[derive(Clone, Debug)]
pub struct Prepared {
    operation: Operation,
    plan: Plan,
}

/// A scope as it stands at an instant, before anything is stored.
#[derive(Clone, Debug)]
pub(crate) struct Staged {
    /// With its windows moved, and the limits that have come into force.
    pub(crate) record: Record,
    /// The limits that are still pending.
    pub(crate) pending: Pending,
    /// The windows as they are stored, and what becomes of each.
    pub(crate) windows: SmallVec<[StagedWindow; 3]>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) now: Timestamp,
    generation: u32,
    rebased: bool,
    /// Whether pending limits come into force.
    promoted: bool,
    /// Whether the day of the stored record has ended.
    day_ended: bool,
}

/// A stored window, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedWindow {
    pub(crate) window: Window,
    pub(crate) seen: Span,
    pub(crate) guard: Guard,
    /// The number of its cells.
    pub(crate) cells: usize,
}

/// The windows that a call was charged to, by scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Admission(SmallVec<[AdmittedScope; 2]>);

/// The windows of one scope of a level that a call was charged to. By them a reservation finds a window again, and never another one:
/// after a rebase or a reset every earlier window is closed, and a new counting of the scope is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmittedScope {
    /// The level, from the outermost, which is 0.
    pub level: usize,
    /// Which scope it is.
    pub scope: Scope,
    /// The generation of its record.
    pub generation: u32,
    /// The number of changes of its limits that had taken effect at once.
    pub changes: u32,
    /// Its windows.
    pub windows: SmallVec<[(Window, Span); 3]>,
}

/// The correction of a charge, in the windows that admitted it and in all others.
pub(crate) struct Correction<'a> {
    pub(crate) admission: &'a Admission,
    pub(crate) charged: &'a Charge,
    pub(crate) actual: &'a Charge,
    /// Whether what it adds must fit, as in an amendment.
    pub(crate) must_fit: bool,
}

/// Prepares a check of calls that make a request, or of top-ups: each is charged in full or denied. A level in shadow denies
/// none, and is not charged where it would.
///
/// With `stops`, the operation reaches thresholds and limits exactly. Without, it is short: a call that reaches a stop, or that a
/// level in shadow would deny, is refused as one that does not fit.
#[must_use]
pub fn check(levels: &Levels<'_>, charges: &[Charge], stops: bool, now: Timestamp) -> Prepared {
    let plan = Plan::at(levels, now);
    let denying = levels.denying();
    let calls = charges.iter().map(|charge| {
        let amounts = Amounts::of(charge);
        plan.takes(|(at, _), counted| {
            let less = amounts.get(counted.unit);
            if denying.contains(at.level) {
                return Take { least: NEVER_LEFT, less };
            }
            // Without stops, a count without a limit must have room as well: one that is at the largest number, or would
            // pass it, is refused. So all counts of a unit need the same, which is what `take` compares.
            let limit = if stops { counted.limit } else { Some(MAX_COUNT) };
            Take { least: least(limit, less, amounts.makes_request()), less }
        })
    });
    let calls = calls.collect();
    // Without stops, a call that does not fit may only reach one: then no level can be left out.
    let soft = if stops { levels.in_shadow() } else { LevelSet::NONE };
    plan.prepared(calls, stops, soft)
}

/// Prepares the charge of a grant, which is not more than a part of what is left of any rule up to its next stop.
#[must_use]
pub(crate) fn grant(
    levels: &Levels<'_>,
    charge: &Charge,
    part: NonZeroU32,
    now: Timestamp,
) -> Prepared {
    let plan = Plan::at(levels, now);
    let amounts = Amounts::of(charge);
    let call = plan.takes(|_, counted| {
        let less = amounts.get(counted.unit);
        // A call that makes a request needs one unit left also where it adds nothing.
        Take { least: less.saturating_mul(part.get().into()).max(1), less }
    });
    plan.prepared(smallvec![call], false, LevelSet::NONE)
}

/// Prepares a charge that counts whether it fits or not, on all levels but these.
#[must_use]
pub fn record(levels: &Levels<'_>, charge: &Charge, but: LevelSet, now: Timestamp) -> Prepared {
    let plan = Plan::at(levels, now);
    let amounts = Amounts::of(charge);
    let call = plan.takes(|(at, _), counted| {
        let counts = !but.contains(at.level);
        Take { least: ANY, less: if counts { amounts.get(counted.unit) } else { 0 } }
    });
    plan.prepared(smallvec![call], true, LevelSet::NONE)
}

/// Prepares the correction of a charge. A window that admitted it gets the count that `actual` would have given. Any
/// other window gets the excess of `actual` over it.
pub(crate) fn correct(
    levels: &Levels<'_>,
    correction: &Correction<'_>,
    now: Timestamp,
) -> Prepared {
    let Correction { admission, charged, actual, must_fit } = correction;
    let (charged, actual) = (Amounts::of(charged), Amounts::of(actual));
    let (change, overrun) = (actual.less(&charged), actual.excess(&charged));
    let plan = Plan::fenced(levels, admission, now);
    let call = plan.takes(|(at, scope), counted| {
        let admitted = admission.of(at.level, at.place.scope());
        let admits = admitted.is_some_and(|it| it.counted(scope_at(levels, *at), scope, counted));
        let less = if admits { change } else { overrun }.get(counted.unit);
        let must = *must_fit && less.is_positive() && plan.meets(*at);
        Take { least: if must { least(counted.limit, less, false) } else { ANY }, less }
    });
    plan.prepared(smallvec![call], true, LevelSet::NONE)
}

/// Prepares an operation that only rebases windows, after the clock was set right; `None` if there is nothing to
/// rebase.
#[must_use]
pub fn rebase(levels: &Levels<'_>, now: Timestamp) -> Option<Prepared> {
    let plan = Plan::of(levels, &Admission::default(), now, Rolls::Wait);
    let rebases = plan.scopes().any(|scope| scope.rebased);
    rebases.then(|| plan.prepared(SmallVec::new(), false, LevelSet::NONE))
}

fn scope_at<'a>(levels: &Levels<'a>, at: LevelPlace) -> Option<&'a ScopeState> {
    levels.states.get(at.level)?.scope_at(at.place)
}

/// The scopes of a call as they stand at an instant.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// By level, the outermost first.
    scopes: SmallVec<[(LevelPlace, Staged); 2]>,
    /// The levels whose other assets the call meets now. Of another level, their scope is here because it had admitted the call.
    meets_other: LevelSet,
    /// The time in which this is the plan, as far as its scopes do not say: while those that are left out have no limits, and
    /// each level is as expired as now.
    valid: (Timestamp, Timestamp),
}

impl Plan {
    pub(crate) fn at(levels: &Levels<'_>, now: Timestamp) -> Self {
        Self::fenced(levels, &Admission::default(), now)
    }

    /// Plans the correction of a call that these windows admitted. They are found again by their identity alone.
    fn fenced(levels: &Levels<'_>, admission: &Admission, now: Timestamp) -> Self {
        Self::of(levels, admission, now, Rolls::Go)
    }

    fn of(levels: &Levels<'_>, admission: &Admission, now: Timestamp, rolls: Rolls) -> Self {
        let (scopes, meets_other) = (SmallVec::new(), LevelSet::NONE);
        let mut plan = Self { scopes, meets_other, valid: (Timestamp::MIN, NEVER) };
        for (level, state) in levels.states.iter().enumerate() {
            plan.add(level, state, levels.asset, admission, now, rolls);
        }
        plan
    }

    /// Adds the scopes of a level that the call meets.
    fn add(
        &mut self,
        level: usize,
        state: &KeyState,
        asset: Option<&AssetId>,
        admission: &Admission,
        now: Timestamp,
        rolls: Rolls,
    ) {
        match state.expires_at() {
            Some(expires_at) if expires_at <= now => self.is_valid_in((expires_at, NEVER)),
            Some(expires_at) => self.is_valid_in((Timestamp::MIN, expires_at)),
            None => {}
        }
        let (zone, asset) = (state.time_zone(), state.locate(asset));
        let mut joins_other = asset.is_other();
        for place in [Place::Global].into_iter().chain(asset.place()) {
            let Some(scope) = state.scope_at(place) else { continue };
            let admitted = admission.of(level, place.scope());
            let staged = Staged::at(scope, admitted, now, zone, rolls);
            if place != Place::Global {
                let moved;
                let current = match rolls {
                    Rolls::Go => &staged,
                    Rolls::Wait => {
                        moved = Staged::at(scope, admitted, now, zone, Rolls::Go);
                        &moved
                    }
                };
                // One that ends here is closed, and counts its asset no more.
                let is_dropped = current.is_over(state) && !state.is_kept(place);
                joins_other |= current.joins_other() || is_dropped;
            }
            self.scopes.push((LevelPlace { level, place }, staged));
        }
        if joins_other {
            self.meets_other = self.meets_other.with(level);
        }
        let admitted = admission.of(level, Scope::Other);
        if let Some(other) =
            state.scope_at(Place::Other).filter(|_| joins_other || admitted.is_some())
        {
            let staged = Staged::at(other, admitted, now, zone, rolls);
            if staged.has_limits() || admitted.is_some() && !staged.is_over(state) {
                self.scopes.push((LevelPlace { level, place: Place::Other }, staged));
            } else {
                self.is_valid_in((staged.from, staged.until));
            }
        }
    }

    fn is_valid_in(&mut self, (from, until): (Timestamp, Timestamp)) {
        self.valid = (self.valid.0.max(from), self.valid.1.min(until));
    }

    /// Returns whether the call meets a scope now.
    fn meets(&self, at: LevelPlace) -> bool {
        at.place != Place::Other || self.meets_other.contains(at.level)
    }

    pub(crate) fn scopes(&self) -> impl Iterator<Item = &Staged> {
        self.scopes.iter().map(|(_, staged)| staged)
    }

    /// Returns the ends of the windows of these levels.
    pub(crate) fn ends(&self, of: LevelSet) -> impl Iterator<Item = Timestamp> {
        let scopes = self.scopes.iter().filter(move |(at, _)| of.contains(at.level));
        scopes.flat_map(|(_, staged)| staged.ends())
    }

    /// Returns the rules of these levels, as they stand.
    pub(crate) fn rules(&self, levels: &Levels<'_>, of: LevelSet) -> Rules {
        let scopes = self.scopes.iter().filter(|(at, _)| of.contains(at.level));
        Rules::of(levels, scopes.map(|(at, staged)| (at.level, at.place.scope(), &staged.record)))
    }

    /// Returns the amounts that a call takes from each record.
    fn takes(&self, take: impl Fn(&(LevelPlace, Staged), Counted) -> Take) -> SmallVec<[Takes; 2]> {
        let of_scope = |scope: &(LevelPlace, Staged)| -> Takes {
            scope.1.record.counted().map(|counted| take(scope, counted)).collect()
        };
        self.scopes.iter().map(of_scope).collect()
    }

    fn prepared(
        self,
        calls: SmallVec<[SmallVec<[Takes; 2]>; 1]>,
        stops: bool,
        soft: LevelSet,
    ) -> Prepared {
        let (mut from, mut until) = self.valid;
        for scope in self.scopes() {
            (from, until) = (from.max(scope.from), until.min(scope.until));
        }
        let steps = self.scopes.iter();
        let steps = steps.map(|(at, scope)| Step { level: at.level, ..scope.step(stops) });
        let operation = Operation { from, until, steps: steps.collect(), soft, calls };
        Prepared { operation, plan: self }
    }
}

impl Prepared {
    /// Returns the operation.
    #[must_use]
    pub const fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Returns the scopes of the records of the operation, in their order: those of the outermost level first.
    pub fn places(&self) -> impl Iterator<Item = LevelPlace> {
        self.plan.scopes.iter().map(|(at, _)| *at)
    }

    /// Returns the scopes that it drops, because their limits and their day have ended.
    pub fn dropped(&self, levels: &Levels<'_>) -> impl Iterator<Item = LevelPlace> + use<> {
        let over = |(at, staged): &(LevelPlace, Staged)| {
            let state = levels.states.get(at.level)?;
            (staged.is_over(state) && !state.is_kept(at.place)).then_some(*at)
        };
        self.plan.scopes.iter().filter_map(over).collect::<SmallVec<[LevelPlace; 2]>>().into_iter()
    }

    /// Returns whether limits come into force, or end.
    #[must_use]
    pub fn changes_limits(&self) -> bool {
        self.plan.scopes().any(|scope| scope.promoted)
    }

    /// Applies the operation of at most one call to the states that it was prepared from. Returns the rules afterwards
    /// and the thresholds that the call was the first to reach, or `None` if it does not fit.
    pub fn commit(&self, levels: &mut LevelsMut<'_>, now: Timestamp) -> Option<Committed> {
        let (mut records, mut closed) = (self.records(&levels.as_ref()), Vec::new());
        if !matches!(apply(&mut records, &self.operation, now, &mut closed), Verdict::Applied(_)) {
            return None;
        }
        let mut crossed = Vec::new();
        for ((at, staged), stored) in self.plan.scopes.iter().zip(&records) {
            let group = levels.as_ref().group(at.level);
            let Some(state) = levels.states.get_mut(at.level) else { continue };
            let after = staged.record.with_numbers(stored, state.time_zone());
            let asset = levels.asset.filter(|_| matches!(at.place, Place::Asset(_)));
            let of = CrossedIn { group: group.as_ref(), scope: at.place.scope(), asset };
            Crossing::between(of, &staged.record, &after, &mut crossed);
            state.put(at.place, after, staged);
        }
        for day in &closed {
            if let Some((at, _)) = self.plan.scopes.get(day.record)
                && let Some(state) = levels.states.get_mut(at.level)
            {
                let row = ClosedDay::of(day, state.id_at(at.place));
                state.close(row, now);
            }
        }
        let (rules, dropped) = {
            let after = levels.as_ref();
            let places = self.places().filter(|at| self.plan.meets(*at));
            let rules = places
                .filter_map(|at| Some((at.level, at.place.scope(), &scope_at(&after, at)?.record)));
            (Rules::of(&after, rules), self.dropped(&after))
        };
        drop_all(levels, dropped);
        Some(Committed { rules, crossed })
    }

    /// Returns whether the operation would do all its calls, on all levels, on the states that it was prepared from.
    #[must_use]
    pub fn fits(&self, levels: &Levels<'_>, now: Timestamp) -> bool {
        let verdict = apply(&mut self.records(levels), &self.operation, now, &mut Vec::new());
        let is_whole = |done: &Option<LevelSet>| *done == Some(LevelSet::NONE);
        matches!(verdict, Verdict::Applied(done) if done.iter().all(is_whole))
    }

    /// Returns the levels of the states that it was prepared from in which its one call does not fit.
    pub(crate) fn short(&self, levels: &Levels<'_>, now: Timestamp) -> LevelSet {
        let operation = Operation { soft: LevelSet::ALL, ..self.operation.clone() };
        match apply(&mut self.records(levels), &operation, now, &mut Vec::new()) {
            Verdict::Applied(done) => done.first().copied().flatten().unwrap_or(LevelSet::NONE),
            _ => LevelSet::ALL,
        }
    }

    /// Stores the limits that have come into force, as [`commit`](Self::commit) does, but no counts.
    pub fn put_limits(&self, levels: &mut LevelsMut<'_>) {
        let dropped = self.dropped(&levels.as_ref());
        for (at, staged) in &self.plan.scopes {
            if let Some(state) = levels.states.get_mut(at.level) {
                state.put(at.place, staged.record.clone(), staged);
            }
        }
        drop_all(levels, dropped);
    }

    fn records(&self, levels: &Levels<'_>) -> SmallVec<[Stored; 2]> {
        self.places().filter_map(|at| Some(scope_at(levels, at)?.record.stored())).collect()
    }
}

fn drop_all(levels: &mut LevelsMut<'_>, dropped: impl Iterator<Item = LevelPlace>) {
    let dropped: SmallVec<[LevelPlace; 2]> = dropped.collect();
    for at in dropped.into_iter().rev() {
        if let Some(state) = levels.states.get_mut(at.level) {
            state.drop_scope(at.place);
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

/// Whether windows that have ended are replaced by current ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rolls {
    Go,
    Wait,
}

impl Staged {
    pub(crate) fn at(
        scope: &ScopeState,
        admitted: Option<&AdmittedScope>,
        now: Timestamp,
        zone: &TimeZone,
        rolls: Rolls,
    ) -> Self {
        let mut staged = Self::unmoved(scope, now);
        for place in 0..staged.windows.len() {
            let StagedWindow { window, seen, .. } = staged.windows[place];
            match window.step(seen.end, now, zone) {
                Tick::Stays if window.ends() => {
                    staged.guard(place, Guard::Same(seen, seen), seen, window.stay(seen.end, zone));
                }
                Tick::Stays => {}
                Tick::Rolls(_) if rolls == Rolls::Wait => {}
                Tick::Rolls(end) => {
                    // After a change of the zone a window may begin in the middle of one that is stored, which goes on first.
                    let valid = (window.start(end, zone).max(seen.end), end);
                    staged.roll(place, end, valid, admitted);
                }
                Tick::Rebased(end) => {
                    let next = Span { end, rebases: seen.rebases.wrapping_add(1) };
                    let valid = (window.start(end, zone), end);
                    staged.guard(place, Guard::Same(seen, next), next, valid);
                    staged.rebased = true;
                }
            }
        }
        staged.record.note_time(zone);
        staged
    }

    /// Returns a record whose windows are rebased if the clock was set right, and otherwise as stored.
    pub(crate) fn rebased(scope: &ScopeState, now: Timestamp, zone: &TimeZone) -> Record {
        Self::at(scope, None, now, zone, Rolls::Wait).record
    }

    /// Returns the scope as it is stored, at any time.
    pub(crate) fn unmoved(scope: &ScopeState, now: Timestamp) -> Self {
        let record = scope.record.clone();
        let windows = record.windows().map(|window| {
            let seen = record.span(window);
            let guard = if window.ends() { Guard::Same(seen, seen) } else { Guard::Keep };
            StagedWindow { window, seen, guard, cells: record.counted_in(window).count() }
        });
        Self {
            windows: windows.collect(),
            pending: scope.all_pending().into(),
            from: Timestamp::MIN,
            until: NEVER,
            now,
            generation: record.generation,
            rebased: false,
            promoted: false,
            day_ended: false,
            record,
        }
    }

    fn roll(
        &mut self,
        place: usize,
        end: Timestamp,
        valid: (Timestamp, Timestamp),
        admitted: Option<&AdmittedScope>,
    ) {
        let StagedWindow { window, seen, .. } = self.windows[place];
        self.day_ended |= window == Window::Day;
        let rolled = Span { end, ..seen };
        self.record.clear(window);
        if let Some(pending) = self.pending.iter().position(|(of, _)| *of == window) {
            let (_, limits) = self.pending.remove(pending);
            self.promoted = true;
            self.record.set_limits(window, &limits);
            let is_counted = self.record.is_counted(window);
            let guard = if is_counted { Guard::Anew(seen, rolled) } else { Guard::End(seen) };
            return self.guard(place, guard, rolled, valid);
        }
        // The known state may be older than the call. Then the window must be the one that admitted it, or the
        // operation is tried again. A window that was rebased since is a different one.
        let admitting = admitted.filter(|it| it.generation == self.generation);
        let admitting = admitting
            .and_then(|it| it.span(window))
            .filter(|span| span.end == end && span.rebases.wrapping_sub(rolled.rebases) < 128);
        match admitting {
            Some(span) => self.guard(place, Guard::Same(span, span), span, valid),
            None => self.guard(place, Guard::Roll(end), rolled, valid),
        }
    }

    fn guard(&mut self, place: usize, guard: Guard, span: Span, valid: (Timestamp, Timestamp)) {
        self.windows[place].guard = guard;
        self.record.set_span(self.windows[place].window, span);
        self.is_valid_in(valid);
    }

    pub(crate) fn is_valid_in(&mut self, (from, until): (Timestamp, Timestamp)) {
        (self.from, self.until) = (self.from.max(from), self.until.min(until));
    }

    /// Returns whether neither limits are left nor, in a state that has an account, the day in which it counted.
    pub(crate) fn is_over(&self, of: &KeyState) -> bool {
        (self.day_ended || !of.is_registered()) && !self.has_limits()
    }

    pub(crate) fn has_limits(&self) -> bool {
        self.record.has_limits() || !self.pending.is_empty()
    }

    fn joins_other(&self) -> bool {
        !self.record.has_limits() && self.pending.iter().any(|(_, limits)| !limits.is_none())
    }

    /// Returns the ends of its windows.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        let windows = self.record.windows().filter(|window| window.ends());
        windows.map(|window| self.record.span(window).end)
    }

    /// Returns the step that moves its windows and leaves its stops as they are.
    pub(crate) fn step(&self, stops: bool) -> Step {
        let windows = self.windows.iter().map(|of| {
            let counted = self.record.counted_in(of.window);
            let ladders = self.record.ladders_in(of.window);
            let cells = counted.zip(ladders).enumerate().map(|(place, (counted, ladder))| {
                CellStep { unit: counted.unit, origin: Origin::Kept(place), ladder }
            });
            WindowStep {
                window: of.window,
                guard: of.guard,
                before: of.cells,
                cells: if matches!(of.guard, Guard::End(_)) {
                    SmallVec::new()
                } else {
                    cells.collect()
                },
            }
        });
        Step { level: 0, generation: self.generation, windows: windows.collect(), stops }
    }
}

impl ScopeState {
    /// Returns the scope as it stands at `now`; its day may have ended.
    #[must_use]
    pub fn at(&self, now: Timestamp, zone: &TimeZone) -> Self {
        let staged = Staged::at(self, None, now, zone, Rolls::Go);
        let mut scope = self.clone();
        scope.record = staged.record;
        scope.set_pending(staged.pending);
        scope
    }
}

impl Admission {
    /// Creates an admission from its stored parts.
    pub fn new(scopes: impl IntoIterator<Item = AdmittedScope>) -> Self {
        Self(scopes.into_iter().collect())
    }

    /// Returns the windows that are stored right after the call was charged, on all levels but these.
    pub(crate) fn after(levels: &Levels<'_>, but: LevelSet, now: Timestamp) -> Self {
        let states = levels.states.iter().enumerate().filter(|(level, _)| !but.contains(*level));
        let scopes = states.flat_map(|(level, state)| {
            let met = state.met(state.locate(levels.asset));
            met.filter_map(move |place| AdmittedScope::after(level, state, place, now))
        });
        Self(scopes.collect())
    }

    /// Returns the ends of its windows.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().flat_map(|scope| scope.windows.iter().map(|(_, span)| span.end))
    }

    /// Returns the scopes.
    #[must_use]
    pub fn scopes(&self) -> &[AdmittedScope] {
        &self.0
    }

    fn of(&self, level: usize, scope: Scope) -> Option<&AdmittedScope> {
        self.0.iter().find(|admitted| (admitted.level, admitted.scope) == (level, scope))
    }
}

impl AdmittedScope {
    fn after(level: usize, state: &KeyState, place: Place, now: Timestamp) -> Option<Self> {
        let scope = state.scope_at(place)?;
        // Other assets whose limits have ended are not met, and their windows stay as they were.
        if place == Place::Other && !scope.at(now, state.time_zone()).has_limits() {
            return None;
        }
        let record = &scope.record;
        Some(Self {
            level,
            scope: place.scope(),
            generation: record.generation,
            changes: scope.changes(),
            windows: record.windows().map(|window| (window, record.span(window))).collect(),
        })
    }

    fn span(&self, window: Window) -> Option<Span> {
        self.windows.iter().find(|(of, _)| *of == window).map(|(_, span)| *span)
    }

    /// Returns whether a cell has counted the call, in a window that goes on.
    fn counted(&self, scope: Option<&ScopeState>, staged: &Staged, counted: Counted) -> bool {
        let Counted { window, unit, limit } = counted;
        let since = scope.into_iter().flat_map(ScopeState::since);
        let since = since.filter(|(of, by, _)| (*of, *by) == (window, unit) && limit.is_some());
        self.generation == staged.generation
            && self.span(window) == Some(staged.record.span(window))
            && since.map(|(.., change)| *change).max().unwrap_or(0) <= self.changes
    }
}

/// More than any meter has, and exact in a script.
const NEVER_LEFT: i64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Effective, KeyConfig, KeyKind, Other};
    use crate::limits::Limits;
    use crate::names::AssetId;
    use crate::thresholds::Thresholds;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(NOON.unix_ms() + ms)
    }

    fn per_minute(requests: u64) -> Limits {
        Limits::builder().requests_per_minute(requests).build().unwrap()
    }

    fn config() -> KeyConfig {
        KeyConfig::named("ci").unwrap().with_global(per_minute(10))
    }

    fn state(config: &KeyConfig) -> KeyState {
        KeyState::new(KeyKind::Member, config, Thresholds::NONE, NOON)
    }

    fn checked(state: &KeyState, asset: Option<&AssetId>, now: Timestamp) -> Prepared {
        check(&Levels::of_key(&key(), asset, state), &[Charge::request()], true, now)
    }

    fn key() -> crate::names::KeyId {
        "ci".parse().unwrap()
    }

    fn places_of(prepared: &Prepared) -> Vec<Place> {
        prepared.places().map(|at| at.place).collect()
    }

    fn times(prepared: &Prepared) -> (i64, i64) {
        let ms = |time: Timestamp| time.unix_ms() - NOON.unix_ms();
        (ms(prepared.operation().from), ms(prepared.operation().until))
    }

    fn asset() -> AssetId {
        "m1".parse().unwrap()
    }

    #[test]
    fn an_operation_is_valid_while_its_windows_go_on_and_the_key_is_as_expired_as_now() {
        let minutes = state(&config());
        // Also in the window before: a small step back re-opens none.
        assert_eq!(times(&checked(&minutes, None, at(1))), (-60_000, 60_000));
        assert_eq!(times(&checked(&minutes, None, at(60_000))), (60_000, 120_000));
        let expiring = state(&config().with_expiry(at(30_000)));
        assert_eq!(times(&checked(&expiring, None, at(29_999))), (-60_000, 30_000));
        assert_eq!(times(&checked(&expiring, None, at(30_000))), (30_000, 60_000));
    }

    /// The day of St. John's had begun before: by a clock that was ahead by no more than that, a client once ended the day of UTC
    /// when hours of it were left.
    #[cfg(feature = "time-zones")]
    #[test]
    fn the_first_window_of_another_zone_begins_when_the_stored_one_ends() {
        const HOUR: i64 = 3_600_000;
        let day = config().with_global(Limits::builder().requests_per_day(9).build().unwrap());
        let mut state = state(&day);
        let west = day.with_time_zone("America/St_Johns".parse().unwrap());
        state.configure(&west, Thresholds::NONE, Effective::Next, NOON).unwrap();
        assert_eq!(times(&checked(&state, None, at(0))).1, 12 * HOUR);
        assert_eq!(times(&checked(&state, None, at(13 * HOUR))), (12 * HOUR, 14 * HOUR + HOUR / 2));
    }

    /// At an earlier time the call would meet other assets.
    #[test]
    fn an_operation_that_leaves_other_assets_out_is_valid_while_they_have_no_limits() {
        let config = config().with_global(Limits::NONE);
        let mut state = state(&config.clone().with_other(per_minute(1)));
        state.configure(&config, Thresholds::NONE, Effective::Next, NOON).unwrap();
        let places = |now| {
            let prepared = checked(&state, Some(&asset()), now);
            (places_of(&prepared), times(&prepared))
        };
        assert_eq!(places(at(1)).0, [Place::Global, Place::Other]);
        assert_eq!(places(at(60_000)), (vec![Place::Global], (60_000, 120_000)));
    }

    #[test]
    fn an_asset_meets_other_assets_until_its_first_limit_and_when_it_is_counted_no_more() {
        const DAY: i64 = 24 * 3_600_000;
        let other = config().with_other(per_minute(1));
        let with = |limits: &Limits| other.clone().with_asset(asset(), limits.clone());
        let in_month = Limits::builder().requests_per_month(5).build().unwrap();
        let in_minute_and_month =
            Limits::builder().requests_per_minute(5).requests_per_month(5).build().unwrap();
        let meets_other = |first: &KeyConfig, next: &KeyConfig, now| {
            let mut state = state(first);
            state.configure(next, Thresholds::NONE, Effective::Next, NOON).unwrap();
            places_of(&checked(&state, Some(&asset()), at(now))).contains(&Place::Other)
        };
        let none = with(&Limits::NONE);
        for (story, first, next, now, expected) in [
            ("listed, not limited", &none, &none, DAY, false),
            ("its first limit comes next month", &none, &with(&in_month), DAY, true),
            ("one of two limits ends", &with(&in_minute_and_month), &with(&in_month), 0, false),
            ("its limit ends", &with(&in_month), &none, DAY, false),
            ("no longer listed, still limited", &with(&in_month), &other, DAY, false),
            ("no longer listed, in its last day", &none, &other, 0, false),
            ("no longer listed, after its last day", &none, &other, DAY, true),
        ] {
            assert_eq!(meets_other(first, next, now), expected, "{story}");
        }
    }

    /// Other assets count on until the end of the day in which their limits ended.
    #[test]
    fn a_call_that_other_assets_admitted_is_corrected_there_until_their_day_ends() {
        const DAY: i64 = 24 * 3_600_000;
        let mut state = state(&config().with_other(per_minute(10)));
        let (key, id) = (key(), asset());
        let admitted = |asset: Option<&AssetId>, state: &KeyState| {
            Admission::after(&Levels::of_key(&key, asset, state), LevelSet::NONE, NOON)
        };
        let admission = admitted(Some(&id), &state);
        state.configure(&config(), Thresholds::NONE, Effective::Next, NOON).unwrap();
        let charge = Charge::request();
        let places = |admission: &Admission, now| {
            let correction =
                Correction { admission, charged: &charge, actual: &charge, must_fit: false };
            let levels = Levels::of_key(&key, Some(&id), &state);
            places_of(&correct(&levels, &correction, at(now)))
        };
        let both = [Place::Global, Place::Other];
        assert_eq!(places(&admission, 0), both);
        assert_eq!(places(&admission, 60_000), both, "its limits have ended");
        assert_eq!(places(&admission, DAY), [Place::Global], "its day has ended");
        let elsewhere = admitted(None, &state);
        assert_eq!(places(&elsewhere, 60_000), [Place::Global]);
    }

    /// An amendment must fit where the call is met now, and counts elsewhere.
    #[test]
    fn only_what_an_amendment_adds_must_fit_and_only_where_its_call_is_met() {
        let config = config().with_other(per_minute(10));
        let state = state(&config);
        let (key, id) = (key(), asset());
        let admission =
            Admission::after(&Levels::of_key(&key, Some(&id), &state), LevelSet::NONE, NOON);
        let least = |state: &KeyState, must_fit, actual: u64| {
            let levels = Levels::of_key(&key, Some(&id), state);
            let charged = Charge::request().with_requests(5).unwrap();
            let actual = Charge::request().with_requests(actual).unwrap();
            let correction =
                Correction { admission: &admission, charged: &charged, actual: &actual, must_fit };
            let prepared = correct(&levels, &correction, NOON);
            let call = &prepared.operation().calls[0];
            call.iter().map(|takes| takes[0].least).collect::<Vec<_>>()
        };
        assert_eq!(least(&state, true, 8), [3, 3]);
        assert_eq!(least(&state, true, 5), [ANY, ANY], "it adds nothing");
        assert_eq!(least(&state, true, 4), [ANY, ANY], "it hands back");
        assert_eq!(least(&state, false, 8), [ANY, ANY], "a settlement never fails");
        let mut listed = state;
        let listing = config.with_asset(asset(), Limits::NONE);
        listed.configure(&listing, Thresholds::NONE, Effective::Next, NOON).unwrap();
        assert_eq!(least(&listed, true, 8), [3, ANY, ANY], "it meets no other assets now");
    }

    #[test]
    fn limits_that_come_into_force_are_put_without_any_count() {
        let mut state = state(&config());
        let prepared = checked(&state, None, NOON);
        let key = key();
        prepared.commit(&mut LevelsMut::of_key(&key, None, &mut state), NOON).unwrap();
        state
            .configure(
                &config().with_global(per_minute(5)),
                Thresholds::NONE,
                Effective::Next,
                NOON,
            )
            .unwrap();
        assert!(!checked(&state, None, at(1)).changes_limits());
        let prepared = checked(&state, None, at(60_000));
        assert!(prepared.changes_limits());
        prepared.put_limits(&mut LevelsMut::of_key(&key, None, &mut state));
        assert_eq!(state.global().record().limits(), per_minute(5));
        assert_eq!(state.global().record().account().requests(), 1);
        let minute = state.global().record().meter(Window::Minute, crate::rule::Unit::Requests);
        assert_eq!(minute.map(|meter| meter.value), Some(5), "nothing is used");
    }

    /// The known windows may be older than the call.
    #[test]
    fn a_window_that_has_ended_is_that_of_the_call_if_this_is_not_older() {
        let state = state(&config());
        let seen = state.global().record().span(Window::Minute);
        let correction = |span: Span| {
            let windows = smallvec![(Window::Minute, span)];
            let (scope, generation) = (Scope::Global, state.global().record().generation());
            let admission = Admission::new([AdmittedScope {
                level: 0,
                scope,
                generation,
                changes: 0,
                windows,
            }]);
            let charge = Charge::request();
            let correction = Correction {
                admission: &admission,
                charged: &charge,
                actual: &charge,
                must_fit: false,
            };
            let key = key();
            let prepared = correct(&Levels::of_key(&key, None, &state), &correction, at(60_000));
            prepared.operation().steps[0].windows[0].guard
        };
        let next = Span { end: at(120_000), ..seen };
        let rebased = Span { rebases: seen.rebases.wrapping_add(127), ..next };
        let rolls = Guard::Roll(next.end);
        assert_eq!(correction(next), Guard::Same(next, next));
        assert_eq!(correction(rebased), Guard::Same(rebased, rebased));
        // By the number of rebases, modulo 256, it was another window that was closed by a rebase.
        assert_eq!(correction(Span { rebases: seen.rebases.wrapping_add(128), ..next }), rolls);
        assert_eq!(correction(Span { rebases: seen.rebases.wrapping_sub(1), ..next }), rolls);
        assert_eq!(correction(seen), rolls);
    }

    #[test]
    fn a_call_fits_unless_a_level_is_short_or_denies_the_asset() {
        let (key, asset) = ("acme/ci".parse().unwrap(), asset());
        let [none, one] = [0, 1].map(|limit| state(&config().with_global(per_minute(limit))));
        let denying = state(&config().with_other(Other::Denied));
        for (group, own, short) in [
            (&one, &one, LevelSet::NONE),
            (&one, &none, LevelSet::NONE.with(1)),
            (&none, &one, LevelSet::NONE.with(0)),
            (&denying, &one, LevelSet::NONE.with(0)),
        ] {
            let levels = Levels::new(&key, Some(&asset), [group, own]);
            let prepared = check(&levels, &[Charge::request()], true, NOON);
            assert_eq!(prepared.short(&levels, NOON), short);
            assert_eq!(prepared.fits(&levels, NOON), short.is_empty(), "{short:?}");
        }
    }

    #[test]
    fn a_window_that_never_ends_is_not_compared() {
        let state = state(&config().with_budget("5".parse().unwrap()));
        let prepared = checked(&state, None, NOON);
        let guards = prepared.operation().steps[0].windows.iter();
        let never = guards.filter(|step| matches!(step.guard, Guard::Keep));
        assert_eq!(never.map(|step| step.window).collect::<Vec<_>>(), [Window::Ever]);
    }

    #[test]
    fn an_admission_has_the_windows_of_each_scope_that_was_met() {
        let daily = Limits::builder().requests_per_day(9).build().unwrap();
        let state = state(&config().with_asset(asset(), daily));
        let (key, asset) = (key(), asset());
        let levels = Levels::of_key(&key, Some(&asset), &state);
        let admission = Admission::after(&levels, LevelSet::NONE, NOON);
        let ends: Vec<_> = admission.ends().filter(|end| *end < at(12 * 3_600_000)).collect();
        assert_eq!(ends, [at(60_000)]);
        let days = admission.ends().filter(|end| *end == at(12 * 3_600_000));
        assert_eq!(days.count(), 2, "of all calls and of the asset");
    }

    #[test]
    fn a_denial_far_behind_rebases_and_one_in_time_does_not() {
        let state = state(&config());
        let key = key();
        let rebases = |now| rebase(&Levels::of_key(&key, None, &state), now).is_some();
        assert!(!rebases(NOON) && !rebases(at(60_000)) && !rebases(at(-60_000)));
        assert!(rebases(at(-60_001)));
    }
}
