//! Meters: the amount used in a window, and its limit.

use std::fmt;

use crate::charge::Amounts;
use crate::limits::MAX_COUNT;
use crate::rule::Unit;
use crate::thresholds::Thresholds;
use crate::window::Window;

/// The amount used in a window, and its limit.
///
/// A stored meter is a *value* and a *mark*. The mark counts the [stops](Stops) that were passed. The value is the amount that
/// can be taken before the next one. So a call that reaches no stop compares and subtracts one number, and uses no threshold.
/// A meter without a limit still counts, up to [`MAX_COUNT`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    pub(crate) value: i64,
    /// Three bits each of the unit, the window and the mark, and above them the limit. A key has some ten meters, and
    /// this halves them.
    bits: u64,
}

/// The meters of a scope, by window and unit. Most scopes have few: those are taken from and copied without a loop, the unused
/// ones too.
pub(crate) struct Meters {
    /// Unused ones come last.
    few: [Meter; FEW],
    /// Those beyond.
    more: More,
}

/// Boxed, since few scopes have more, and a vector is three times as large.
pub(crate) type More = Option<Box<Vec<Meter>>>;

/// The stops of a meter: its thresholds, and finally its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stops {
    /// The amount that must be left of the limit so that no further threshold fires, by mark; 0 after the last.
    floors: [i64; STOPS],
    cap: i64,
}

/// The stops of a meter in an operation: those in which the stored value is expressed, and those for the next value. They
/// differ if the limit or the thresholds change.
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
const UNITS: usize = Unit::ALL.len();
const WINDOWS: usize = Window::ALL.len();
/// Below every value: no condition.
pub const ANY: i64 = -(1 << 54);

impl Meter {
    /// Stands for no meter: every charge takes nothing from it.
    const UNUSED: Self = Self { value: MAX_COUNT.cast_signed(), bits: PART };

    const fn is_used(&self) -> bool {
        self.bits != Self::UNUSED.bits
    }

    /// Creates a meter of which nothing is used. The limit is at most [`MAX_COUNT`], as its source has checked.
    #[must_use]
    pub(crate) fn new(
        window: Window,
        unit: Unit,
        limit: Option<u64>,
        thresholds: Thresholds,
    ) -> Self {
        let bits =
            (limit.unwrap_or(UNLIMITED) << LIMIT) | ((window as u64) << WINDOW) | unit as u64;
        Self { value: Stops::new(limit, thresholds).full(), bits }
    }

    /// Returns the unit that it counts.
    #[must_use]
    #[inline]
    pub const fn unit(&self) -> Unit {
        // Only `new` writes these bits.
        Unit::ALL[(self.bits & PART) as usize % UNITS]
    }

    /// Returns the window in which it counts.
    #[must_use]
    #[inline]
    pub const fn window(&self) -> Window {
        Window::ALL[(self.bits >> WINDOW & PART) as usize % WINDOWS]
    }

    /// Returns how many thresholds have fired.
    #[must_use]
    #[inline]
    pub const fn mark(&self) -> u8 {
        (self.bits >> MARK & PART) as u8
    }

    /// Returns the limit, if there is one.
    #[must_use]
    #[inline]
    pub const fn limit(&self) -> Option<u64> {
        let limit = self.bits >> LIMIT;
        if limit == UNLIMITED { None } else { Some(limit) }
    }

    /// Returns the place of its unit in [`Unit::ALL`].
    #[inline]
    pub(crate) const fn place(&self) -> usize {
        (self.bits & PART) as usize
    }

    /// Sets the stored numbers.
    #[must_use]
    pub(crate) const fn with_numbers(self, value: i64, mark: u8) -> Self {
        Self { value, bits: self.bits & !(PART << MARK) | (mark as u64 & PART) << MARK }
    }

    /// Returns the stops of its limit.
    #[must_use]
    pub const fn stops(&self, thresholds: Thresholds) -> Stops {
        Stops::new(self.limit(), thresholds)
    }

    /// Returns the amount left of the limit, or of [`MAX_COUNT`] without one; negative if more was used.
    #[must_use]
    pub const fn left(&self, thresholds: Thresholds) -> i64 {
        self.value.saturating_add(thresholds.floor(self.limit(), self.mark()))
    }

    /// Returns the amount used.
    #[must_use]
    #[inline]
    pub const fn used(&self, thresholds: Thresholds) -> u64 {
        capacity(self.limit()).saturating_sub(self.left(thresholds)).cast_unsigned()
    }

    /// Returns whether it has a limit, and anything was counted: also if all of it was given back, once a threshold has fired.
    #[inline]
    pub(crate) fn has_counted(&self, thresholds: Thresholds) -> bool {
        self.limit().is_some() && (self.mark() > 0 || self.used(thresholds) > 0)
    }
}

impl Meters {
    pub(crate) const NONE: Self = Self { few: [Meter::UNUSED; FEW], more: None };

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Meter> {
        let few = self.few.iter().filter(|meter| meter.is_used());
        few.chain(self.more.iter().flat_map(|more| more.iter()))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Meter> {
        let few = self.few.iter_mut().filter(|meter| meter.is_used());
        few.chain(self.more.iter_mut().flat_map(|more| more.iter_mut()))
    }

    /// Copies the few, beside a copy of the others.
    #[inline(always)]
    pub(crate) const fn copy(&self, more: More) -> Self {
        Self { few: self.few, more }
    }

    /// Copies those beyond the few.
    #[inline(always)]
    pub(crate) fn more(&self) -> More {
        match &self.more {
            None => None,
            Some(more) => copy_more(more),
        }
    }

    /// Takes these amounts from all meters. Returns a negative number if anything was missing: from a meter to which nothing is
    /// added, a unit.
    #[inline(always)]
    pub(crate) fn take(&mut self, amounts: &Amounts) -> i64 {
        let mut least = 0;
        let take = |meter: &mut Meter| {
            let value = meter.value.wrapping_sub(amounts.at(meter.place()));
            let missing = value | meter.value.wrapping_sub(1);
            meter.value = value;
            missing
        };
        for meter in &mut self.few {
            least |= take(meter);
        }
        if let Some(more) = &mut self.more {
            for meter in more.iter_mut() {
                least |= take(meter);
            }
        }
        least
    }
}

impl FromIterator<Meter> for Meters {
    fn from_iter<I: IntoIterator<Item = Meter>>(meters: I) -> Self {
        let mut all = Self::NONE;
        for meter in meters {
            match all.few.iter_mut().find(|place| !place.is_used()) {
                Some(place) => *place = meter,
                None => all.more.get_or_insert_default().push(meter),
            }
        }
        all
    }
}

#[cold]
fn copy_more(more: &[Meter]) -> More {
    Some(Box::new(more.to_vec()))
}

/// Copies the few in one piece, and last: where that is inlined, straight into the copy.
impl Clone for Meters {
    #[inline(always)]
    fn clone(&self) -> Self {
        self.copy(self.more())
    }
}

impl PartialEq for Meters {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Meters {}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (window, unit, value, mark) = (self.window(), self.unit(), self.value, self.mark());
        write!(f, "{window}/{unit}: {value} after {mark} of {:?}", self.limit())
    }
}

/// Returns the least that must be left of a limit for a charge of this amount: a call that makes a request needs at least one
/// unit left, also when it adds nothing yet; a top-up that adds nothing is always allowed.
pub(crate) const fn least(limit: Option<u64>, amount: i64, makes_request: bool) -> i64 {
    match (limit, amount, makes_request) {
        (None, ..) => ANY,
        (_, 0, true) => 1,
        (_, 0, false) => ANY,
        (_, amount, _) => amount,
    }
}

/// Returns the amount left when nothing is used.
pub(crate) const fn capacity(limit: Option<u64>) -> i64 {
    match limit {
        Some(limit) => limit.cast_signed(),
        None => MAX_COUNT.cast_signed(),
    }
}

impl Stops {
    /// Creates the stops of a limit, or of a count without one.
    #[must_use]
    pub const fn new(limit: Option<u64>, thresholds: Thresholds) -> Self {
        let mut floors = [0; STOPS];
        let mut mark = 0;
        while mark < Thresholds::MOST {
            floors[mark] = thresholds.floor(limit, mark as u8);
            mark = mark.saturating_add(1);
        }
        Self { floors, cap: capacity(limit) }
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

    /// Returns the amount left if it is a possible one: of a count between nothing and [`MAX_COUNT`].
    pub(crate) fn possible(&self, value: i64, mark: u8) -> Option<i64> {
        let left = value.checked_add(self.floor(mark))?;
        let used = self.cap.checked_sub(left)?;
        (0..=MAX_COUNT.cast_signed()).contains(&used).then_some(left)
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

/// Two limits of requests and two of tokens, and credits by the month and for ever.
const FEW: usize = 6;
/// Stands for no limit.
const UNLIMITED: u64 = MAX_COUNT + 1;
const PART: u64 = 0b111;
const WINDOW: u32 = 3;
const MARK: u32 = 6;
const LIMIT: u32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Thresholds = Thresholds::DEFAULT;

    fn meter(limit: impl Into<Option<u64>>) -> Meter {
        Meter::new(Window::Week, Unit::OutputTokens, limit.into(), DEFAULT)
    }

    /// Takes from a meter with this limit and this count. Returns the count afterwards, and the mark.
    fn taken(used: u64, limit: impl Into<Option<u64>>, mark: u8, less: i64) -> (u64, u8) {
        let full = meter(limit);
        let stops = full.stops(DEFAULT);
        let value = stops.cap - used.cast_signed() - stops.floor(mark);
        let taken = Ladder::same(stops).take(value, mark, Take { least: ANY, less });
        let (value, mark) = taken.unwrap();
        (full.with_numbers(value, mark).used(DEFAULT), mark)
    }

    #[test]
    fn its_parts_are_kept_apart() {
        for window in Window::ALL {
            for unit in Unit::ALL {
                for limit in [None, Some(0), Some(MAX_COUNT)] {
                    let meter = Meter::new(window, unit, limit, DEFAULT).with_numbers(-5, 4);
                    let parts = (meter.window(), meter.unit(), meter.limit(), meter.mark());
                    assert_eq!(parts, (window, unit, limit, 4));
                    assert_eq!(meter.with_numbers(-5, 1).mark(), 1);
                    assert_eq!(Unit::ALL[meter.place()], unit);
                }
            }
        }
        assert_eq!(size_of::<Meter>(), 16);
    }

    #[test]
    fn a_new_call_needs_a_unit_of_each_limit_and_a_top_up_of_nothing_needs_none() {
        let most = Some(MAX_COUNT);
        for (story, used, limit, amount, makes_request, admitted) in [
            ("it fits exactly", 7, Some(10), 3, true, true),
            ("it is one too many", 7, Some(10), 4, true, false),
            ("a new call of unknown cost, one unit left", 9, Some(10), 0, true, true),
            ("a new call of unknown cost, nothing left", 10, Some(10), 0, true, false),
            ("a new call of unknown cost, a limit of 0", 0, Some(0), 0, true, false),
            ("a top-up of nothing in debt", 12, Some(10), 0, false, true),
            ("a top-up of one in debt", 12, Some(10), 1, false, false),
            ("all of the largest limit", 0, most, MAX_COUNT.cast_signed(), true, true),
            ("one more than the largest limit", 1, most, MAX_COUNT.cast_signed(), true, false),
            ("nothing left of the largest limit", MAX_COUNT.cast_signed(), most, 0, true, false),
            ("no limit", MAX_COUNT.cast_signed(), None, MAX_COUNT.cast_signed(), true, true),
        ] {
            let left = capacity(limit) - used;
            assert_eq!(left >= least(limit, amount, makes_request), admitted, "{story}");
        }
    }

    #[test]
    fn what_can_be_taken_ends_before_a_threshold_and_then_at_the_limit() {
        let stops = meter(10).stops(DEFAULT);
        let value = |used: i64, mark| 10 - used - stops.floor(mark);
        assert_eq!((value(0, 0), value(7, 0), value(8, 0)), (7, 0, -1));
        assert_eq!((value(8, 1), value(8, 2)), (1, 2));
        assert_eq!(meter(10).value, 7);
        assert_eq!(meter(10).left(DEFAULT), 10);
        assert_eq!(meter(10).used(DEFAULT), 0);
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
