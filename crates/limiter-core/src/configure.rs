//! Changes of a key's configuration, and resets of what it has used.

use smallvec::{SmallVec, smallvec};

use crate::clock::Timestamp;
use crate::config::{Effective, KeyConfig, Other};
use crate::crossing::Crossing;
use crate::error::InvalidValue;
use crate::history::ClosedDay;
use crate::levels::LevelSet;
use crate::limits::Limits;
use crate::meter::{ANY, Ladder, STOPS, Stops, Take};
use crate::operation::{CellStep, Guard, Operation, Origin, Step, Takes, WindowStep, apply};
use crate::plan::{self, StoredPlan, TakenPlan};
use crate::prepare::{Rolls, Staged};
use crate::record::{ACCOUNT, Counted, Record, Span};
use crate::rule::Unit;
use crate::schedule::{Pending, ScopeState, Since};
use crate::state::{AssetState, KeyState, Place, ScopeId};
use crate::thresholds::Thresholds;
use crate::window::{NEVER, Window};
use crate::zone::TimeZone;

/// A change of a key: the operation on the records that it concerns, and the state afterwards.
#[derive(Clone, Debug)]
pub struct Change {
    /// The operation on the records of [`scopes`](Self::scopes).
    pub operation: Operation,
    /// The scopes whose records change: the global one first, always, then assets, then other assets.
    pub scopes: Vec<ScopeId>,
    /// The scopes that are not counted any more.
    pub dropped: Vec<ScopeId>,
    /// The state that the change leads to, if no call comes between.
    pub after: KeyState,
    /// The thresholds that the change itself reaches, if no call comes between.
    pub crossed: Vec<Crossing>,
}

/// The new configuration of one scope.
struct Wanted<'a> {
    limits: &'a Limits,
    /// Whether the scope is counted without limits too.
    keeps: bool,
    thresholds: Thresholds,
    effective: Effective,
    /// Whether the windows stay as they stand: a window that has ended takes the limits when it is next written.
    stays: bool,
    /// Whether a limit of the day that is new at once starts at what the account of the day has counted.
    has_account: bool,
    /// The zone of the key from now on, if it is another.
    zone: Option<&'a TimeZone>,
    now: Timestamp,
}

impl KeyState {
    /// Changes the configuration: see [`change`](Self::change). Returns whether anything changed, and the thresholds that
    /// the change itself reached.
    ///
    /// # Errors
    /// As [`change`](Self::change); then nothing was changed.
    pub fn configure(
        &mut self,
        config: &KeyConfig,
        thresholds: Thresholds,
        effective: Effective,
        now: Timestamp,
    ) -> Result<(bool, Vec<Crossing>), InvalidValue> {
        let Change { after, crossed, .. } = self.change(config, thresholds, effective, now)?;
        let differs = *self != after;
        *self = after;
        Ok((differs, crossed))
    }

    /// Prepares a change of the configuration. Limits change at the next window of their kind, or at once; those for ever,
    /// and all else, at once. `thresholds` are those of the limiter, for a key without thresholds of its own.
    ///
    /// An asset that is not in the configuration loses its limits.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] if more than [`Self::MAX_COUNTED_ASSETS`] scopes would be counted.
    pub fn change(
        &self,
        config: &KeyConfig,
        thresholds: Thresholds,
        effective: Effective,
        now: Timestamp,
    ) -> Result<Change, InvalidValue> {
        self.change_with(config, None, thresholds, effective, now)
    }

    /// Prepares a change of the configuration of a key that has this plan from now on, or none.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub fn change_with(
        &self,
        own: &KeyConfig,
        plan: Option<&StoredPlan>,
        thresholds: Thresholds,
        effective: Effective,
        now: Timestamp,
    ) -> Result<Change, InvalidValue> {
        let config = plan::in_force(own, plan);
        let thresholds = plan.map_or(thresholds, |plan| plan.thresholds);
        let change = self.change_to(&config, thresholds, effective, false, now)?;
        Ok(change.with_plan(self, plan, now))
    }

    /// Returns whether the key has this plan, but has not taken this version yet. An unregistered key has the plan with which
    /// its group is open now, whichever it has taken before.
    #[must_use]
    pub fn is_behind(&self, plan: &StoredPlan) -> bool {
        let is_other = |taken: &TakenPlan| !self.is_registered() && taken.name != plan.name;
        self.plan().is_some_and(|taken| taken.is_behind(plan) || is_other(taken))
    }

    /// Prepares the change to the latest version of its plan; `own` is its configuration. A window takes the plan as it is at
    /// the first step in it: one that has ended is not moved, so that the next one has the limits from its start. Changes that
    /// come at once do so. An unregistered key that [begins anew](Self::begins_anew) has no operation: its records are others.
    #[must_use]
    pub fn take(&self, own: &KeyConfig, plan: &StoredPlan, now: Timestamp) -> Change {
        if self.begins_anew(now) {
            return Change { after: self.begun_anew(plan, now), ..Change::none(self) };
        }
        let is_other = self.plan().is_some_and(|taken| taken.name != plan.name);
        let taken = self.plan().filter(|taken| taken.created_at == plan.created_at);
        let taken = taken.map_or(0, |taken| taken.version);
        let is_at_once = !is_other && plan.at_once > taken;
        let effective = if is_at_once { Effective::Now } else { Effective::Next };
        let (config, stays) = (plan::in_force(own, Some(plan)), effective == Effective::Next);
        let change = self.change_to(&config, plan.thresholds, effective, stays, now);
        // With more assets than it can count it keeps the limits that it has.
        let change = change.unwrap_or_else(|_| Change::none(self));
        change.with_plan(self, Some(plan), now)
    }

    fn change_to(
        &self,
        config: &KeyConfig,
        thresholds: Thresholds,
        effective: Effective,
        stays: bool,
        now: Timestamp,
    ) -> Result<Change, InvalidValue> {
        let mut change = Change::none(self);
        if self.is_configured(config, thresholds, effective, now) {
            return Ok(change);
        }
        change.after.set_expiry(config.expires_at);
        change.after.shadow = config.shadow;
        change.after.denies_other = config.other == Other::Denied;
        change.after.own_thresholds = config.thresholds.is_some();
        change.after.zone = config.time_zone.clone();
        change.after.set_opens(config.open.clone());
        change.after = change.after.with_parallel_limits(config.parallel_limits());
        let none = Limits::NONE;
        let wanted = |limits, keeps| Wanted {
            limits,
            keeps,
            thresholds: config.thresholds.unwrap_or(thresholds),
            effective,
            stays,
            has_account: self.is_registered(),
            zone: (config.time_zone != self.zone).then_some(&config.time_zone),
            now,
        };
        change.scope(self, Place::Global, &wanted(&config.global, true));
        for (position, asset) in self.assets.iter().enumerate() {
            let limits = config.assets.get(&asset.id);
            change.scope(
                self,
                Place::Asset(position),
                &wanted(limits.unwrap_or(&none), limits.is_some()),
            );
            if let Some(after) = change.after.assets.get_mut(position) {
                after.listed = limits.is_some();
            }
        }
        let of_other = match &config.other {
            Other::Limited(limits) => limits,
            Other::Denied => &none,
        };
        match self.other {
            Some(_) => change.scope(self, Place::Other, &wanted(of_other, false)),
            None if !of_other.amounts().is_empty() => {
                let scope = change.begun(&wanted(of_other, false));
                change.after.other = Some(Box::new(scope));
            }
            None => {}
        }
        for (id, limits) in &config.assets {
            if let Err(position) = change.after.search(id) {
                let scope = change.begun(&wanted(limits, true));
                let asset = AssetState { id: id.clone(), listed: true, scope };
                change.after.assets.insert(position, asset);
            }
        }
        change.drop_ended(self);
        let (count, max) = (change.after.assets.len(), Self::MAX_COUNTED_ASSETS);
        if count > max {
            return Err(InvalidValue::TooManyAssets { count, max });
        }
        Ok(change)
    }

    /// Returns whether a change to this configuration would change nothing, not even what is pending.
    fn is_configured(
        &self,
        config: &KeyConfig,
        thresholds: Thresholds,
        effective: Effective,
        now: Timestamp,
    ) -> bool {
        let (global, assets, other) = self.configured();
        let is_pending = |scope: &ScopeState| !scope.at(now, &self.zone).all_pending().is_empty();
        (global, assets, other)
            == (config.global.clone(), config.assets.clone(), config.other.clone())
            && (self.expires_at(), self.shadow) == (config.expires_at, config.shadow)
            && self.opens() == config.open.as_ref()
            && self.zone == config.time_zone
            && self.own_thresholds == config.thresholds.is_some()
            && self.thresholds() == config.thresholds.unwrap_or(thresholds)
            && (effective == Effective::Next
                || !self.every_scope().any(|(_, scope)| is_pending(scope)))
    }

    /// Sets what is used to zero in all windows that end: see [`reset_change`](Self::reset_change).
    pub fn reset(&mut self, now: Timestamp) {
        *self = self.reset_change(now).after;
    }

    /// Prepares a reset: all windows that end begin again, with nothing used. What the day had counted stays in the day's row
    /// of the history. Reservations find the windows closed that had admitted them.
    #[must_use]
    pub fn reset_change(&self, now: Timestamp) -> Change {
        let mut change = Change::none(self);
        for place in self.places() {
            let Some(scope) = self.scope_at(place) else { continue };
            let mut staged = Staged::at(scope, None, now, &self.zone, Rolls::Go);
            for of in &mut staged.windows {
                let next = staged.record.span(of.window);
                let next = Span { rebases: next.rebases.wrapping_add(1), ..next };
                if of.window.ends() && staged.record.is_counted(of.window) {
                    of.guard = Guard::Anew(of.seen, next);
                    staged.record.set_span(of.window, next);
                    staged.record.clear(of.window);
                }
            }
            let step = staged.step(false);
            let takes = step.cells().map(|_| Take { least: ANY, less: 0 }).collect();
            change.put(self, place, &staged, step, takes, staged.record.clone());
        }
        change.drop_ended(self);
        change
    }
}

impl Change {
    fn none(before: &KeyState) -> Self {
        let operation = Operation {
            from: Timestamp::MIN,
            until: NEVER,
            steps: SmallVec::new(),
            soft: LevelSet::NONE,
            // One call: it moves what changes at once.
            calls: smallvec![SmallVec::new()],
        };
        let after = before.clone();
        Self { operation, scopes: Vec::new(), dropped: Vec::new(), after, crossed: Vec::new() }
    }

    /// Sets the plan of the key. A change of the plan alone is a change of the global record too: a process that has
    /// the old record at hand must see that it is stale.
    fn with_plan(mut self, before: &KeyState, plan: Option<&StoredPlan>, now: Timestamp) -> Self {
        self.after.set_plan(plan.map(StoredPlan::taken));
        if self.scopes.is_empty() && self.after.plan() != before.plan() {
            let staged = Staged::unmoved(&before.global, now);
            let (step, takes) = staged.step_to(&staged.record, before.is_registered());
            self.put(before, Place::Global, &staged, step, takes, staged.record.clone());
        }
        self
    }

    /// Changes one scope that is counted.
    fn scope(&mut self, state: &KeyState, place: Place, wanted: &Wanted<'_>) {
        let Some(before) = state.scope_at(place) else { return };
        let differ = |limits: Limits| limits.amounts() != wanted.limits.amounts();
        let limits_change = differ(before.configured())
            || wanted.effective == Effective::Now
                && differ(before.at(wanted.now, &state.zone).record.limits());
        let rearms = before.record.thresholds != wanted.thresholds;
        let moves = limits_change || wanted.zone.is_some();
        // A scope that nothing keeps is closed with its day.
        let is_over = !wanted.keeps
            && wanted.limits.amounts().is_empty()
            && (before.record.span(Window::Day).end <= wanted.now || !wanted.has_account)
            && !before.at(wanted.now, &state.zone).has_limits();
        if !moves && !rearms && !is_over && place != Place::Global {
            return;
        }
        let stays = wanted.stays && wanted.zone.is_none() && !is_over;
        let staged = if (moves || is_over) && !stays {
            Staged::at(before, None, wanted.now, &state.zone, Rolls::Go)
        } else {
            Staged::unmoved(before, wanted.now)
        };
        let mut template = staged.record.clone();
        let mut pending = staged.pending.clone();
        let mut since: Since = before.since().into();
        let mut changes = before.changes();
        if limits_change {
            let at_once = |window: Window| !window.ends() || wanted.effective == Effective::Now;
            let changes_at_once = Window::ALL.into_iter().any(|window| {
                at_once(window) && template.limits().of(window) != wanted.limits.of(window)
            });
            changes = changes.wrapping_add(u32::from(changes_at_once));
            for window in Window::ALL {
                let limits = wanted.limits.of(window);
                pending.retain(|(of, _)| *of != window);
                let in_force = template.limits().of(window);
                if limits == in_force {
                    template.drop_window(window);
                } else if at_once(window) {
                    for limit in limits.iter() {
                        // Credits for ever are counted over all calls, also without a budget.
                        let is_new = template.meter(window, limit.unit).is_none();
                        let account = from_account(window, limit.unit);
                        if is_new && account.filter(|_| wanted.has_account).is_none() {
                            since.retain(|(of, unit, _)| (*of, *unit) != (window, limit.unit));
                            since.push((window, limit.unit, changes));
                        }
                    }
                    self.count(&mut template, window, wanted.now);
                    template.set_limits(window, wanted.limits);
                } else {
                    self.count(&mut template, window, wanted.now);
                    pending.push((window, limits));
                }
            }
        }
        template.thresholds = wanted.thresholds;
        let (step, takes) = staged.step_to(&template, wanted.has_account);
        self.put(state, place, &staged, step, takes, template);
        self.set_rare(place, pending, changes, since);
    }

    /// Counts a window from `now` on, if it is not counted yet.
    fn count(&mut self, record: &mut Record, window: Window, now: Timestamp) {
        if !record.is_counted(window) {
            let zone = &self.after.zone.clone();
            let end = window.end(now, zone);
            record.count_window(window, Span { end, rebases: 0 });
            self.is_valid_in((window.start(end, zone), end));
        }
    }

    /// Creates a scope that was not counted. Its limits come into force as those of a change do.
    fn begun(&mut self, wanted: &Wanted<'_>) -> ScopeState {
        let zone = self.after.zone.clone();
        let generation = self.after.next_generation();
        let at_once = wanted.effective == Effective::Now;
        let limits = if at_once { wanted.limits.clone() } else { wanted.limits.of(Window::Ever) };
        let later = wanted.limits.windows().filter(|window| window.ends() && !at_once);
        let pending: Pending = later.map(|window| (window, wanted.limits.of(window))).collect();
        let windows = pending.iter().map(|(window, _)| *window);
        let record = Record::of_limits(false, &limits, windows, wanted.thresholds);
        let record = record.begun(generation, wanted.now, &zone);
        for window in record.windows().filter(|window| window.ends()) {
            let end = record.span(window).end;
            self.is_valid_in((window.start(end, &zone), end));
        }
        ScopeState::from_parts(record, pending, 0, Since::new())
    }

    /// Adds the step of one record. The operation turns the numbers before into the numbers afterwards.
    fn put(
        &mut self,
        state: &KeyState,
        place: Place,
        staged: &Staged,
        step: Step,
        takes: Takes,
        template: Record,
    ) {
        let Some(before) = state.scope_at(place) else { return };
        self.is_valid_in((staged.from, staged.until));
        let alone = Operation {
            from: Timestamp::MIN,
            until: NEVER,
            steps: smallvec![step.clone()],
            soft: LevelSet::NONE,
            calls: smallvec![smallvec![takes.clone()]],
        };
        let (mut records, mut closed) = ([before.record.stored()], Vec::new());
        // An operation always applies to the record that it was prepared from.
        let _applied = apply(&mut records, &alone, Timestamp::START_OF_1970, &mut closed);
        let [stored] = &records;
        let after = template.with_numbers(stored, &self.after.zone);
        let id = state.id_at(place);
        Crossing::reached(&id, &staged.record, &after, staged.now, &mut self.crossed);
        for day in &closed {
            self.after.close(ClosedDay::of(day, id.clone()), staged.now);
        }
        self.after.put(place, after, staged);
        self.operation.steps.push(step);
        if let Some(call) = self.operation.calls.first_mut() {
            call.push(takes);
        }
        self.scopes.push(id);
    }

    fn set_rare(&mut self, place: Place, pending: Pending, changes: u32, since: Since) {
        if let Some(scope) = self.after.scope_at_mut(place) {
            scope.set_pending(pending);
            scope.set_since(changes, since);
        }
    }

    /// Drops the scopes whose limits have ended, and whose day had ended before.
    fn drop_ended(&mut self, before: &KeyState) {
        let after = &self.after;
        let day =
            |state: &KeyState, place| Some(state.scope_at(place)?.record.span(Window::Day).end);
        let ended = |place: &Place| {
            let scope = after.scope_at(*place);
            let old = before.places().find(|old| before.id_at(*old) == after.id_at(*place));
            !after.is_kept(*place)
                && scope.is_some_and(|scope| !scope.has_limits())
                && (!before.is_registered()
                    || old.is_some_and(|old| day(before, old) < day(after, *place)))
        };
        let ended: Vec<Place> = after.places().filter(ended).collect();
        for place in ended.into_iter().rev() {
            self.dropped.push(self.after.id_at(place));
            self.after.drop_scope(place);
        }
    }

    fn is_valid_in(&mut self, (from, until): (Timestamp, Timestamp)) {
        let operation = &mut self.operation;
        (operation.from, operation.until) = (operation.from.max(from), operation.until.min(until));
    }
}

impl Staged {
    /// Returns the step to a record of other limits or thresholds, and what it takes from each cell.
    fn step_to(&self, template: &Record, has_account: bool) -> (Step, Takes) {
        let mut step = self.step(true);
        let mut takes = Takes::new();
        let stored = std::mem::take(&mut step.windows);
        for window in Window::ALL {
            let before = stored.iter().find(|of| of.window == window);
            let guard = match before {
                // Its limits have just ended, and it has others now.
                Some(WindowStep { guard: Guard::End(seen), .. }) if template.is_counted(window) => {
                    Guard::Anew(*seen, template.span(window))
                }
                Some(of) if template.is_counted(window) => of.guard,
                Some(of) => {
                    let seen = self.windows.iter().find(|it| it.window == window);
                    seen.map_or(of.guard, |it| Guard::End(it.seen))
                }
                None if template.is_counted(window) => Guard::Begin(template.span(window)),
                None => continue,
            };
            let mut cells = SmallVec::new();
            for (place, counted) in template.counted_in(window).enumerate() {
                let (cell, take) = self.cell_to(window, place, counted, template, has_account);
                cells.push(cell);
                takes.push(take);
            }
            let before = before.map_or(0, |of| of.before);
            step.windows.push(WindowStep { window, guard, before, cells });
        }
        (step, takes)
    }

    fn cell_to(
        &self,
        window: Window,
        place: usize,
        counted: Counted,
        template: &Record,
        has_account: bool,
    ) -> (CellStep, Take) {
        let to = Stops::new(counted.limit, template.thresholds);
        let is_account = window == Window::Day && place < ACCOUNT.len();
        let mut before = self.record.counted_in(window).enumerate();
        let kept = before.find(|(at, it)| {
            let in_account = window == Window::Day && *at < ACCOUNT.len();
            it.unit == counted.unit && in_account == is_account
        });
        let account = from_account(window, counted.unit).filter(|_| has_account);
        let (origin, from, same) = match (kept, account) {
            (Some((at, it)), _) => {
                let from = Stops::new(it.limit, self.record.thresholds);
                // Other thresholds of a small limit may have the same stops. They have not fired yet.
                let same =
                    it.limit == counted.limit && self.record.thresholds == template.thresholds;
                (Origin::Kept(at), from, same)
            }
            (None, Some((first, count))) => (Origin::Account { first, count }, to, true),
            (None, None) => (Origin::Started, to, true),
        };
        let ladder = if same { Ladder::same(to) } else { Ladder { from, start: [0; STOPS], to } };
        let less = from.cap().saturating_sub(to.cap());
        (CellStep { unit: counted.unit, origin, ladder }, Take { least: ANY, less })
    }
}

/// Returns the cells of the day's account that count this unit of this window: the first, and how many.
fn from_account(window: Window, unit: Unit) -> Option<(usize, usize)> {
    let of = |unit: Unit| ACCOUNT.iter().position(|counted| *counted == unit);
    match (window, unit) {
        (Window::Day, Unit::Tokens) => Some((of(Unit::InputTokens)?, 2)),
        (Window::Day, unit) => Some((of(unit)?, 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::Charge;
    use crate::config::KeyKind;
    use crate::credits::Credits;
    use crate::decision::Decision;
    use crate::evaluate;
    use crate::ledger::{Ledger, LedgerBounds};
    use crate::levels::LevelsMut;
    use crate::names::{AssetId, KeyId, RequestId};
    use crate::reservation;
    use crate::rule::Scope;
    use crate::totals::Totals;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
    const NEXT_MINUTE: Timestamp = Timestamp::from_unix_ms(1_760_011_260_000);
    const NEXT_DAY: Timestamp = Timestamp::from_unix_ms(1_760_054_400_000);
    const DEFAULT: Thresholds = Thresholds::DEFAULT;

    fn config(requests_per_minute: impl Into<Option<u64>>) -> KeyConfig {
        limited(Limits::builder().requests_per_minute(requests_per_minute))
    }

    fn limited(limits: crate::limits::LimitsBuilder) -> KeyConfig {
        KeyConfig::named("ci").unwrap().with_global(limits.build().unwrap())
    }

    fn new(config: &KeyConfig) -> KeyState {
        KeyState::new(KeyKind::Member, config, DEFAULT, NOON).keeping_history(35)
    }

    fn call(
        state: &mut KeyState,
        asset: Option<&str>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        let asset = asset.map(|asset| asset.parse().unwrap());
        let located = state.locate(asset.as_ref());
        evaluate::charge(state, &"ci".parse().unwrap(), located, charge, now)
    }

    fn tokens(input: u64, output: u64) -> Charge {
        Charge::request().with_tokens(input, output).unwrap()
    }

    fn used(state: &KeyState, window: Window, unit: Unit) -> u64 {
        let record = state.global().record();
        record.meter(window, unit).unwrap().used(record.thresholds)
    }

    fn in_force_at(state: &KeyState, now: Timestamp) -> Option<u64> {
        let scope = state.global().at(now, state.time_zone());
        scope.record().limits().get(Window::Minute, Unit::Requests)
    }

    fn change(state: &mut KeyState, config: &KeyConfig, effective: Effective) -> Vec<Crossing> {
        state.configure(config, DEFAULT, effective, NOON).unwrap().1
    }

    #[test]
    fn the_last_change_comes_with_the_next_window() {
        for (changes, next) in [(&[5][..], 5), (&[5, 7], 7), (&[5, 1], 1)] {
            let mut state = new(&config(1));
            for limit in changes {
                change(&mut state, &config(*limit), Effective::Next);
            }
            assert_eq!(in_force_at(&state, NOON), Some(1), "{changes:?}");
            assert_eq!(in_force_at(&state, NEXT_MINUTE), Some(next), "{changes:?}");
            assert_eq!(
                state == new(&config(1)),
                next == 1,
                "{changes:?}: a change back drops the other"
            );
        }
    }

    #[test]
    fn saving_what_is_configured_does_not_even_move_the_window() {
        let mut state = new(&config(1));
        let (changed, _) = state.configure(&config(1), DEFAULT, Effective::Next, NEXT_DAY).unwrap();
        assert!(!changed);
        assert_eq!(state, new(&config(1)));
    }

    #[test]
    fn a_window_is_counted_while_it_has_limits_or_will_have() {
        let mut state = new(&config(1));
        let hourly = limited(Limits::builder().requests_per_minute(1).requests_per_hour(9));
        change(&mut state, &hourly, Effective::Next);
        assert!(state.global().record().is_counted(Window::Hour));
        assert_eq!(state.configured().0, hourly.global);
        change(&mut state, &config(1), Effective::Next);
        assert_eq!(state, new(&config(1)), "the change back drops it");

        let mut state = new(&hourly);
        change(&mut state, &config(1), Effective::Next);
        assert_eq!(state.global().record().limits(), hourly.global, "until the hour ends");
        let hour_later = NOON.after(std::time::Duration::from_secs(3_600));
        assert!(call(&mut state, None, &Charge::request(), hour_later).is_allowed());
        assert!(!state.global().record().is_counted(Window::Hour));
    }

    #[test]
    fn a_limit_changed_now_keeps_what_was_used() {
        let mut state = new(&config(10));
        for _ in 0..5 {
            assert!(call(&mut state, None, &Charge::request(), NOON).is_charged());
        }
        change(&mut state, &config(4), Effective::Next);
        let crossed = change(&mut state, &config(5), Effective::Now);
        let percents: Vec<_> =
            crossed.iter().map(|crossed| (crossed.percent, crossed.limit)).collect();
        assert_eq!(percents, [(80, 5), (100, 5)], "those that the change reaches");
        assert_eq!(in_force_at(&state, NEXT_MINUTE), Some(5), "what was pending is dropped");
        assert!(!call(&mut state, None, &Charge::request(), NOON).is_allowed());
        assert!(
            change(&mut state, &config(6), Effective::Now).is_empty(),
            "80 % were reached before"
        );
        assert!(call(&mut state, None, &Charge::request(), NOON).is_allowed());
        assert_eq!(used(&state, Window::Minute, Unit::Requests), 6);
    }

    #[test]
    fn a_limit_that_is_new_now_starts_at_the_account_of_the_day_or_at_zero() {
        let mut state = new(&config(None));
        let mut ledger = Ledger::default();
        let (key, id): (KeyId, RequestId) = ("ci".parse().unwrap(), "r".parse().unwrap());
        let (hour, bounds) = (std::time::Duration::from_secs(3_600), LedgerBounds::default());
        let mut levels = LevelsMut::of_key(&key, None, &mut state);
        let reserved = reservation::reserve(
            &mut levels,
            &mut ledger,
            &bounds,
            &tokens(30, 40),
            &id,
            hour,
            NOON,
        );
        drop(levels);
        assert!(reserved.unwrap().is_allowed());
        let limits =
            Limits::builder().tokens_per_day(100).output_tokens_per_day(100).tokens_per_hour(100);
        change(&mut state, &limited(limits), Effective::Now);
        let counts = |state: &KeyState| {
            [
                (Window::Day, Unit::Tokens),
                (Window::Day, Unit::OutputTokens),
                (Window::Hour, Unit::Tokens),
            ]
            .map(|(window, unit)| used(state, window, unit))
        };
        assert_eq!(counts(&state), [70, 40, 0]);
        let actual = Totals::unchanged().with_output_tokens(10).unwrap();
        let mut levels = LevelsMut::of_key(&key, None, &mut state);
        reservation::settle(&mut levels, &mut ledger, &bounds, &id, &actual, NOON).unwrap();
        drop(levels);
        assert_eq!(counts(&state), [40, 10, 0], "the hour never counted the call");
    }

    #[test]
    fn limits_for_ever_change_at_once_and_keep_what_was_spent() {
        let credits = |credits| Credits::whole(credits).unwrap();
        let mut state = new(&config(None));
        let charge = Charge::request().with_credits(credits(4));
        assert!(call(&mut state, None, &charge, NOON).is_allowed());
        let crossed = change(&mut state, &config(None).with_budget(credits(5)), Effective::Next);
        assert_eq!(
            crossed.iter().map(|of| (of.rule, of.percent)).collect::<Vec<_>>(),
            [(crate::rule::Rule::BUDGET, 80)]
        );
        let usage = state.credits();
        assert_eq!((usage.spent, usage.budget), (credits(4), Some(credits(5))));
        change(&mut state, &config(None), Effective::Next);
        assert_eq!((state.credits().spent, state.credits().budget), (credits(4), None));
    }

    #[test]
    fn an_asset_is_counted_while_it_is_listed_and_until_its_day_is_over() {
        let asset: AssetId = "m".parse().unwrap();
        let listed = config(None).with_asset(asset, Limits::NONE);
        let mut state = new(&listed);
        assert!(call(&mut state, Some("m"), &tokens(1, 2), NOON).is_allowed());
        assert!(call(&mut state, Some("other"), &tokens(1, 2), NOON).is_allowed());
        change(&mut state, &config(None), Effective::Next);
        assert!(call(&mut state, Some("m"), &tokens(3, 0), NOON).is_allowed());
        let accounts = |state: &KeyState, now| -> Vec<_> {
            let days = state.history(2, now);
            let scopes = days.into_iter().flat_map(|day| day.scopes);
            scopes.map(|of| (of.scope.to_string(), of.account.input_tokens())).collect()
        };
        let expected = [("all calls".to_owned(), 5), ("asset \"m\"".to_owned(), 4)];
        assert_eq!(accounts(&state, NOON), expected);
        assert_eq!(
            accounts(&state, NEXT_DAY),
            expected,
            "a day that nothing has closed is read as it is"
        );
        assert!(call(&mut state, Some("m"), &Charge::request(), NEXT_DAY).is_allowed());
        assert_eq!(state.assets().count(), 0);
        assert_eq!(accounts(&state, NEXT_DAY)[..2], expected);
    }

    /// Its last limits had ended with a window that no call has moved, so it was never dropped.
    #[test]
    fn an_asset_that_is_never_called_again_goes_with_the_next_change_after_its_day() {
        let limits = Limits::builder().requests_per_minute(1).requests_per_day(1).build().unwrap();
        let mut state = new(&config(None).with_asset("m".parse().unwrap(), limits));
        assert!(call(&mut state, Some("m"), &tokens(1, 2), NOON).is_allowed());
        change(&mut state, &config(None), Effective::Next);
        state.configure(&config(1), DEFAULT, Effective::Next, NEXT_MINUTE).unwrap();
        assert_eq!(state.assets().count(), 1, "its day is not over");
        state.configure(&config(2), DEFAULT, Effective::Next, NEXT_DAY).unwrap();
        assert_eq!(state.assets().count(), 0);
        let yesterday = &state.history(2, NEXT_DAY)[0];
        assert_eq!(yesterday.scopes.len(), 2, "its account stays in the history");
    }

    #[test]
    fn assets_that_are_not_listed_meet_the_limits_of_others_together() {
        let other = Limits::builder().requests_per_minute(2).build().unwrap();
        let listed = Limits::builder().requests_per_minute(1).build().unwrap();
        let config = config(None).with_other(other.clone());
        let mut state = new(&config);
        assert!(call(&mut state, Some("a"), &Charge::request(), NOON).is_allowed());
        assert!(call(&mut state, None, &Charge::request(), NOON).is_allowed());
        let asset: AssetId = "b".parse().unwrap();
        change(&mut state, &config.clone().with_asset(asset, listed), Effective::Next);
        let decision = call(&mut state, Some("b"), &Charge::request(), NOON);
        let scopes: Vec<_> = decision.rules().map(|rule| rule.rule.scope).collect();
        assert_eq!(scopes, [Scope::Other], "its first limit is pending");
        assert!(!call(&mut state, Some("b"), &Charge::request(), NOON).is_allowed());
        assert!(!call(&mut state, Some("a"), &Charge::request(), NOON).is_allowed());
        let decision = call(&mut state, Some("b"), &Charge::request(), NEXT_MINUTE);
        let scopes: Vec<_> = decision.rules().map(|rule| rule.rule.scope).collect();
        assert_eq!(scopes, [Scope::Asset]);
        assert_eq!(state.assets().count(), 1, "made-up names create nothing");
    }

    #[test]
    fn a_reset_starts_all_windows_that_end_and_closes_them_for_reservations() {
        let credit = Credits::whole(1).unwrap();
        let config = config(1).with_budget(credit);
        let mut state = new(&config);
        let mut ledger = Ledger::default();
        let (key, id): (KeyId, RequestId) = ("ci".parse().unwrap(), "r".parse().unwrap());
        let (hour, bounds) = (std::time::Duration::from_secs(3_600), LedgerBounds::default());
        let charge = tokens(5, 0).with_credits(credit);
        let mut levels = LevelsMut::of_key(&key, None, &mut state);
        let reserved =
            reservation::reserve(&mut levels, &mut ledger, &bounds, &charge, &id, hour, NOON);
        drop(levels);
        assert!(reserved.unwrap().is_allowed());
        state.reset(NOON);
        assert_eq!(used(&state, Window::Minute, Unit::Requests), 0);
        assert_eq!(state.credits().spent, credit, "the budget does not end");
        assert!(call(&mut state, None, &tokens(2, 0), NOON).denied().is_some(), "and is used up");
        let mut levels = LevelsMut::of_key(&key, None, &mut state);
        reservation::cancel(&mut levels, &mut ledger, &bounds, &id, NOON).unwrap();
        drop(levels);
        assert_eq!(state.credits().spent, Credits::ZERO);
        assert!(call(&mut state, None, &tokens(2, 0), NOON).is_allowed());
        let today = state.history(1, NOON);
        assert_eq!(today[0].scopes[0].account.input_tokens(), 7, "what the day had counted stays");
    }

    #[test]
    fn what_a_clock_far_ahead_had_counted_is_of_the_day_of_a_reset() {
        let ahead = NOON.after(std::time::Duration::from_secs(10 * 86_400));
        let mut state = new(&config(9));
        assert!(call(&mut state, None, &tokens(5, 0), ahead).is_allowed());
        state.reset(NOON);
        let history = state.history(35, NOON);
        let rows: Vec<_> = history.iter().map(|day| day.scopes[0].account.input_tokens()).collect();
        assert_eq!(rows, [5], "{history:?}");
        assert!(history[0].start <= NOON);
    }

    #[test]
    fn another_zone_holds_from_the_end_of_each_window_on() {
        let mut state = new(&limited(Limits::builder().requests_per_day(1)));
        #[cfg(feature = "time-zones")]
        {
            let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
            let config = limited(Limits::builder().requests_per_day(1)).with_time_zone(berlin);
            change(&mut state, &config, Effective::Next);
            let day = |state: &KeyState| state.global().record().span(Window::Day).end;
            assert_eq!(day(&state), NEXT_DAY);
            assert!(call(&mut state, None, &Charge::request(), NEXT_DAY).is_allowed());
            assert_eq!(day(&state), "2025-10-10T22:00:00Z".parse().unwrap(), "a short day");
        }
        assert!(
            call(
                &mut state,
                None,
                &Charge::request(),
                NEXT_DAY.after(std::time::Duration::from_secs(86_400))
            )
            .is_allowed()
        );
    }

    #[test]
    fn under_other_thresholds_those_count_as_fired_that_are_reached() {
        let thresholds = Thresholds::new([50, 70, 90]).unwrap();
        for (used, marks, fired) in
            [(49, 0, &[][..]), (50, 1, &[50]), (79, 2, &[50, 70]), (95, 3, &[50, 70, 90])]
        {
            let mut state = new(&config(100));
            for _ in 0..used {
                assert!(call(&mut state, None, &Charge::request(), NOON).is_allowed());
            }
            let crossed =
                change(&mut state, &config(100).with_thresholds(thresholds), Effective::Next);
            assert_eq!(crossed.iter().map(|of| of.percent).collect::<Vec<_>>(), fired);
            let meter = *state.global().record().meter(Window::Minute, Unit::Requests).unwrap();
            assert_eq!((meter.mark(), meter.used(thresholds)), (marks, used));
            assert_eq!(state.configured().0, config(100).global);
            assert!(state.settings().own_thresholds);
        }
    }
}
