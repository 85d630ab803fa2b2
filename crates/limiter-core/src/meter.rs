//! How much is used, and how much may be: one meter for every rule and for the budget.

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, counted};
use crate::saved::required;
use crate::thresholds::Thresholds;

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
    /// How many thresholds were told of this count.
    pub(crate) told: u8,
}

/// A meter as a decision looks at it.
///
/// It keeps what can be charged before there is anything to say: before a threshold is reached that was not told yet, or
/// else before the limit is passed. So a call that reaches no threshold does not look at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gauge {
    ahead: i64,
    limit: u64,
    told: u8,
    thresholds: Thresholds,
}

impl Meter {
    /// Nothing used yet. The limit is at most [`MAX_COUNT`], as its source has checked.
    #[must_use]
    pub(crate) const fn new(limit: Option<u64>) -> Self {
        match limit {
            Some(limit) => Self { left: limit.cast_signed(), limit, told: 0 },
            None => Self { left: MAX_COUNT.cast_signed(), limit: UNLIMITED, told: 0 },
        }
    }

    /// A meter of which so many thresholds were told, and which can be charged this much before the next is reached, or
    /// before the limit is passed; [`MAX_COUNT`] less what is used without one. For stores that keep it elsewhere.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] for a limit above [`MAX_COUNT`]; [`InvalidValue::Inconsistent`] if less than
    /// nothing or more than [`MAX_COUNT`] were used, or more thresholds were told than there are.
    pub fn with_ahead(
        ahead: i64,
        limit: Option<u64>,
        told: u8,
        thresholds: Thresholds,
    ) -> Result<Self, InvalidValue> {
        let full = Self::new(limit.map(|limit| counted("a limit", limit)).transpose()?);
        if usize::from(told) > thresholds.percents().count() {
            return Err(InvalidValue::Inconsistent {
                what: "a threshold that is not there was told",
            });
        }
        let left = ahead.saturating_add(thresholds.floor(limit, told));
        let used = full.capacity().checked_sub(left).and_then(|used| u64::try_from(used).ok());
        match used {
            Some(0..=MAX_COUNT) => Ok(Self { left, told, ..full }),
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

    /// Another limit of what is used already. What of the thresholds it has passed by itself is not told.
    pub(crate) fn set_limit(&mut self, limit: Option<u64>, thresholds: Thresholds) {
        let used = self.used();
        *self = Self::new(limit);
        self.take(used);
        self.told = self.reached(thresholds);
    }

    /// Other thresholds: those that are no higher than one that was told, or were passed before, are not told.
    pub(crate) fn set_thresholds(&mut self, before: Thresholds, after: Thresholds) {
        let highest = before.percents().take(self.told.into()).last().unwrap_or(0);
        let covered = after.percents().take_while(|percent| *percent <= highest).count();
        self.told = self.reached(after).max(u8::try_from(covered).unwrap_or(u8::MAX));
    }

    /// Tells the thresholds that are reached and were not told yet: which, in percent.
    pub(crate) fn tell(&mut self, thresholds: Thresholds) -> impl Iterator<Item = u8> + use<> {
        let before = self.told;
        self.told = before.max(self.reached(thresholds));
        thresholds.between(before, self.told)
    }

    /// How many thresholds are reached.
    fn reached(&self, thresholds: Thresholds) -> u8 {
        let next = |told| Some(thresholds.floor(self.limit(), told)).filter(|floor| *floor > 0);
        let mut told = 0_u8;
        while next(told).is_some_and(|floor| self.left < floor) {
            told = told.saturating_add(1);
        }
        told
    }

    /// What is left when nothing is used.
    const fn capacity(&self) -> i64 {
        (if self.limit == UNLIMITED { MAX_COUNT } else { self.limit }).cast_signed()
    }
}

impl Gauge {
    #[inline]
    pub(crate) const fn new(meter: Meter, thresholds: Thresholds) -> Self {
        let Meter { left, limit, told } = meter;
        let ahead = left.saturating_sub(thresholds.floor(meter.limit(), told));
        Self { ahead, limit, told, thresholds }
    }

    #[inline]
    pub(crate) const fn meter(&self) -> Meter {
        let Self { ahead, limit, told, thresholds } = *self;
        let full = Meter { left: ahead, limit, told };
        Meter { left: ahead.saturating_add(thresholds.floor(full.limit(), told)), ..full }
    }

    #[inline]
    pub(crate) const fn of(ahead: i64, limit: u64, told: u8, thresholds: Thresholds) -> Self {
        Self { ahead, limit, told, thresholds }
    }

    pub(crate) const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    pub(crate) const fn ahead(&self) -> i64 {
        self.ahead
    }

    /// Whether `needed` can be charged, and nothing is refused, runs over or is to be told, whatever the limit.
    #[inline]
    pub(crate) const fn has_room(&self, needed: u64) -> bool {
        needed.cast_signed() <= self.ahead
    }

    /// Adds to the count, where there [is room](Self::has_room).
    #[inline]
    pub(crate) const fn take(&mut self, amount: u64) {
        self.ahead = self.ahead.wrapping_sub(amount.cast_signed());
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeter {
    used: u64,
    #[serde(deserialize_with = "required")]
    limit: Option<u64>,
    told: u8,
}

impl TryFrom<RawMeter> for Meter {
    type Error = InvalidValue;

    fn try_from(raw: RawMeter) -> Result<Self, InvalidValue> {
        let limit = raw.limit.map(|limit| counted("a limit", limit)).transpose()?;
        let mut meter = Self::new(limit);
        meter.add(counted("a count", raw.used)?);
        Ok(Self { told: raw.told, ..meter })
    }
}

impl From<Meter> for RawMeter {
    fn from(meter: Meter) -> Self {
        Self { used: meter.used(), limit: meter.limit(), told: meter.told }
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
    fn what_can_be_charged_ends_before_a_threshold_and_then_at_the_limit() {
        let ahead = |used| Gauge::new(meter(used, 10), Thresholds::default()).ahead();
        assert_eq!((ahead(0), ahead(7), ahead(8)), (7, 0, -1));
        let told = |told| Gauge::new(Meter { told, ..meter(8, 10) }, Thresholds::default()).ahead();
        assert_eq!((told(1), told(2)), (1, 2));
    }

    #[test]
    fn a_meter_that_is_kept_by_what_is_ahead_is_the_same_again() {
        let thresholds = Thresholds::new([1, 50, 100]).unwrap();
        for limit in [None, Some(0), Some(1), Some(7), Some(100), Some(MAX_COUNT)] {
            for (used, told) in [(0, 0), (1, 1), (50, 2), (100, 3), (MAX_COUNT, 3)] {
                let mut meter = Meter { told, ..Meter::new(limit) };
                meter.add(used);
                let gauge = Gauge::new(meter, thresholds);
                assert_eq!(gauge.meter(), meter);
                let kept = Meter::with_ahead(gauge.ahead(), limit, told, thresholds);
                assert_eq!(kept, Ok(meter), "{used} of {limit:?}");
            }
        }
    }

    #[test]
    fn a_meter_that_cannot_be_is_refused() {
        let thresholds = Thresholds::default();
        for (ahead, limit, told) in [
            (0, Some(10), 3),
            (8, Some(10), 0),
            (10 - MAX_COUNT.cast_signed() - 1, Some(10), 2),
            (i64::MIN, Some(10), 0),
            (0, Some(MAX_COUNT + 1), 0),
        ] {
            let kept = Meter::with_ahead(ahead, limit, told, thresholds);
            assert!(kept.is_err(), "{ahead} ahead of {limit:?}: {kept:?}");
        }
    }

    #[test]
    fn each_threshold_is_told_once() {
        let thresholds = Thresholds::default();
        let mut meter = meter(7, 10);
        let mut told = Vec::new();
        for (charged, actual) in [(0, 1), (1, 0), (0, 2), (2, 3), (3, 0), (0, 5)] {
            meter.correct(charged, actual);
            told.push(meter.tell(thresholds).collect::<Vec<_>>());
        }
        assert_eq!(told, [vec![80], vec![], vec![], vec![100], vec![], vec![]]);
    }

    #[test]
    fn other_thresholds_count_those_as_told_that_are_passed_or_below() {
        let [default, other] = [Thresholds::default(), Thresholds::new([50, 70, 90]).unwrap()];
        // (used, told of the default ones, told of the others)
        for (used, before, after) in [(49, 0, 0), (50, 0, 1), (79, 0, 2), (0, 1, 2), (95, 1, 3)] {
            let mut meter = Meter { told: before, ..meter(used, 100) };
            meter.set_thresholds(default, other);
            assert_eq!(meter.told, after, "{used} used, {before} told");
        }
    }

    #[test]
    fn of_another_limit_only_what_is_passed_counts_as_told() {
        let thresholds = Thresholds::default();
        for (limit, told) in [(None, 0), (Some(0), 0), (Some(8), 2), (Some(10), 1), (Some(11), 0)] {
            let mut meter = Meter { told: 2, ..meter(8, 8) };
            meter.set_limit(limit, thresholds);
            assert_eq!((meter.told, meter.used(), meter.limit()), (told, 8, limit));
        }
    }

    #[test]
    fn what_is_left_is_never_negative() {
        assert_eq!(meter(12, 10).remaining(), Some(0));
    }
}
