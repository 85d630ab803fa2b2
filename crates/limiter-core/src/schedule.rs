//! What of a scope's limits is in force, and what is pending for the next window.

use serde::{Deserialize, Serialize};

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::counts::{ScopeCounts, WindowCounts, WindowId};
use crate::crossing::Crossing;
use crate::error::InvalidValue;
use crate::limits::{Limits, WindowLimits};
use crate::meter::Meter;
use crate::names::AssetId;
use crate::rule::{Rule, Unit};
use crate::saved::required;
use crate::thresholds::Thresholds;
use crate::window::{Step, Window};

/// A counted scope: the counts of its minute and its day, and for each at most one change of its limits,
/// which comes into force when that window ends.
///
/// A change is always pending for the window after the stored one: the change itself moves the stored
/// windows to the current ones, and every later move to a new window takes the change up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawScopeState", into = "RawScopeState")]
pub struct ScopeState {
    counts: ScopeCounts,
    /// Boxed because it is rare, and the size of this struct decides what a key costs in memory.
    pending: Option<Box<Pending>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Pending {
    minute: Option<WindowLimits>,
    day: Option<WindowLimits>,
}

/// How a stored window stands to the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    No,
    Rolled,
    Mended,
}

/// The counts of a scope as they stand at an instant, before anything is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedScope {
    minute: (WindowCounts, Moved),
    day: (WindowCounts, Moved),
    counting: u32,
    thresholds: Thresholds,
}

impl ScopeState {
    /// A scope as a store kept it: minute and day, and what is pending for each.
    ///
    /// # Errors
    /// [`InvalidValue::Inconsistent`] if a window does not end where windows of its kind end, or if nothing is
    /// limited or will be.
    pub fn from_parts(
        counts: [WindowCounts; 2],
        pending: [Option<WindowLimits>; 2],
    ) -> Result<Self, InvalidValue> {
        let ([minute, day], [minute_pending, day_pending]) = (counts, pending);
        let scope = Self::try_from(RawScopeState {
            minute: RawWindowState { counts: minute, pending: minute_pending },
            day: RawWindowState { counts: day, pending: day_pending },
            counting: 0,
        })?;
        if scope.is_over() {
            return Err(InvalidValue::Inconsistent { what: "a scope without limits is counted" });
        }
        Ok(scope)
    }

    /// A scope whose limits are in force at once, as those of a new key are; `None` without limits.
    ///
    /// `counting` tells it from every other scope that its key has counted.
    pub(crate) fn in_force(
        limits: Limits,
        now: Timestamp,
        counting: u32,
        thresholds: Thresholds,
    ) -> Option<Self> {
        (!limits.is_none()).then(|| Self::new(limits, now, counting, thresholds))
    }

    /// Changes the limits of a scope that may not be counted so far: from the next window of each kind.
    /// Should it be counted anew, that counting gets this number.
    pub(crate) fn configure(
        scope: &mut Option<Self>,
        limits: Limits,
        now: Timestamp,
        counting: u32,
        thresholds: Thresholds,
    ) {
        let unchanged = scope.as_ref().map_or(Limits::NONE, Self::configured) == limits;
        if unchanged {
            return;
        }
        if let Some(counted) = scope {
            counted.store(&counted.staged(now));
        }
        // A scope whose limits ended earlier does not find its old counts again.
        let counted = scope.take().filter(|counted| !counted.is_over());
        let mut counted =
            counted.unwrap_or_else(|| Self::new(Limits::NONE, now, counting, thresholds));
        for window in Window::ALL {
            let changed = limits.of(window) != counted.counts(window).limits();
            counted.set_pending(window, changed.then(|| limits.of(window)));
        }
        *scope = Some(counted).filter(|counted| !counted.is_over());
    }

    /// How many thresholds were told of each count.
    pub(crate) fn told(&self) -> [u8; 4] {
        let [minute, day] = Window::ALL.map(|window| self.counts(window));
        [minute.requests.told, minute.tokens.told, day.requests.told, day.tokens.told]
    }

    /// Which windows are counted now.
    pub(crate) fn window_ids(&self) -> [WindowId; 2] {
        Window::ALL.map(|window| self.counts.id(window))
    }

    pub(crate) const fn set_counting(&mut self, counting: u32) {
        self.counts.set_counting(counting);
    }

    /// Tells this counting from every other scope that its key has counted.
    pub(crate) const fn counting(&self) -> u32 {
        self.counts.counting()
    }

    /// The counts of one window, as they were stored.
    #[must_use]
    pub const fn counts(&self, window: Window) -> WindowCounts {
        self.counts.window(window)
    }

    /// The change that comes into force when the window ends.
    #[must_use]
    pub fn pending(&self, window: Window) -> Option<WindowLimits> {
        let pending = self.pending.as_deref()?;
        match window {
            Window::Minute => pending.minute,
            Window::Day => pending.day,
        }
    }

    /// The limits as an admin last set them: those pending, or else those in force.
    #[must_use]
    pub fn configured(&self) -> Limits {
        let configured =
            |window| self.pending(window).unwrap_or_else(|| self.counts(window).limits());
        Limits::from_parts(configured(Window::Minute), configured(Window::Day))
    }

    /// The scope as it stands at `now`, or `None` when its limits have ended by then.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Option<Self> {
        let mut scope = self.clone();
        scope.store(&self.staged(now));
        (!scope.is_over()).then_some(scope)
    }

    /// Whether a charge simply fits; see [`ScopeCounts::fits`].
    #[inline]
    pub(crate) fn fits(&self, amounts: &Amounts, now: Timestamp) -> bool {
        self.counts.fits(amounts, now)
    }

    /// Charges what [fits](Self::fits), and answers the counts as they are then.
    #[inline]
    pub(crate) fn take(&mut self, amounts: &Amounts) -> ScopeCounts {
        self.counts.take(amounts)
    }

    /// The counts as they stand at `now`.
    pub(crate) fn staged(&self, now: Timestamp) -> StagedScope {
        StagedScope {
            minute: self.window_at(Window::Minute, now),
            day: self.window_at(Window::Day, now),
            counting: self.counts.counting(),
            thresholds: self.counts.thresholds(),
        }
    }

    /// Other thresholds, of the counts as they are: see [`Meter::set_thresholds`](crate::Meter).
    pub(crate) fn set_thresholds(&mut self, thresholds: Thresholds) {
        let before = self.counts.thresholds();
        self.recount(thresholds, |meter| meter.set_thresholds(before, thresholds));
    }

    /// These thresholds, of counts that were saved without them and know what was told.
    pub(crate) fn with_thresholds(mut self, thresholds: Thresholds) -> Self {
        self.recount(thresholds, |_| ());
        self
    }

    fn recount(&mut self, thresholds: Thresholds, change: impl Fn(&mut Meter)) {
        let [minute, day] = Window::ALL.map(|window| {
            let mut counts = self.counts(window);
            change(&mut counts.requests);
            change(&mut counts.tokens);
            counts
        });
        self.counts = ScopeCounts::new(minute, day, self.counting(), thresholds);
    }

    /// Stores counts that were staged.
    pub(crate) fn store(&mut self, staged: &StagedScope) {
        for (window, moved) in [(Window::Minute, staged.minute.1), (Window::Day, staged.day.1)] {
            if moved == Moved::Rolled {
                self.set_pending(window, None);
            }
        }
        self.counts = staged.counts();
    }

    /// Stores that a clock which had been far ahead was mended, and nothing else.
    pub(crate) fn mend(&mut self, now: Timestamp) {
        let mended = |window| match self.window_at(window, now) {
            (counts, Moved::Mended) => counts,
            _ => self.counts(window),
        };
        let (counting, thresholds) = (self.counts.counting(), self.counts.thresholds());
        self.counts =
            ScopeCounts::new(mended(Window::Minute), mended(Window::Day), counting, thresholds);
    }

    /// Whether nothing is in force or pending any more.
    pub(crate) fn is_over(&self) -> bool {
        self.pending.is_none()
            && Window::ALL.into_iter().all(|window| self.counts(window).limits().is_none())
    }

    fn new(in_force: Limits, now: Timestamp, counting: u32, thresholds: Thresholds) -> Self {
        let counts = |window: Window| WindowCounts::new(in_force.of(window), window.end(now));
        let counts =
            ScopeCounts::new(counts(Window::Minute), counts(Window::Day), counting, thresholds);
        Self { counts, pending: None }
    }

    fn window_at(&self, window: Window, now: Timestamp) -> (WindowCounts, Moved) {
        let counts = self.counts(window);
        match window.step(counts.resets_at, now) {
            Step::Stays => (counts, Moved::No),
            Step::Rolls(resets_at) => {
                let limits = self.pending(window).unwrap_or_else(|| counts.limits());
                (counts.next(limits, resets_at), Moved::Rolled)
            }
            Step::Mended(resets_at) => (counts.mended(resets_at), Moved::Mended),
        }
    }

    fn set_pending(&mut self, window: Window, limits: Option<WindowLimits>) {
        let mut pending = self.pending.as_deref().copied().unwrap_or_default();
        match window {
            Window::Minute => pending.minute = limits,
            Window::Day => pending.day = limits,
        }
        self.pending = (pending != Pending::default()).then(|| Box::new(pending));
    }
}

impl StagedScope {
    pub(crate) const fn counts(&self) -> ScopeCounts {
        ScopeCounts::new(self.minute.0, self.day.0, self.counting, self.thresholds)
    }

    pub(crate) fn admits(&self, charge: &Charge) -> bool {
        self.minute.0.admits(charge) && self.day.0.admits(charge)
    }

    pub(crate) fn add(&mut self, charge: &Charge) {
        self.minute.0.add(charge);
        self.day.0.add(charge);
    }

    /// Tells the thresholds of a rule of this scope that are reached and were not told yet.
    pub(crate) fn tell<'a>(
        &mut self,
        rule: Rule,
        asset: Option<&'a AssetId>,
    ) -> impl Iterator<Item = Crossing> + use<'a> {
        let counts = match rule.window {
            Window::Minute => &mut self.minute.0,
            Window::Day => &mut self.day.0,
        };
        let resets_at = counts.resets_at;
        let meter = match rule.unit {
            Unit::Requests => &mut counts.requests,
            Unit::Tokens => &mut counts.tokens,
        };
        let percents = meter.tell(self.thresholds);
        let meter = *meter;
        percents.map(move |percent| Crossing::of_rule(rule, asset, percent, &meter, resets_at))
    }

    /// Makes each window that is still the admitting one what it would have been had `actual` been charged there
    /// instead of `charged`, and adds the overrun to every other.
    pub(crate) fn settle(
        &mut self,
        admitted: &[Option<WindowId>; 2],
        charged: &Charge,
        actual: &Charge,
        overrun: &Charge,
    ) {
        let counts = self.counts();
        let windows = [&mut self.minute.0, &mut self.day.0];
        for ((window, kind), admitted) in windows.into_iter().zip(Window::ALL).zip(admitted) {
            if *admitted == Some(counts.id(kind)) {
                window.correct(charged, actual);
            } else {
                window.add(overrun);
            }
        }
    }

    /// The ends of the windows.
    pub(crate) const fn ends(&self) -> [Timestamp; 2] {
        [self.minute.0.resets_at(), self.day.0.resets_at()]
    }
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScopeState {
    minute: RawWindowState,
    day: RawWindowState,
    counting: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindowState {
    counts: WindowCounts,
    #[serde(deserialize_with = "required")]
    pending: Option<WindowLimits>,
}

impl From<ScopeState> for RawScopeState {
    fn from(scope: ScopeState) -> Self {
        let raw = |window| RawWindowState {
            counts: scope.counts(window),
            pending: scope.pending(window),
        };
        let counting = scope.counting();
        Self { minute: raw(Window::Minute), day: raw(Window::Day), counting }
    }
}

impl TryFrom<RawScopeState> for ScopeState {
    type Error = InvalidValue;

    fn try_from(raw: RawScopeState) -> Result<Self, InvalidValue> {
        let windows = [(Window::Minute, raw.minute.counts), (Window::Day, raw.day.counts)];
        if windows.iter().any(|(window, counts)| !counts.is_aligned(*window)) {
            let what = "a window does not end where windows of its kind end";
            return Err(InvalidValue::Inconsistent { what });
        }
        let [minute, day] = [raw.minute.counts, raw.day.counts].map(WindowCounts::normalized);
        let counts = ScopeCounts::new(minute, day, raw.counting, Thresholds::NONE);
        let mut scope = Self { counts, pending: None };
        scope.set_pending(Window::Minute, raw.minute.pending);
        scope.set_pending(Window::Day, raw.day.pending);
        Ok(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
    const NEXT_MINUTE: Timestamp = Timestamp::from_unix_ms(1_760_011_260_000);
    const NEXT_DAY: Timestamp = Timestamp::from_unix_ms(1_760_054_400_000);

    fn requests_per_minute(limit: u64) -> Limits {
        Limits::builder().requests_per_minute(limit).build().unwrap()
    }

    fn in_force_at(scope: &ScopeState, now: Timestamp) -> Option<u64> {
        scope.at(now)?.counts(Window::Minute).requests().limit()
    }

    #[test]
    fn a_change_comes_with_the_next_window() {
        let mut scope = ScopeState::in_force(requests_per_minute(1), NOON, 1, Thresholds::NONE);
        ScopeState::configure(&mut scope, requests_per_minute(5), NOON, 2, Thresholds::NONE);
        let scope = scope.unwrap();
        assert_eq!(in_force_at(&scope, NOON), Some(1));
        assert_eq!(in_force_at(&scope, NEXT_MINUTE), Some(5));
    }

    #[test]
    fn a_second_change_replaces_the_pending_one() {
        let mut scope = ScopeState::in_force(requests_per_minute(1), NOON, 1, Thresholds::NONE);
        ScopeState::configure(&mut scope, requests_per_minute(5), NOON, 2, Thresholds::NONE);
        ScopeState::configure(&mut scope, requests_per_minute(7), NOON, 2, Thresholds::NONE);
        assert_eq!(in_force_at(&scope.unwrap(), NEXT_MINUTE), Some(7));
    }

    #[test]
    fn a_change_back_drops_the_pending_one() {
        let mut scope = ScopeState::in_force(requests_per_minute(1), NOON, 1, Thresholds::NONE);
        let before = scope.clone();
        ScopeState::configure(&mut scope, requests_per_minute(5), NOON, 2, Thresholds::NONE);
        ScopeState::configure(&mut scope, requests_per_minute(1), NOON, 2, Thresholds::NONE);
        assert_eq!(scope, before);
    }

    #[test]
    fn saving_what_is_configured_does_not_even_move_the_window() {
        let mut scope = ScopeState::in_force(requests_per_minute(1), NOON, 1, Thresholds::NONE);
        let before = scope.clone();
        ScopeState::configure(&mut scope, requests_per_minute(1), NEXT_DAY, 2, Thresholds::NONE);
        assert_eq!(scope, before);
    }

    #[test]
    fn an_asset_added_and_removed_again_is_not_counted() {
        let mut scope = None;
        ScopeState::configure(&mut scope, requests_per_minute(1), NOON, 2, Thresholds::NONE);
        assert!(scope.is_some());
        ScopeState::configure(&mut scope, Limits::NONE, NOON, 2, Thresholds::NONE);
        assert_eq!(scope, None);
    }

    #[test]
    fn a_cleared_scope_is_over_when_both_windows_have_ended() {
        let limits = Limits::builder().requests_per_minute(1).requests_per_day(1).build().unwrap();
        let mut scope = ScopeState::in_force(limits, NOON, 1, Thresholds::NONE);
        ScopeState::configure(&mut scope, Limits::NONE, NOON, 2, Thresholds::NONE);
        let scope = scope.unwrap();
        assert!(scope.at(NEXT_MINUTE).is_some());
        assert!(scope.at(NEXT_DAY).is_none());
    }

    #[test]
    fn saved_counts_of_a_window_that_cannot_be_are_refused() {
        let scope =
            ScopeState::in_force(requests_per_minute(1), NOON, 1, Thresholds::NONE).unwrap();
        let json = serde_json::to_string(&scope).unwrap();
        assert_eq!(serde_json::from_str::<ScopeState>(&json).unwrap(), scope);
        let shifted = json.replace("1760011260000", "1760011260001");
        assert!(serde_json::from_str::<ScopeState>(&shifted).is_err());
    }
}
