//! Meters: the amount used and its limit, one for each rule and one for the budget.

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, counted, counted_if_any};
use crate::thresholds::Thresholds;

/// The amount used, and its limit.
///
/// A meter without a limit still counts, and admits everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawMeter", into = "RawMeter")]
pub struct Meter {
    /// The amount left of the limit, or of [`MAX_COUNT`] without one; negative if more was used.
    pub(crate) left: i64,
    /// [`UNLIMITED`], above every possible count, if there is no limit.
    pub(crate) limit: u64,
    /// How many thresholds have fired.
    pub(crate) mark: u8,
}

/// The stops of a meter: its thresholds, and finally its limit.
///
/// A stored meter is a *value* and a *mark*. The mark counts the stops that were passed. The value is the amount that can be
/// taken before the next one. So a call that reaches no stop compares and subtracts one number, and uses no threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stops {
    /// The amount that must be left of the limit so that no further threshold fires, by mark; 0 after the last.
    floors: [i64; STOPS],
    cap: i64,
}

/// The stops of a meter in a [`Step`](crate::operation::Step): those in which the stored value is expressed, and those for the
/// next value. They differ if the limit or the thresholds change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The stops before.
    pub from: Stops,
    /// The mark to start with, by the mark that is stored.
    pub start: [u8; STOPS],
    /// The stops after.
    pub to: Stops,
}

/// The amount to take from a meter, and the least that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// The least that must be there; [`ANY`] if nothing must.
    pub least: i64,
    /// The amount taken; negative to give back.
    pub less: i64,
}

/// The most thresholds, and the limit.
pub const STOPS: usize = Thresholds::MOST + 1;
/// Below every value: no condition.
pub const ANY: i64 = -(1 << 54);

impl Meter {
    /// Creates a meter of which nothing is used. The limit is at most [`MAX_COUNT`], as its source has checked.
    #[must_use]
    pub(crate) const fn new(limit: Option<u64>) -> Self {
        let limit = match limit {
            Some(limit) => limit,
            None => UNLIMITED,
        };
        Self { left: capacity(limit), limit, mark: 0 }
    }

    /// Returns the amount left of the limit, or of [`MAX_COUNT`] without one; negative if more was used.
    #[must_use]
    pub const fn left(&self) -> i64 {
        self.left
    }

    /// Returns the amount used.
    #[must_use]
    pub const fn used(&self) -> u64 {
        capacity(self.limit).saturating_sub(self.left).cast_unsigned()
    }

    /// Returns the limit, if there is one.
    #[must_use]
    pub const fn limit(&self) -> Option<u64> {
        limit_of(self.limit)
    }

    /// Returns the amount left, at least 0, if there is a limit.
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        match self.limit() {
            Some(_) if self.left < 0 => Some(0),
            Some(_) => Some(self.left.cast_unsigned()),
            None => None,
        }
    }

    /// Returns whether `amount` more is allowed.
    ///
    /// A call that makes a request needs at least one unit left, also when it adds nothing yet; a top-up
    /// that adds nothing is always allowed.
    #[must_use]
    pub(crate) const fn admits(&self, amount: u64, makes_request: bool) -> bool {
        self.left >= least(self.limit, amount.cast_signed(), makes_request)
    }

    /// Sets the amount used, at most [`MAX_COUNT`].
    pub(crate) const fn with_used(self, used: u64) -> Self {
        let used = if used > MAX_COUNT { MAX_COUNT } else { used };
        Self { left: capacity(self.limit).saturating_sub(used.cast_signed()), ..self }
    }
}

/// Returns the least that must be left of a limit for a charge of this amount.
pub(crate) const fn least(limit: u64, amount: i64, makes_request: bool) -> i64 {
    match (amount, makes_request) {
        _ if limit == UNLIMITED => ANY,
        (0, true) => 1,
        (0, false) => ANY,
        (amount, _) => amount,
    }
}

/// Returns the amount left when nothing is used.
pub(crate) const fn capacity(limit: u64) -> i64 {
    (if limit == UNLIMITED { MAX_COUNT } else { limit }).cast_signed()
}

/// Returns the limit, if there is one.
pub(crate) const fn limit_of(limit: u64) -> Option<u64> {
    if limit == UNLIMITED { None } else { Some(limit) }
}

impl Stops {
    /// Creates the stops of a limit, or of a meter without one.
    #[must_use]
    pub const fn new(limit: Option<u64>, thresholds: Thresholds) -> Self {
        let mut floors = [0; STOPS];
        let mut mark = 0;
        while mark < Thresholds::MOST {
            floors[mark] = thresholds.floor(limit, mark as u8);
            mark = mark.saturating_add(1);
        }
        let limit = match limit {
            Some(limit) => limit,
            None => MAX_COUNT,
        };
        Self { floors, cap: limit.cast_signed() }
    }

    /// Returns the amount that must be left so that no further threshold fires, by mark; 0 after the last.
    #[must_use]
    pub const fn floors(&self) -> &[i64; STOPS] {
        &self.floors
    }

    /// Returns the value of a meter of which nothing is used.
    #[must_use]
    pub const fn full(&self) -> i64 {
        self.cap.saturating_sub(self.floors[0])
    }

    /// Returns the amount left when nothing is used.
    #[must_use]
    pub const fn cap(&self) -> i64 {
        self.cap
    }

    /// Returns the amount left of the limit.
    pub(crate) fn left(&self, value: i64, mark: u8) -> i64 {
        value.saturating_add(self.floor(mark))
    }

    /// Moves value and mark past every stop that is reached.
    pub(crate) fn reach(&self, left: i64, mut mark: u8) -> (i64, u8) {
        while self.floor(mark) > 0 && left < self.floor(mark) {
            mark = mark.saturating_add(1);
        }
        (left.saturating_sub(self.floor(mark)), mark)
    }

    fn floor(&self, mark: u8) -> i64 {
        self.floors.get(usize::from(mark)).copied().unwrap_or(0)
    }
}

impl Ladder {
    /// Creates a ladder whose stops stay as they are.
    #[must_use]
    pub const fn same(stops: Stops) -> Self {
        Self { from: stops, start: [0, 1, 2, 3, 4], to: stops }
    }

    /// Takes from a meter, if at least the required amount is left of its limit. The count stays between 0 and [`MAX_COUNT`].
    pub(crate) fn take(&self, value: i64, mark: u8, take: Take) -> Option<(i64, u8)> {
        let left = self.from.left(value, mark);
        if left < take.least {
            return None;
        }
        let start = self.start.get(usize::from(mark)).copied().unwrap_or(mark);
        let cap = self.to.cap;
        let left = left.saturating_sub(take.less);
        Some(self.to.reach(left.clamp(cap.saturating_sub(MAX_COUNT.cast_signed()), cap), start))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMeter {
    used: u64,
    #[serde(deserialize_with = "Option::deserialize")]
    limit: Option<u64>,
    mark: u8,
}

impl From<Meter> for RawMeter {
    fn from(meter: Meter) -> Self {
        Self { used: meter.used(), limit: meter.limit(), mark: meter.mark }
    }
}

impl TryFrom<RawMeter> for Meter {
    type Error = InvalidValue;

    fn try_from(raw: RawMeter) -> Result<Self, InvalidValue> {
        let RawMeter { used, limit, mark } = raw;
        let limit = counted_if_any("a limit", limit)?;
        Ok(Self { mark, ..Self::new(limit).with_used(counted("a count", used)?) })
    }
}

/// Stands for no limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes from a meter with this limit and this count. Returns the count afterwards, and the mark.
    fn taken(used: u64, limit: impl Into<Option<u64>>, mark: u8, less: i64) -> (u64, u8) {
        let limit = limit.into();
        let stops = Stops::new(limit, Thresholds::default());
        let full = Meter::new(limit).with_used(used);
        let value = full.left - stops.floor(mark);
        let taken = Ladder::same(stops).take(value, mark, Take { least: ANY, less });
        let (value, mark) = taken.unwrap();
        (Meter { left: stops.left(value, mark), mark, ..full }.used(), mark)
    }

    #[test]
    fn what_fits_is_admitted() {
        let most = Some(MAX_COUNT);
        for (story, used, limit, amount, makes_request, admitted) in [
            ("it fits exactly", 7, Some(10), 3, true, true),
            ("it is one too many", 7, Some(10), 4, true, false),
            ("a new call of unknown cost, one unit left", 9, Some(10), 0, true, true),
            ("a new call of unknown cost, nothing left", 10, Some(10), 0, true, false),
            ("a new call of unknown cost, a limit of 0", 0, Some(0), 0, true, false),
            ("a top-up of nothing in debt", 12, Some(10), 0, false, true),
            ("a top-up of one in debt", 12, Some(10), 1, false, false),
            ("all of the largest limit", 0, most, MAX_COUNT, true, true),
            ("one more than the largest limit", 1, most, MAX_COUNT, true, false),
            ("nothing left of the largest limit", MAX_COUNT, most, 0, true, false),
            ("no limit", MAX_COUNT, None, MAX_COUNT, true, true),
        ] {
            let meter = Meter::new(limit).with_used(used);
            assert_eq!(meter.admits(amount, makes_request), admitted, "{story}");
            assert_eq!(meter.used(), used, "{story}");
            assert_eq!(meter.remaining(), limit.map(|limit| limit.saturating_sub(used)), "{story}");
        }
    }

    #[test]
    fn what_can_be_taken_ends_before_a_threshold_and_then_at_the_limit() {
        let value = |used, mark| {
            Meter::new(Some(10)).with_used(used).left
                - Stops::new(Some(10), Thresholds::default()).floor(mark)
        };
        assert_eq!((value(0, 0), value(7, 0), value(8, 0)), (7, 0, -1));
        assert_eq!((value(8, 1), value(8, 2)), (1, 2));
    }

    #[test]
    fn each_stop_is_passed_once() {
        let marks = |used, mark, less| taken(used, 10, mark, less);
        assert_eq!(marks(7, 0, 1), (8, 1));
        assert_eq!(marks(8, 1, -1), (7, 1), "a threshold that has fired does not fire again");
        assert_eq!(marks(7, 1, 2), (9, 1));
        assert_eq!(marks(7, 0, 5), (12, 2), "both at once");
        assert_eq!(marks(12, 2, -12), (0, 2));
    }

    #[test]
    fn a_count_stays_between_nothing_and_the_largest_number() {
        assert_eq!(taken(1, None, 0, -5), (0, 0));
        assert_eq!(taken(MAX_COUNT - 1, None, 0, 5), (MAX_COUNT, 0));
        assert_eq!(taken(MAX_COUNT, None, 0, -5), (MAX_COUNT - 5, 0));
        assert_eq!(taken(MAX_COUNT - 1, 10, 2, MAX_COUNT.cast_signed()), (MAX_COUNT, 2));
    }
}
