//! Counts, and how they are charged: one meter for every rule and for the budget.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, TokenType, WindowLimits, counted};
use crate::window::Window;

/// How much is used, and how much may be.
///
/// Without a limit it counts all the same and admits everything.
///
/// It keeps what is left rather than what is used: that is all a decision needs to look at, and the
/// limit is read only to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawMeter", into = "RawMeter")]
pub struct Meter {
    /// What is left of the limit, or of [`MAX_COUNT`] without one; negative where more was used.
    left: i64,
    /// [`UNLIMITED`], above every count that can be, where there is no limit.
    limit: u64,
}

impl Meter {
    /// Nothing used yet. The limit is at most [`MAX_COUNT`], as its source has checked.
    #[must_use]
    pub(crate) const fn new(limit: Option<u64>) -> Self {
        match limit {
            Some(limit) => Self { left: limit.cast_signed(), limit },
            None => Self { left: MAX_COUNT.cast_signed(), limit: UNLIMITED },
        }
    }

    /// How much is used. It exceeds the limit where more was used than had been estimated.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.capacity().saturating_sub(self.left).cast_unsigned()
    }

    /// How much may be used, if that is limited.
    #[must_use]
    pub const fn limit(&self) -> Option<u64> {
        if self.limit == UNLIMITED { None } else { Some(self.limit) }
    }

    /// How much is left, at least 0, if there is a limit.
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        match self.limit() {
            Some(_) if self.left < 0 => Some(0),
            Some(_) => Some(self.left.cast_unsigned()),
            None => None,
        }
    }

    /// Whether `amount` more is allowed.
    ///
    /// A call that makes a request needs at least one unit left, also when it adds nothing yet; a top-up
    /// that adds nothing is always allowed.
    #[must_use]
    pub(crate) const fn admits(&self, amount: u64, makes_request: bool) -> bool {
        let needed = match (amount, makes_request) {
            (0, true) => 1,
            (0, false) => return true,
            (amount, _) => amount,
        };
        self.limit == UNLIMITED || self.has_room(needed)
    }

    /// Whether `needed` is left, of the limit or of what can be counted at all.
    ///
    /// Where there is room, nothing is refused and nothing runs over, whatever the limit.
    #[must_use]
    #[inline]
    pub(crate) const fn has_room(&self, needed: u64) -> bool {
        needed.cast_signed() <= self.left
    }

    /// Adds to the count, where there [is room](Self::has_room).
    #[inline]
    pub(crate) const fn take(&mut self, amount: u64) {
        self.left = self.left.wrapping_sub(amount.cast_signed());
    }

    /// Adds to the count, which stays at [`MAX_COUNT`] where it would pass it.
    pub(crate) const fn add(&mut self, amount: u64) {
        let countable = MAX_COUNT.saturating_sub(self.used());
        self.take(if amount > countable { countable } else { amount });
    }

    pub(crate) const fn set_limit(&mut self, limit: Option<u64>) {
        let used = self.used();
        *self = Self::new(limit);
        self.take(used);
    }

    /// What is left when nothing is used.
    const fn capacity(&self) -> i64 {
        (if self.limit == UNLIMITED { MAX_COUNT } else { self.limit }).cast_signed()
    }
}

/// The counts of one window of one scope, with the limits that are in force in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCounts {
    pub(crate) resets_at: Timestamp,
    pub(crate) requests: Meter,
    pub(crate) tokens: Meter,
    pub(crate) token_type: TokenType,
}

impl WindowCounts {
    /// A window without any count yet.
    pub(crate) const fn new(limits: WindowLimits, resets_at: Timestamp) -> Self {
        Self {
            resets_at,
            requests: Meter::new(limits.requests()),
            tokens: Meter::new(limits.tokens()),
            token_type: limits.token_type(),
        }
    }

    /// When the window ends and counting starts again from zero.
    #[must_use]
    pub const fn resets_at(&self) -> Timestamp {
        self.resets_at
    }

    /// Requests.
    #[must_use]
    pub const fn requests(&self) -> &Meter {
        &self.requests
    }

    /// Tokens, counted as [`token_type`](Self::token_type) says.
    #[must_use]
    pub const fn tokens(&self) -> &Meter {
        &self.tokens
    }

    /// Which tokens are counted.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// The limits in force in this window.
    #[must_use]
    pub const fn limits(&self) -> WindowLimits {
        WindowLimits::new(self.requests.limit(), self.tokens.limit(), self.token_type)
    }

    pub(crate) const fn admits(&self, charge: &Charge) -> bool {
        let makes_request = charge.requests() > 0;
        self.requests.admits(charge.requests(), makes_request)
            && self.tokens.admits(charge.tokens(self.token_type), makes_request)
    }

    pub(crate) const fn add(&mut self, charge: &Charge) {
        self.requests.add(charge.requests());
        self.tokens.add(charge.tokens(self.token_type));
    }

    /// Whether a window of this kind can end when these counts say.
    pub(crate) fn is_aligned(&self, window: Window) -> bool {
        window.end(window.start(self.resets_at)) == self.resets_at
    }
}

/// The counts of one scope: its minute and its day.
///
/// What is left stands side by side for all four meters, so that the common case, in which all of them
/// have room, is decided with a few instructions. All else looks at one [window](Self::window) at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScopeCounts {
    /// Requests and tokens of the minute, then of the day, as in [`Meter`].
    left: [i64; 4],
    limits: [u64; 4],
    resets_at: [Timestamp; 2],
    token_types: [TokenType; 2],
}

impl ScopeCounts {
    /// What stands for a scope that is not counted: no rule, no end.
    pub(crate) const UNCOUNTED: Self = {
        let end = Timestamp::from_window_end(i64::MAX);
        let window = WindowCounts::new(WindowLimits::NONE, end);
        Self::new(window, window)
    };

    pub(crate) const fn new(minute: WindowCounts, day: WindowCounts) -> Self {
        let meters = [minute.requests, minute.tokens, day.requests, day.tokens];
        let [a, b, c, d] = meters;
        Self {
            left: [a.left, b.left, c.left, d.left],
            limits: [a.limit, b.limit, c.limit, d.limit],
            resets_at: [minute.resets_at, day.resets_at],
            token_types: [minute.token_type, day.token_type],
        }
    }

    pub(crate) const fn window(&self, window: Window) -> WindowCounts {
        let [requests_a, tokens_a, requests_b, tokens_b] = self.left;
        let [requests_limit_a, tokens_limit_a, requests_limit_b, tokens_limit_b] = self.limits;
        let ([end_a, end_b], [type_a, type_b]) = (self.resets_at, self.token_types);
        match window {
            Window::Minute => WindowCounts {
                resets_at: end_a,
                requests: Meter { left: requests_a, limit: requests_limit_a },
                tokens: Meter { left: tokens_a, limit: tokens_limit_a },
                token_type: type_a,
            },
            Window::Day => WindowCounts {
                resets_at: end_b,
                requests: Meter { left: requests_b, limit: requests_limit_b },
                tokens: Meter { left: tokens_b, limit: tokens_limit_b },
                token_type: type_b,
            },
        }
    }

    /// Whether a charge that makes a request simply fits at `now`: both windows go on, and nothing runs out
    /// or over.
    #[inline]
    pub(crate) fn fits(&self, amounts: &Amounts, now: Timestamp) -> bool {
        let [minute_end, day_end] = self.resets_at;
        // A new call needs one unit left also where it adds nothing.
        let room = |(left, amount): (&i64, i64)| *left >= amount.max(1);
        Window::Minute.stays(minute_end, now)
            && Window::Day.stays(day_end, now)
            && self.left.iter().zip(self.amounts(amounts)).all(room)
    }

    /// Charges what [fits](Self::fits), and answers the counts as they are then.
    #[inline]
    pub(crate) fn take(&mut self, amounts: &Amounts) -> Self {
        let mut left = self.left;
        for (left, amount) in left.iter_mut().zip(self.amounts(amounts)) {
            *left = left.wrapping_sub(amount);
        }
        self.left = left;
        Self { left, ..*self }
    }

    #[inline]
    fn amounts(&self, amounts: &Amounts) -> [i64; 4] {
        let [minute_type, day_type] = self.token_types;
        let requests = amounts.requests();
        [requests, amounts.tokens(minute_type), requests, amounts.tokens(day_type)]
    }
}

impl fmt::Debug for ScopeCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Window::ALL.map(|window| self.window(window))).finish()
    }
}

#[derive(Serialize, Deserialize)]
struct RawMeter {
    used: u64,
    limit: Option<u64>,
}

impl TryFrom<RawMeter> for Meter {
    type Error = InvalidValue;

    fn try_from(raw: RawMeter) -> Result<Self, InvalidValue> {
        let limit = raw.limit.map(|limit| counted("a limit", limit)).transpose()?;
        let mut meter = Self::new(limit);
        meter.add(counted("a count", raw.used)?);
        Ok(meter)
    }
}

impl From<Meter> for RawMeter {
    fn from(meter: Meter) -> Self {
        Self { used: meter.used(), limit: meter.limit() }
    }
}

const UNLIMITED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(used: u64, limit: u64) -> Meter {
        let mut meter = Meter::new(Some(limit));
        meter.add(used);
        meter
    }

    #[test]
    fn what_fits_exactly_is_admitted() {
        assert!(meter(7, 10).admits(3, true));
        assert!(!meter(7, 10).admits(4, true));
    }

    #[test]
    fn a_new_call_of_unknown_cost_needs_one_unit_left() {
        assert!(meter(9, 10).admits(0, true));
        assert!(!meter(10, 10).admits(0, true));
        assert!(!meter(0, 0).admits(0, true));
    }

    #[test]
    fn a_top_up_of_nothing_is_admitted_even_in_debt() {
        assert!(meter(12, 10).admits(0, false));
        assert!(!meter(12, 10).admits(1, false));
    }

    #[test]
    fn without_a_limit_everything_is_admitted_and_counted() {
        let mut meter = Meter::new(None);
        meter.add(MAX_COUNT);
        meter.add(MAX_COUNT);
        assert_eq!(meter.used(), MAX_COUNT);
        assert!(meter.admits(MAX_COUNT, true));
        assert_eq!(meter.remaining(), None);
    }

    #[test]
    fn the_largest_limit_is_a_limit() {
        assert!(meter(0, MAX_COUNT).admits(MAX_COUNT, true));
        assert!(!meter(1, MAX_COUNT).admits(MAX_COUNT, true));
        assert!(!meter(MAX_COUNT, MAX_COUNT).admits(0, true));
    }

    #[test]
    fn what_is_left_is_never_negative() {
        assert_eq!(meter(12, 10).remaining(), Some(0));
    }
}
