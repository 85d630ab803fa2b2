//! The record of one scope of a key: its counts, and the limits in force.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::charge::{Amount, Amounts};
use crate::clock::Timestamp;
use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, WindowLimits};
use crate::meter::{Ladder, Meter, Stops, UNLIMITED, limit_of};
use crate::rule::Unit;
use crate::thresholds::Thresholds;
use crate::token_type::TokenType;
use crate::window::Window;

/// The meters of a record: requests and tokens of the minute, requests and tokens of the day, credits for ever.
pub const METERS: usize = 5;
/// The windows of a record that end: minute and day.
pub const WINDOWS: usize = 2;
/// The meter of credits, in the global record alone.
pub const CREDITS: usize = 4;

/// The counts of one scope, with the limits in force.
///
/// Everything of a kind stands in an array, so that a decision loops over the meters. A meter that is not counted is always
/// full, and every charge adds nothing to it.
#[derive(Clone, Copy)]
pub struct Record {
    /// The amount that can be taken before the next stop, by meter: see [`Stops`].
    pub(crate) values: [i64; METERS],
    /// [`UNLIMITED`] for no limit.
    pub(crate) limits: [u64; METERS],
    pub(crate) ends: [Timestamp; WINDOWS],
    /// The number that distinguishes this counting of the scope from every other that its key has had.
    pub(crate) generation: u32,
    pub(crate) thresholds: Thresholds,
    /// The number of stops that were passed, by meter.
    pub(crate) marks: [u8; METERS],
    /// The amount of a charge that each meter counts.
    pub(crate) counts: [Amount; METERS],
    /// The number of times that each window was rebased.
    pub(crate) rebases: [u8; WINDOWS],
}

/// One stored window: when it ends, and how often it was rebased after the clock was set right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first instant after it.
    pub end: Timestamp,
    /// The number of times, modulo 256.
    pub rebases: u8,
}

/// The identity of a window: by it a reservation finds the window again, and never another one.
///
/// After a rebase every earlier window is closed. A new counting of the scope never finds the windows of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowId {
    /// The generation of the scope's record.
    pub generation: u32,
    /// The window.
    pub span: Span,
}

impl Record {
    /// Stands for a scope that is not counted: no rule, no window.
    pub const UNCOUNTED: Self = Self {
        values: [MAX_COUNT.cast_signed(); METERS],
        limits: [UNLIMITED; METERS],
        ends: [Timestamp::from_window_end(i64::MAX); WINDOWS],
        generation: 0,
        thresholds: Thresholds::NONE,
        marks: [0; METERS],
        counts: [Amount::Nothing; METERS],
        rebases: [0; WINDOWS],
    };

    /// Returns the number of this counting of the scope.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns whether the scope counts a minute and a day.
    #[must_use]
    #[inline]
    pub const fn has_windows(&self) -> bool {
        !matches!(self.counts[0], Amount::Nothing)
    }

    /// Returns whether the scope counts credits: the global one does.
    #[must_use]
    pub const fn has_credits(&self) -> bool {
        !matches!(self.counts[CREDITS], Amount::Nothing)
    }

    /// Returns the amount that can be taken from each meter before its next stop.
    #[must_use]
    pub const fn values(&self) -> &[i64; METERS] {
        &self.values
    }

    /// Returns the number of stops of each meter that were passed.
    #[must_use]
    pub const fn marks(&self) -> &[u8; METERS] {
        &self.marks
    }

    /// Returns the limit of each meter.
    #[must_use]
    pub fn limits(&self) -> [Option<u64>; METERS] {
        self.limits.map(limit_of)
    }

    /// Returns a stored window.
    #[must_use]
    pub fn span(&self, window: Window) -> Span {
        let at = window.place();
        Span { end: self.ends[at], rebases: self.rebases[at] }
    }

    /// Creates a record of which nothing is used: with these limits of the minute and of the day, if it counts them,
    /// and with a budget of credits, if it counts those.
    #[must_use]
    pub fn with_limits(
        thresholds: Thresholds,
        windows: Option<[WindowLimits; WINDOWS]>,
        budget: Option<Option<u64>>,
    ) -> Self {
        let mut record = Self { thresholds, ..Self::UNCOUNTED };
        for (window, limits) in Window::ALL.into_iter().zip(windows.into_iter().flatten()) {
            record.set_window_limits(window, limits);
        }
        if let Some(budget) = budget {
            record.counts[CREDITS] = Amount::Credits;
            record.set_meter(CREDITS, Meter::new(budget));
        }
        record
    }

    /// Returns the amount of a charge that each meter counts.
    #[must_use]
    pub const fn counts(&self) -> &[Amount; METERS] {
        &self.counts
    }

    /// Returns the record with stored numbers.
    ///
    /// # Errors
    /// [`InvalidValue::Inconsistent`] if a count is below nothing or above [`MAX_COUNT`], if more thresholds have fired
    /// than are configured, or if a window has an impossible end.
    pub fn with_stored(
        &self,
        generation: u32,
        spans: [Span; WINDOWS],
        values: [i64; METERS],
        marks: [u8; METERS],
    ) -> Result<Self, InvalidValue> {
        let record = self.with_unchecked(generation, spans, values, marks);
        record.check().map(|()| record)
    }

    /// Returns the record with unchecked numbers, for tests of operations on impossible ones.
    #[doc(hidden)]
    #[must_use]
    pub fn with_unchecked(
        &self,
        generation: u32,
        spans: [Span; WINDOWS],
        values: [i64; METERS],
        marks: [u8; METERS],
    ) -> Self {
        let mut record = Self { generation, ..*self };
        if self.has_windows() {
            for (window, span) in Window::ALL.into_iter().zip(spans) {
                record.set_span(window, span);
            }
        }
        for meter in self.counted() {
            (record.values[meter], record.marks[meter]) = (values[meter], marks[meter]);
        }
        record
    }

    /// Returns one meter, by the amount left of its limit.
    #[inline]
    pub(crate) fn meter(&self, meter: usize) -> Meter {
        let (limit, mark) = (self.limits[meter], self.marks[meter]);
        let floor = self.thresholds.floor(limit_of(limit), mark);
        Meter { left: self.values[meter].saturating_add(floor), limit, mark }
    }

    pub(crate) fn set_meter(&mut self, place: usize, meter: Meter) {
        let floor = self.thresholds.floor(meter.limit(), meter.mark);
        self.values[place] = meter.left.saturating_sub(floor);
        (self.limits[place], self.marks[place]) = (meter.limit, meter.mark);
    }

    pub(crate) fn stops(&self, meter: usize) -> Stops {
        Stops::new(limit_of(self.limits[meter]), self.thresholds)
    }

    /// Returns the numbers of the meters that are counted.
    pub fn counted(&self) -> impl Iterator<Item = usize> + use<> {
        let counts = self.counts;
        (0..METERS).filter(move |meter| counts[*meter] != Amount::Nothing)
    }

    pub(crate) fn set_span(&mut self, window: Window, span: Span) {
        let at = window.place();
        (self.ends[at], self.rebases[at]) = (span.end, span.rebases);
    }

    pub(crate) fn id(&self, window: Window) -> WindowId {
        WindowId { generation: self.generation, span: self.span(window) }
    }

    /// Returns the limits in force in the windows of this kind.
    pub(crate) fn window_limits(&self, window: Window) -> WindowLimits {
        let [requests, tokens] = meters_of(window).map(|meter| limit_of(self.limits[meter]));
        WindowLimits::new(requests, tokens, self.token_type(window))
    }

    pub(crate) fn token_type(&self, window: Window) -> TokenType {
        let [_, tokens] = meters_of(window);
        self.counts[tokens].token_type()
    }

    /// Sets the limits of a window that begins.
    pub(crate) fn set_window_limits(&mut self, window: Window, limits: WindowLimits) {
        let [requests, tokens] = meters_of(window);
        self.limits[requests] = limits.requests().unwrap_or(UNLIMITED);
        self.limits[tokens] = limits.tokens().unwrap_or(UNLIMITED);
        (self.counts[requests], self.counts[tokens]) =
            (Amount::Requests, Amount::tokens(limits.token_type()));
        for meter in [requests, tokens] {
            (self.values[meter], self.marks[meter]) = (self.stops(meter).full(), 0);
        }
    }

    /// Returns whether both windows go on at `now`, and these amounts can be taken before any stop.
    #[inline(always)]
    pub(crate) fn has(&self, amounts: &Amounts, now: Timestamp) -> bool {
        let [minute, day] = self.ends;
        let goes_on = !self.has_windows()
            || (Window::Minute.stays(minute, now) && Window::Day.stays(day, now));
        // A new call needs one unit left even of meters to which it adds nothing. Below zero if any is: one branch for
        // all meters.
        let least = self.values.iter().zip(&self.counts).fold(0, |all, (value, counts)| {
            all | value.wrapping_sub(amounts.get(*counts)) | value.wrapping_sub(1)
        });
        goes_on && least >= 0
    }

    /// Charges amounts that [it has](Self::has).
    #[inline(always)]
    pub(crate) fn take(&mut self, amounts: &Amounts) {
        for (value, counts) in self.values.iter_mut().zip(&self.counts) {
            *value = value.wrapping_sub(amounts.get(*counts));
        }
    }

    /// Returns the ladders of a step that leaves the stops of the meters as they are.
    pub(crate) fn ladders(&self) -> [Ladder; METERS] {
        std::array::from_fn(|meter| Ladder::same(self.stops(meter)))
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        let inconsistent = |what| Err(InvalidValue::Inconsistent { what });
        let most = self.thresholds.percents().count();
        if self.marks.iter().any(|mark| usize::from(*mark) > most) {
            return inconsistent("more thresholds have fired than are configured");
        }
        let aligned = |window: Window| {
            window.end(window.start(self.span(window).end)) == self.span(window).end
        };
        if self.has_windows() && !Window::ALL.into_iter().all(aligned) {
            return inconsistent("a window does not end where windows of its kind end");
        }
        let possible = |meter: usize| {
            let cap = self.stops(meter).cap();
            let used = cap.checked_sub(self.meter(meter).left).map(u64::try_from);
            matches!(used, Some(Ok(0..=MAX_COUNT)))
        };
        if (0..METERS).all(possible) { Ok(()) } else { inconsistent("a count is out of bounds") }
    }
}

/// Returns the meters of requests and of tokens in a window.
pub(crate) const fn meters_of(window: Window) -> [usize; 2] {
    match window {
        Window::Minute => [0, 1],
        Window::Day => [2, 3],
    }
}

/// Returns the meter of a rule.
pub(crate) const fn meter_of(window: Window, unit: Unit) -> usize {
    let [requests, tokens] = meters_of(window);
    match unit {
        Unit::Requests => requests,
        Unit::Tokens => tokens,
    }
}

/// Equality ignores the identities of windows: equal records decide every future call alike.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        (self.values, self.limits, self.ends) == (other.values, other.limits, other.ends)
            && (self.marks, self.counts, self.thresholds)
                == (other.marks, other.counts, other.thresholds)
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meters: Vec<_> = self.counted().map(|meter| self.meter(meter)).collect();
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .field("spans", &Window::ALL.map(|window| self.span(window)))
            .field("meters", &meters)
            .field("thresholds", &self.thresholds)
            .finish()
    }
}

/// The counts of one window of one scope, with the limits in force in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowCounts {
    pub(crate) resets_at: Timestamp,
    pub(crate) requests: Meter,
    pub(crate) tokens: Meter,
    pub(crate) token_type: TokenType,
    /// The number of times that it was rebased.
    pub(crate) rebases: u8,
}

impl WindowCounts {
    pub(crate) fn of(record: &Record, window: Window) -> Self {
        let [requests, tokens] = meters_of(window).map(|meter| record.meter(meter));
        let Span { end, rebases } = record.span(window);
        let token_type = record.token_type(window);
        Self { resets_at: end, requests, tokens, token_type, rebases }
    }

    /// Returns when the window ends and counting starts again from zero.
    #[must_use]
    pub const fn resets_at(&self) -> Timestamp {
        self.resets_at
    }

    /// Returns the meter of requests.
    #[must_use]
    pub const fn requests(&self) -> &Meter {
        &self.requests
    }

    /// Returns the meter of tokens of the [`token_type`](Self::token_type).
    #[must_use]
    pub const fn tokens(&self) -> &Meter {
        &self.tokens
    }

    /// Returns the type of the tokens that are counted.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// Returns the limits in force in this window.
    #[must_use]
    pub const fn limits(&self) -> WindowLimits {
        WindowLimits::new(self.requests.limit(), self.tokens.limit(), self.token_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScopeState;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn counted() -> Record {
        ScopeState::asset(NOON, 1, Thresholds::default()).record
    }

    #[test]
    fn stored_numbers_that_are_impossible_are_refused() {
        let record = counted();
        let spans = Window::ALL.map(|window| record.span(window));
        let stored = |value, mark| {
            let (mut values, mut marks) = (record.values, [0; METERS]);
            (values[0], marks[0]) = (value, mark);
            record.with_stored(1, spans, values, marks)
        };
        let most = MAX_COUNT.cast_signed();
        for (value, mark) in [(most, 0), (0, 2), (0, 0)] {
            assert!(stored(value, mark).is_ok(), "{value} after {mark}");
        }
        for (value, mark) in [(most + 1, 0), (-1, 0), (i64::MIN, 0), (i64::MAX, 0), (0, 3)] {
            assert!(stored(value, mark).is_err(), "{value} after {mark}");
        }
        let mut shifted = spans;
        shifted[1].end = Timestamp::from_unix_ms(shifted[1].end.unix_ms() + 1);
        assert!(record.with_stored(1, shifted, record.values, record.marks).is_err());
    }
}
