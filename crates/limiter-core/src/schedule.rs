//! A scope of a key: its record, and the limits that are pending for the next windows.

use serde::{Deserialize, Serialize};

use crate::charge::Amount;
use crate::clock::Timestamp;
use crate::error::InvalidValue;
use crate::limits::{Limits, WindowLimits};
use crate::meter::{Meter, UNLIMITED};
use crate::record::{CREDITS, Record, Span, WindowCounts, meters_of};
use crate::thresholds::Thresholds;
use crate::window::Window;

/// A scope: its counts, the limits in force, and for each window at most one change of its limits, which comes into force
/// when that window ends.
///
/// A change is always pending for the window after the stored one. The change itself moves the stored windows to the
/// current ones, and every later move to a new window puts it in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawScopeState", into = "RawScopeState")]
pub struct ScopeState {
    pub(crate) record: Record,
    /// Boxed because it is rare, and the size of this struct decides what a key costs in memory.
    pending: Option<Box<Pending>>,
}

/// The changes that come with the next minute and the next day.
pub(crate) type Pending = [Option<WindowLimits>; 2];

impl ScopeState {
    /// Creates a scope from its stored parts: its record, and the limits that are pending for each window.
    ///
    /// # Errors
    /// [`InvalidValue::Inconsistent`] if no limit is in force or pending.
    pub fn from_parts(
        record: Record,
        pending: [Option<WindowLimits>; 2],
    ) -> Result<Self, InvalidValue> {
        let mut scope = Self { record, pending: None };
        scope.set_pending(pending);
        if scope.is_over() {
            return Err(InvalidValue::Inconsistent { what: "a scope without limits is counted" });
        }
        Ok(scope)
    }

    /// Creates the global scope of a key, which counts credits, and requests and tokens while they have limits.
    pub(crate) fn global(credits: Meter, thresholds: Thresholds) -> Self {
        let mut record = Record { thresholds, ..Record::UNCOUNTED };
        record.counts[CREDITS] = Amount::Credits;
        record.set_meter(CREDITS, credits);
        Self { record, pending: None }
    }

    /// Creates the scope of an asset that is counted from now on, as yet without limits in force.
    pub(crate) fn asset(now: Timestamp, generation: u32, thresholds: Thresholds) -> Self {
        let mut scope = Self { record: Record { thresholds, ..Record::UNCOUNTED }, pending: None };
        scope.begin(now, generation);
        scope
    }

    /// Starts to count a minute and a day, without limits.
    pub(crate) fn begin(&mut self, now: Timestamp, generation: u32) {
        self.record.generation = generation;
        for window in Window::ALL {
            self.record.set_span(window, Span { end: window.end(now), rebases: 0 });
            self.record.set_window_limits(window, WindowLimits::NONE);
        }
    }

    /// Stops counting a minute and a day.
    pub(crate) fn end(&mut self) {
        let none = Record::UNCOUNTED;
        self.record.generation = 0;
        for window in Window::ALL {
            self.record.set_span(window, none.span(window));
            for meter in meters_of(window) {
                self.record.limits[meter] = UNLIMITED;
                self.record.counts[meter] = Amount::Nothing;
                (self.record.values[meter], self.record.marks[meter]) = (none.values[meter], 0);
            }
        }
        self.pending = None;
    }

    /// Puts limits in force at once, as those of a new key are.
    pub(crate) fn with_limits_now(mut self, limits: Limits) -> Self {
        for window in Window::ALL {
            self.record.set_window_limits(window, limits.of(window));
        }
        self
    }

    /// Returns the record: the stored numbers, and the limits in force.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Returns the counts of one window, as they were stored.
    #[must_use]
    pub fn counts(&self, window: Window) -> WindowCounts {
        WindowCounts::of(&self.record, window)
    }

    /// Returns the change that comes into force when the window ends.
    #[must_use]
    pub fn pending(&self, window: Window) -> Option<WindowLimits> {
        self.pending_limits()[window.place()]
    }

    pub(crate) fn pending_limits(&self) -> Pending {
        self.pending.as_deref().copied().unwrap_or_default()
    }

    pub(crate) fn set_pending(&mut self, pending: Pending) {
        self.pending = (pending != Pending::default()).then(|| Box::new(pending));
    }

    /// Returns the limits as an admin last set them: those pending, or else those in force.
    #[must_use]
    pub fn configured(&self) -> Limits {
        let configured =
            |window| self.pending(window).unwrap_or_else(|| self.record.window_limits(window));
        Limits::from_parts(configured(Window::Minute), configured(Window::Day))
    }

    /// Sets the thresholds of counts that were saved without them.
    pub(crate) fn with_thresholds(self, thresholds: Thresholds) -> Result<Self, InvalidValue> {
        let mut record = Record { thresholds, ..self.record };
        for meter in Window::ALL.into_iter().flat_map(meters_of) {
            record.set_meter(meter, self.record.meter(meter));
        }
        record.check().map(|()| Self { record, ..self })
    }

    /// Returns whether minute and day are counted, though no limit is in force or pending any more.
    pub(crate) fn is_over(&self) -> bool {
        self.record.has_windows()
            && self.pending.is_none()
            && Window::ALL.into_iter().all(|window| self.record.window_limits(window).is_none())
    }
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScopeState {
    minute: RawWindowState,
    day: RawWindowState,
    generation: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindowState {
    counts: WindowCounts,
    #[serde(deserialize_with = "Option::deserialize")]
    pending: Option<WindowLimits>,
}

impl From<ScopeState> for RawScopeState {
    fn from(scope: ScopeState) -> Self {
        let raw = |window| RawWindowState {
            counts: scope.counts(window),
            pending: scope.pending(window),
        };
        let generation = scope.record.generation;
        Self { minute: raw(Window::Minute), day: raw(Window::Day), generation }
    }
}

impl From<RawScopeState> for ScopeState {
    /// Thresholds are not among them: see [`with_thresholds`](Self::with_thresholds).
    fn from(raw: RawScopeState) -> Self {
        let mut record = Record { generation: raw.generation, ..Record::UNCOUNTED };
        for (window, RawWindowState { counts, .. }) in
            [(Window::Minute, &raw.minute), (Window::Day, &raw.day)]
        {
            record.set_window_limits(window, counts.limits());
            record.set_span(window, Span { end: counts.resets_at, rebases: counts.rebases });
            let [requests, tokens] = meters_of(window);
            record.set_meter(requests, counts.requests);
            record.set_meter(tokens, counts.tokens);
        }
        let mut scope = Self { record, pending: None };
        scope.set_pending([raw.minute.pending, raw.day.pending]);
        scope
    }
}
