//! Changes of a key's configuration: budget, expiry, thresholds and shadow mode at once, limits from the next window of each kind.

use crate::clock::Timestamp;
use crate::config::KeyConfig;
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::limits::Limits;
use crate::meter::{ANY, Ladder, STOPS, Take, UNLIMITED};
use crate::names::AssetId;
use crate::operation::{Guard, Operation, Step, Takes, apply};
use crate::prepare::{Rolls, Staged};
use crate::record::{CREDITS, Record, Span};
use crate::schedule::ScopeState;
use crate::state::{AssetState, KeyState};
use crate::thresholds::Thresholds;
use crate::window::Window;

/// A change of a key's configuration: the operation on the records that it concerns, and the state afterwards.
#[derive(Clone, Debug)]
pub struct Change {
    /// The operation on the records of [`scopes`](Self::scopes).
    pub operation: Operation,
    /// The scopes whose records change: the global one first, always, then assets.
    pub scopes: Vec<Option<AssetId>>,
    /// The state that the change leads to, if no call comes between.
    pub after: KeyState,
}

/// The new configuration of one scope.
struct Wanted {
    limits: Limits,
    thresholds: Thresholds,
    /// The credits that the global scope may ever spend.
    budget: Option<u64>,
    generation: u32,
    now: Timestamp,
}

impl KeyState {
    /// Changes budget, expiry, thresholds and shadow mode at once, and limits from the next window of each kind.
    ///
    /// A threshold that lies below what is used already does not fire.
    /// An asset that is not in the configuration loses its limits. Returns whether anything changed.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] if more than [`Self::MAX_COUNTED_ASSETS`] scopes would be counted;
    /// then nothing was changed.
    pub fn configure(&mut self, config: &KeyConfig, now: Timestamp) -> Result<bool, InvalidValue> {
        let after = self.change(config, now)?.after;
        let differs = *self != after;
        *self = after;
        Ok(differs)
    }

    /// Prepares a change of the configuration: see [`configure`](Self::configure).
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] if more than [`Self::MAX_COUNTED_ASSETS`] scopes would be counted.
    pub fn change(&self, config: &KeyConfig, now: Timestamp) -> Result<Change, InvalidValue> {
        let operation = Operation {
            from: Timestamp::MIN,
            until: Timestamp::from_window_end(i64::MAX),
            steps: Default::default(),
            // One call: it moves what changes at once.
            calls: smallvec::smallvec![Default::default()],
        };
        let mut change = Change { operation, scopes: Vec::new(), after: self.clone() };
        change.after.expires_at = config.expires_at;
        change.after.shadow = config.shadow;
        let mut wanted = Wanted {
            limits: config.global,
            thresholds: config.thresholds.unwrap_or_default(),
            budget: config.budget.map(Credits::millionths),
            generation: change.after.next_generation(),
            now,
        };
        if let Some(global) = change.scope(self.global.clone(), None, &wanted) {
            change.after.global = global;
        }
        wanted.budget = None;
        for asset in std::mem::take(&mut change.after.assets) {
            wanted.limits = config.assets.get(&asset.id).copied().unwrap_or(Limits::NONE);
            wanted.generation = change.after.next_generation();
            let scope = change.scope(asset.scope, Some(&asset.id), &wanted);
            change.after.assets.extend(scope.map(|scope| AssetState { id: asset.id, scope }));
        }
        for (id, limits) in config.assets.iter().filter(|(_, limits)| !limits.is_none()) {
            if let Err(position) = change.after.search(id) {
                let generation = change.after.next_generation();
                let mut scope = ScopeState::asset(now, generation, wanted.thresholds);
                scope.want(*limits);
                change.is_valid_while_open(now);
                change.after.assets.insert(position, AssetState { id: id.clone(), scope });
            }
        }
        if change.after.assets.len() > Self::MAX_COUNTED_ASSETS {
            change.after.assets.retain(|asset| asset.scope.at(now).is_some());
        }
        if change.after.assets.len() > Self::MAX_COUNTED_ASSETS {
            let count = change.after.assets.len();
            return Err(InvalidValue::TooManyAssets { count, max: Self::MAX_COUNTED_ASSETS });
        }
        Ok(change)
    }
}

impl Change {
    /// Changes one counted scope; `None` if it is not counted afterwards.
    fn scope(
        &mut self,
        before: ScopeState,
        asset: Option<&AssetId>,
        wanted: &Wanted,
    ) -> Option<ScopeState> {
        let is_global = before.record.has_credits();
        let limits_change = before.configured() != wanted.limits;
        let rearms = before.record.thresholds != wanted.thresholds;
        let budget = wanted.budget.unwrap_or(UNLIMITED);
        let budget_changes = is_global && before.record.limits[CREDITS] != budget;
        if !limits_change && !rearms && !budget_changes && !is_global {
            return Some(before);
        }
        let staged = if limits_change {
            Staged::at(&before, &[None; 2], wanted.now, Rolls::Go)
        } else {
            Staged::unmoved(&before)
        };
        let mut after = before.clone();
        after.record = staged.record;
        after.set_pending(staged.pending);
        let mut step = staged.step(true);
        if limits_change {
            let is_over = after.is_over();
            if is_over || !after.record.has_windows() {
                // Limits that ended earlier do not get their old counts back.
                after.begin(wanted.now, wanted.generation);
                self.is_valid_while_open(wanted.now);
                step.begin(&after.record, is_over.then_some(staged.seen));
            }
            after.want(wanted.limits);
        }
        let start = after.record;
        after.record.thresholds = wanted.thresholds;
        if is_global {
            after.record.limits[CREDITS] = budget;
        }
        step.ladders = Some(std::array::from_fn(|meter| {
            let moved = after.record.limits[meter] != start.limits[meter];
            Ladder {
                from: start.stops(meter),
                start: marks_to_start(start.thresholds, wanted.thresholds, moved),
                to: after.record.stops(meter),
            }
        }));
        let takes: Takes = std::array::from_fn(|meter| {
            let (from, to) = (start.stops(meter).cap(), after.record.stops(meter).cap());
            Take { least: ANY, less: from.saturating_sub(to) }
        });
        // The operation turns the numbers before into the numbers afterwards.
        let alone = Operation {
            from: Timestamp::MIN,
            until: Timestamp::from_window_end(i64::MAX),
            steps: smallvec::smallvec![step.clone()],
            calls: smallvec::smallvec![smallvec::smallvec![takes]],
        };
        let mut record = before.record;
        apply(&mut [&mut record], &alone, wanted.now);
        after.record = Record {
            limits: after.record.limits,
            counts: after.record.counts,
            thresholds: wanted.thresholds,
            ..record
        };
        if after.is_over() && after.record.has_windows() {
            after.end();
            step.end(staged.seen);
        }
        self.operation.from = self.operation.from.max(staged.from);
        self.operation.until = self.operation.until.min(staged.until);
        let dropped = !is_global && !after.record.has_windows();
        (!dropped).then(|| {
            self.operation.steps.push(step);
            self.operation.calls[0].push(takes);
            self.scopes.push(asset.cloned());
            after
        })
    }

    /// Limits the operation to the current minute, since the windows that begin are the current ones.
    fn is_valid_while_open(&mut self, now: Timestamp) {
        let end = Window::Minute.end(now);
        self.operation.from = self.operation.from.max(Window::Minute.start(end));
        self.operation.until = self.operation.until.min(end);
    }
}

impl Step {
    /// Begins a new counting of the scope, in the windows of this record.
    fn begin(&mut self, record: &Record, seen: Option<[Span; 2]>) {
        self.generations[1] = record.generation;
        self.counts = record.counts;
        for window in Window::ALL {
            let at = window.place();
            self.guards[at] = match seen {
                Some(seen) => Guard::Anew(seen[at], record.span(window)),
                None => Guard::Begin(record.span(window)),
            };
        }
        self.start[..CREDITS].copy_from_slice(&record.values[..CREDITS]);
    }
}

impl ScopeState {
    /// Makes limits that differ from those in force pending for the next window of each kind.
    fn want(&mut self, limits: Limits) {
        self.set_pending(Window::ALL.map(|window| {
            let changed = limits.of(window) != self.record.window_limits(window);
            changed.then(|| limits.of(window))
        }));
    }
}

/// Returns the initial marks under other thresholds, by the mark before. Thresholds that are no higher than one that
/// has fired count as fired. Under another limit, only thresholds that are passed do.
fn marks_to_start(before: Thresholds, after: Thresholds, another_limit: bool) -> [u8; STOPS] {
    std::array::from_fn(|mark| {
        if another_limit {
            return 0;
        }
        let highest = before.percents().take(mark).last().unwrap_or(0);
        let covered = after.percents().take_while(|percent| *percent <= highest).count();
        u8::try_from(covered).unwrap_or(u8::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyKind;
    use crate::meter::Meter;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
    const NEXT_MINUTE: Timestamp = Timestamp::from_unix_ms(1_760_011_260_000);
    const NEXT_DAY: Timestamp = Timestamp::from_unix_ms(1_760_054_400_000);

    fn config(requests_per_minute: impl Into<Option<u64>>) -> KeyConfig {
        let limits = Limits::builder().requests_per_minute(requests_per_minute).build().unwrap();
        KeyConfig::named("ci").unwrap().with_global(limits)
    }

    fn key(requests_per_minute: u64) -> KeyState {
        KeyState::new(KeyKind::Member, &config(requests_per_minute), NOON)
    }

    fn in_force_at(state: &KeyState, now: Timestamp) -> Option<u64> {
        state.global()?.at(now)?.counts(Window::Minute).requests().limit()
    }

    #[test]
    fn the_last_change_comes_with_the_next_window() {
        for (changes, next) in [(&[5][..], 5), (&[5, 7], 7), (&[5, 1], 1)] {
            let mut state = key(1);
            for limit in changes {
                assert_eq!(state.configure(&config(*limit), NOON), Ok(true), "{changes:?}");
            }
            assert_eq!(in_force_at(&state, NOON), Some(1), "{changes:?}");
            assert_eq!(in_force_at(&state, NEXT_MINUTE), Some(next), "{changes:?}");
            assert_eq!(state == key(1), next == 1, "{changes:?}: a change back drops the other");
        }
    }

    #[test]
    fn saving_what_is_configured_does_not_even_move_the_window() {
        let mut state = key(1);
        assert_eq!(state.configure(&config(1), NEXT_DAY), Ok(false));
        assert_eq!(state, key(1));
    }

    #[test]
    fn limits_added_and_removed_again_are_not_counted() {
        let asset: AssetId = "m".parse().unwrap();
        let mut state = key(1);
        let with_asset = config(1).with_asset(asset, config(9).global);
        state.configure(&with_asset, NOON).unwrap();
        assert_eq!(state.assets().count(), 1);
        state.configure(&config(1), NOON).unwrap();
        assert_eq!(state, key(1));
        let without = KeyState::new(KeyKind::Member, &config(None), NOON);
        let mut state = without.clone();
        state.configure(&config(1), NOON).unwrap();
        assert!(state.global().is_some());
        state.configure(&config(None), NOON).unwrap();
        assert_eq!(state, without);
    }

    #[test]
    fn a_cleared_scope_is_over_when_both_windows_have_ended() {
        let limits = Limits::builder().requests_per_minute(1).requests_per_day(1).build().unwrap();
        let limited = KeyConfig::named("ci").unwrap().with_global(limits);
        let mut state = KeyState::new(KeyKind::Member, &limited, NOON);
        state.configure(&config(None), NOON).unwrap();
        let scope = state.global().unwrap();
        assert!(scope.at(NEXT_MINUTE).is_some());
        assert!(scope.at(NEXT_DAY).is_none());
    }

    #[test]
    fn under_other_thresholds_those_count_as_fired_that_are_passed_or_no_higher_than_one_that_fired()
     {
        let thresholds = Thresholds::new([50, 70, 90]).unwrap();
        let rearmed = config(100).with_thresholds(thresholds);
        // (used, marks of the default thresholds, marks of the others)
        for (used, before, after) in [(49, 0, 0), (50, 0, 1), (79, 0, 2), (0, 1, 2), (95, 1, 3)] {
            let mut state = key(100);
            let meter = Meter { mark: before, ..Meter::new(Some(100)).with_used(used) };
            state.global.record.set_meter(0, meter);
            state.configure(&rearmed, NOON).unwrap();
            let meter = state.global.record.meter(0);
            assert_eq!((meter.mark, meter.used()), (after, used), "{used} used, {before} fired");
        }
    }

    #[test]
    fn of_another_budget_only_what_is_passed_counts_as_fired() {
        for (budget, mark) in [(None, 0), (Some(0), 0), (Some(8), 2), (Some(10), 1), (Some(11), 0)]
        {
            let mut state = key(1);
            let spent = Meter { mark: 2, ..Meter::new(Some(8)).with_used(8) };
            state.global.record.set_meter(CREDITS, spent);
            let credits = |millionths| Credits::from_millionths(millionths).unwrap();
            let config = KeyConfig { budget: budget.map(credits), ..config(1) };
            state.configure(&config, NOON).unwrap();
            let meter = state.global.record.meter(CREDITS);
            assert_eq!((meter.mark, meter.used(), meter.limit()), (mark, 8, budget));
        }
    }
}
