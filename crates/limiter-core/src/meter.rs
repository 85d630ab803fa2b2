//! How much is used, and how much may be: one meter for every rule and for the budget.

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, counted};

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
    pub(crate) left: i64,
    /// [`UNLIMITED`], above every count that can be, where there is no limit.
    pub(crate) limit: u64,
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

    /// A meter of which this much is left: of the limit, or of [`MAX_COUNT`] without one. For stores that keep
    /// it elsewhere.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] for a limit above [`MAX_COUNT`]; [`InvalidValue::Inconsistent`] if less than
    /// nothing or more than [`MAX_COUNT`] were used.
    pub fn with_left(left: i64, limit: Option<u64>) -> Result<Self, InvalidValue> {
        let full = Self::new(limit.map(|limit| counted("a limit", limit)).transpose()?);
        let used = full.capacity().checked_sub(left).and_then(|used| u64::try_from(used).ok());
        match used {
            Some(0..=MAX_COUNT) => Ok(Self { left, ..full }),
            _ => Err(InvalidValue::Inconsistent { what: "a count is out of bounds" }),
        }
    }

    /// What is left of the limit, or of [`MAX_COUNT`] without one; negative where more was used.
    #[must_use]
    pub const fn left(&self) -> i64 {
        self.left
    }

    /// How much is used.
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

    /// Makes the count what it would have been had `actual` been added instead of `charged`. A count that stayed at
    /// [`MAX_COUNT`] is lowered from there.
    pub(crate) const fn correct(&mut self, charged: u64, actual: u64) {
        if actual >= charged {
            self.add(actual.saturating_sub(charged));
        } else {
            let less = charged.saturating_sub(actual);
            let used = self.used();
            let less = if less > used { used } else { less };
            self.left = self.left.wrapping_add(less.cast_signed());
        }
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
