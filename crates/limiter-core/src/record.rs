//! The record of one scope of a key: what it counts, and the limits in force.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::limits::{Limit, Limits, MAX_COUNT};
use crate::meter::{Ladder, Meter, Meters, More, Stops};
use crate::rule::Unit;
use crate::rules::Part;
use crate::thresholds::Thresholds;
use crate::window::{NEVER, Window};
use crate::zone::TimeZone;

/// The units of an account, in the order in which records have them.
pub const ACCOUNT: [Unit; 4] =
    [Unit::Requests, Unit::InputTokens, Unit::OutputTokens, Unit::Credits];

/// The counts of one scope, with the limits in force.
///
/// It counts the account of the day, whether limited or not, and a [meter](Meter) for each limit. The global record has a
/// meter of credits for ever, also without a budget.
#[derive(Clone)]
pub struct Record {
    /// The first end of a window. Every window goes on before it, for as long as `goes_on_ms` says.
    goes_until: Timestamp,
    /// The milliseconds before `goes_until` in which every window goes on. They are never more than a few days.
    goes_on_ms: u32,
    /// What is left of [`MAX_COUNT`], by the units of [`ACCOUNT`].
    account: [i64; ACCOUNT.len()],
    /// By window and unit.
    meters: Meters,
    /// The ends of the windows that are counted.
    ends: [Timestamp; Window::ENDING.len()],
    /// The number of times that each window was rebased.
    rebases: [u8; Window::ENDING.len()],
    windows: Windows,
    /// Whether it counts credits for ever, also without a budget.
    is_global: bool,
    /// The number that distinguishes this counting of the scope from every other that its key has had.
    pub(crate) generation: u32,
    pub(crate) thresholds: Thresholds,
}

/// A set of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Windows(u8);

/// One stored window: when it ends, and how often it was rebased after the clock was set right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first instant after it.
    pub end: Timestamp,
    /// The number of times, modulo 256. A reset counts as a time too: it closes the window for reservations.
    pub rebases: u8,
}

/// The numbers of a record as a store keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The number of this counting of the scope.
    pub generation: u32,
    /// The windows that it counts, the shorter first.
    pub windows: SmallVec<[StoredWindow; 3]>,
}

/// The numbers of one window of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredWindow {
    /// Which window it is.
    pub window: Window,
    /// When it ends; [`Span::EVER`] for the one that does not.
    pub span: Span,
    /// What it counts: of a day the account first, then a cell for each limit.
    pub cells: SmallVec<[Cell; 6]>,
}

/// The stored numbers of a count: see [`Stops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The amount that can be taken before the next stop.
    pub value: i64,
    /// The number of stops that were passed.
    pub mark: u8,
}

/// What one cell of a record counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counted {
    /// The window of the count.
    pub window: Window,
    /// The unit that is counted.
    pub unit: Unit,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

impl Span {
    /// The span of a window that does not end.
    pub const EVER: Self = Self { end: NEVER, rebases: 0 };
}

impl Windows {
    pub(crate) const fn contains(self, window: Window) -> bool {
        self.0 & (1 << window as u8) != 0
    }

    pub(crate) const fn with(self, window: Window) -> Self {
        Self(self.0 | 1 << window as u8)
    }

    pub(crate) const fn without(self, window: Window) -> Self {
        Self(self.0 & !(1 << window as u8))
    }

    /// Iterates over the windows, the shorter first.
    pub(crate) fn iter(self) -> impl Iterator<Item = Window> {
        Window::ALL.into_iter().filter(move |window| self.contains(*window))
    }
}

impl Record {
    /// A record that counts nothing. It was never begun, so that every call takes the long way.
    pub(crate) const NOTHING: Self = Self {
        goes_until: NEVER,
        goes_on_ms: 0,
        account: [MAX_COUNT.cast_signed(); ACCOUNT.len()],
        meters: Meters::NONE,
        ends: [NEVER; Window::ENDING.len()],
        rebases: [0; Window::ENDING.len()],
        windows: Windows(0),
        is_global: false,
        generation: 0,
        thresholds: Thresholds::NONE,
    };

    /// Creates a record of which nothing is used: with these limits in force, and windows for the limits that are pending.
    /// A global one counts credits for ever.
    ///
    /// Its windows end never, until [stored numbers](Self::with_stored) say when.
    #[must_use]
    pub fn of_limits(
        is_global: bool,
        limits: &Limits,
        pending: impl IntoIterator<Item = Window>,
        thresholds: Thresholds,
    ) -> Self {
        let windows = Windows::default().with(Window::Day);
        let mut record = Self { windows, is_global, thresholds, ..Self::NOTHING };
        for window in limits.windows() {
            record.set_limits(window, limits);
        }
        if is_global && record.meter(Window::Ever, Unit::Credits).is_none() {
            record.put_meter(Meter::new(Window::Ever, Unit::Credits, None, thresholds));
        }
        for window in pending {
            record.windows = record.windows.with(window);
        }
        record
    }

    /// Starts all windows at `now`.
    pub(crate) fn begun(mut self, generation: u32, now: Timestamp, zone: &TimeZone) -> Self {
        self.generation = generation;
        for window in self.windows.iter() {
            self.set_span(window, Span { end: window.end(now, zone), rebases: 0 });
        }
        self.note_time(zone);
        self
    }

    /// Returns the number of this counting of the scope.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the windows that are counted, the shorter first: the day, and those with limits in force or pending.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        self.windows.iter()
    }

    /// Returns a window that is counted.
    #[must_use]
    pub fn span(&self, window: Window) -> Span {
        let place = window as usize;
        match (self.ends.get(place), self.rebases.get(place)) {
            (Some(end), Some(rebases)) => Span { end: *end, rebases: *rebases },
            _ => Span::EVER,
        }
    }

    pub(crate) fn set_span(&mut self, window: Window, span: Span) {
        let place = window as usize;
        if let (Some(end), Some(rebases)) = (self.ends.get_mut(place), self.rebases.get_mut(place))
        {
            (*end, *rebases) = (span.end, span.rebases);
        }
    }

    /// Returns what each cell counts, in the order of [stored numbers](Self::stored).
    pub fn counted(&self) -> impl Iterator<Item = Counted> {
        self.windows.iter().flat_map(|window| self.counted_in(window))
    }

    /// Returns what each cell of a window counts: of a day the account first.
    pub fn counted_in(&self, window: Window) -> impl Iterator<Item = Counted> {
        let account = ACCOUNT.into_iter().filter(move |_| window == Window::Day);
        let account = account.map(move |unit| Counted { window, unit, limit: None });
        account.chain(self.meters_in(window).map(move |meter| Counted {
            window,
            unit: meter.unit(),
            limit: meter.limit(),
        }))
    }

    /// Returns the stored numbers.
    #[must_use]
    pub fn stored(&self) -> Stored {
        let windows = self.windows.iter().map(|window| {
            let account = self.account.iter().filter(|_| window == Window::Day);
            let account = account.map(|left| Cell { value: *left, mark: 0 });
            let meters = self.meters_in(window);
            let meters = meters.map(|meter| Cell { value: meter.value, mark: meter.mark() });
            StoredWindow { window, span: self.span(window), cells: account.chain(meters).collect() }
        });
        Stored { generation: self.generation, windows: windows.collect() }
    }

    /// Returns the record with stored numbers.
    ///
    /// # Errors
    /// [`InvalidValue::Inconsistent`] if the windows or the counts are others than those of this record, if a count is
    /// below nothing or above [`MAX_COUNT`], if more thresholds have fired than are configured, or if a window ends at an
    /// impossible time.
    pub fn with_stored(&self, stored: &Stored, zone: &TimeZone) -> Result<Self, InvalidValue> {
        let inconsistent = |what| Err(InvalidValue::Inconsistent { what });
        let same_windows = self.windows.iter().eq(stored.windows.iter().map(|of| of.window));
        let cells = |of: &StoredWindow| of.cells.len() == self.counted_in(of.window).count();
        if !same_windows || !stored.windows.iter().all(cells) {
            return inconsistent("other windows or counts are stored than its limits have");
        }
        let most = self.thresholds.percents().count();
        for of in &stored.windows {
            for (counted, cell) in self.counted_in(of.window).zip(&of.cells) {
                if usize::from(cell.mark) > most {
                    return inconsistent("more thresholds have fired than are configured");
                }
                let stops = Stops::new(counted.limit, self.thresholds);
                if stops.possible(cell.value, cell.mark).is_none() {
                    return inconsistent("a count is out of bounds");
                }
            }
            let may_end = of.window.may_end(of.span.end);
            if of.window.ends() && (!may_end || of.span.end > crate::window::LAST_END) {
                return inconsistent("a window ends at an impossible time");
            }
        }
        Ok(self.with_numbers(stored, zone))
    }

    /// Returns the record with numbers of its own shape.
    pub(crate) fn with_numbers(&self, stored: &Stored, zone: &TimeZone) -> Self {
        let mut record = Self { generation: stored.generation, ..self.clone() };
        for of in &stored.windows {
            record.set_span(of.window, of.span);
            let mut cells = of.cells.iter();
            if of.window == Window::Day {
                for (left, cell) in record.account.iter_mut().zip(&mut cells) {
                    *left = cell.value;
                }
            }
            let meters = record.meters.iter_mut().filter(|meter| meter.window() == of.window);
            for (meter, cell) in meters.zip(cells) {
                *meter = meter.with_numbers(cell.value, cell.mark);
            }
        }
        record.note_time(zone);
        record
    }

    pub(crate) fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.meters.iter()
    }

    pub(crate) fn meters_in(&self, window: Window) -> impl Iterator<Item = &Meter> {
        self.meters.iter().filter(move |meter| meter.window() == window)
    }

    pub(crate) fn meter(&self, window: Window, unit: Unit) -> Option<&Meter> {
        self.meters_in(window).find(|meter| meter.unit() == unit)
    }

    /// Returns the limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let limit = |meter: &Meter| {
            let (window, unit) = (meter.window(), meter.unit());
            Some(Limit { window, unit, amount: meter.limit()? })
        };
        self.meters.iter().filter_map(limit).collect()
    }

    /// Returns whether any limit is in force.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.meters.iter().any(|meter| meter.limit().is_some())
    }

    /// Returns the account: what was counted on this day.
    #[must_use]
    pub fn account(&self) -> Charge {
        account(&self.account)
    }

    /// Puts the limits of one window in force, of which nothing is used.
    pub(crate) fn set_limits(&mut self, window: Window, limits: &Limits) {
        let keeps_credits = window == Window::Ever && self.is_global;
        self.meters =
            self.meters.iter().copied().filter(|meter| meter.window() != window).collect();
        for limit in limits.iter().filter(|limit| limit.window == window) {
            self.put_meter(Meter::new(window, limit.unit, Some(limit.amount), self.thresholds));
        }
        if keeps_credits && self.meter(window, Unit::Credits).is_none() {
            self.put_meter(Meter::new(window, Unit::Credits, None, self.thresholds));
        }
        let is_counted = window == Window::Day || self.meters_in(window).next().is_some();
        self.windows =
            if is_counted { self.windows.with(window) } else { self.windows.without(window) };
    }

    /// Counts a window whose first limits are pending.
    pub(crate) fn count_window(&mut self, window: Window, span: Span) {
        self.windows = self.windows.with(window);
        self.set_span(window, span);
    }

    /// Stops counting a window without limits.
    pub(crate) fn drop_window(&mut self, window: Window) {
        if window != Window::Day && self.meters_in(window).next().is_none() {
            self.windows = self.windows.without(window);
        }
    }

    pub(crate) fn is_counted(&self, window: Window) -> bool {
        self.windows.contains(window)
    }

    /// Starts a window of which nothing is used.
    pub(crate) fn clear(&mut self, window: Window) {
        if window == Window::Day {
            self.account = [MAX_COUNT.cast_signed(); ACCOUNT.len()];
        }
        let thresholds = self.thresholds;
        for meter in self.meters.iter_mut().filter(|meter| meter.window() == window) {
            *meter = Meter::new(window, meter.unit(), meter.limit(), thresholds);
        }
    }

    fn put_meter(&mut self, meter: Meter) {
        let order = |meter: &Meter| (meter.window(), meter.unit());
        let before = self.meters.iter().filter(|other| order(other) < order(&meter));
        let after = self.meters.iter().filter(|other| order(other) > order(&meter));
        self.meters = before.chain([&meter]).chain(after).copied().collect();
        self.windows = self.windows.with(meter.window());
    }

    /// Notes the time in which every window goes on, after any of them has changed.
    pub(crate) fn note_time(&mut self, zone: &TimeZone) {
        let windows = self.windows.iter().filter(|window| window.ends());
        let each = windows.map(|window| window.stay(self.span(window).end, zone));
        let (from, until) = each.fold((Timestamp::MIN, NEVER), |(from, until), (first, end)| {
            (from.max(first), until.min(end))
        });
        let length_ms = until.unix_ms().saturating_sub(from.unix_ms()).max(0);
        self.goes_until = until;
        self.goes_on_ms = u32::try_from(length_ms).unwrap_or(u32::MAX);
    }

    /// Returns whether a limit of a window that ends has counted anything in it.
    pub(crate) fn has_counted_in(&self, window: Window) -> bool {
        window.ends() && self.meters_in(window).any(|meter| meter.has_counted(self.thresholds))
    }

    /// Returns whether every window goes on at `now`, and the first limit has counted anything in one that ends.
    #[inline]
    pub(crate) fn limits_go_on(&self, now: Timestamp) -> bool {
        let before_end = self.goes_until.unix_ms().wrapping_sub(now.unix_ms());
        let goes_on = before_end.wrapping_sub(1).cast_unsigned() < self.goes_on_ms.into();
        // Meters are in the order of their windows.
        let first = self.meters.iter().next();
        goes_on && first.is_some_and(|it| it.window().ends() && it.has_counted(self.thresholds))
    }

    /// Charges a call that makes a request and simply fits: every window goes on, and no stop is reached. Otherwise nothing
    /// changes.
    #[inline(always)]
    pub(crate) fn take(&mut self, amounts: &Amounts, now: Timestamp) -> bool {
        let before_end = self.goes_until.unix_ms().wrapping_sub(now.unix_ms());
        if before_end.wrapping_sub(1).cast_unsigned() >= self.goes_on_ms.into() {
            return false;
        }
        // Below zero if anything is missing anywhere: one branch for all. A new call needs one unit left even of limits to
        // which it adds nothing.
        let mut least = self.meters.take(amounts);
        for (left, unit) in self.account.iter_mut().zip(ACCOUNT) {
            *left = left.wrapping_sub(amounts.get(unit));
            least |= *left;
        }
        if least < 0 {
            self.give_back(amounts);
        }
        least >= 0
    }

    /// Takes back what [`take`](Self::take) has charged.
    #[cold]
    pub(crate) fn give_back(&mut self, amounts: &Amounts) {
        for (left, unit) in self.account.iter_mut().zip(ACCOUNT) {
            *left = left.wrapping_add(amounts.get(unit));
        }
        for meter in self.meters.iter_mut() {
            meter.value = meter.value.wrapping_add(amounts.at(meter.place()));
        }
    }

    /// Returns the ladder of each cell of a window in a step that leaves its stops as they are.
    pub(crate) fn ladders_in(&self, window: Window) -> impl Iterator<Item = Ladder> {
        let stops = |counted: Counted| Stops::new(counted.limit, self.thresholds);
        self.counted_in(window).map(move |counted| Ladder::same(stops(counted)))
    }

    /// Returns what an answer shows of it.
    pub(crate) fn part(&self) -> Part {
        self.part_with(self.meters_beyond())
    }

    /// Copies the meters beyond the few.
    #[inline(always)]
    pub(crate) fn meters_beyond(&self) -> More {
        self.meters.more()
    }

    /// Returns the same with a copy of the meters beyond the few: then nothing here can fail, and all is copied once, straight
    /// into the answer.
    #[inline(always)]
    pub(crate) const fn part_with(&self, more: More) -> Part {
        Part { meters: self.meters.copy(more), ends: self.ends }
    }
}

/// Returns the charge that an account has counted.
pub(crate) fn account(left: &[i64; ACCOUNT.len()]) -> Charge {
    let used = left.map(|left| MAX_COUNT.cast_signed().saturating_sub(left).cast_unsigned());
    let [requests, input, output, credits] = used;
    Charge::counted(requests, input, output, Credits::of_count(credits))
}

/// Equality ignores the identities of windows: equal records decide every future call alike.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        let ends = |record: &Self| {
            record
                .windows
                .iter()
                .map(|window| record.span(window).end)
                .collect::<SmallVec<[_; 6]>>()
        };
        (self.account, &self.meters, self.windows, self.thresholds)
            == (other.account, &other.meters, other.windows, other.thresholds)
            && ends(self) == ends(other)
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans: Vec<_> = self.windows.iter().map(|window| (window, self.span(window))).collect();
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .field("account", &self.account())
            .field("meters", &self.meters)
            .field("spans", &spans)
            .field("thresholds", &self.thresholds)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
    const UTC: TimeZone = TimeZone::UTC;

    fn record() -> Record {
        let limits = Limits::builder().requests_per_minute(10).tokens_per_day(20).build().unwrap();
        Record::of_limits(true, &limits, [Window::Month], Thresholds::DEFAULT).begun(1, NOON, &UTC)
    }

    #[test]
    fn the_account_and_each_limit_have_a_cell() {
        let record = record();
        let counted: Vec<_> = record.counted().map(|of| (of.window, of.unit, of.limit)).collect();
        assert_eq!(
            counted,
            [
                (Window::Minute, Unit::Requests, Some(10)),
                (Window::Day, Unit::Requests, None),
                (Window::Day, Unit::InputTokens, None),
                (Window::Day, Unit::OutputTokens, None),
                (Window::Day, Unit::Credits, None),
                (Window::Day, Unit::Tokens, Some(20)),
                (Window::Ever, Unit::Credits, None),
            ]
        );
        let windows: Vec<_> = record.windows().collect();
        assert_eq!(windows, [Window::Minute, Window::Day, Window::Month, Window::Ever]);
    }

    #[test]
    fn stored_numbers_make_the_record_again() {
        let mut record = record();
        let charge = Charge::request().with_tokens(3, 4).unwrap();
        assert!(record.take(&Amounts::of(&charge), NOON));
        let again = self::record().with_stored(&record.stored(), &UTC).unwrap();
        assert_eq!(again, record);
        assert_eq!(again.account(), charge);
        assert_eq!((again.goes_until, again.goes_on_ms), (record.goes_until, record.goes_on_ms));
    }

    #[test]
    fn stored_numbers_that_are_impossible_are_refused() {
        let record = record();
        let with = |change: fn(&mut Stored)| {
            let mut stored = record.stored();
            change(&mut stored);
            record.with_stored(&stored, &UTC)
        };
        let first = |value, mark| {
            let mut stored = record.stored();
            stored.windows[0].cells[0] = Cell { value, mark };
            record.with_stored(&stored, &UTC)
        };
        // 80 % of 10 are reached when less than 3 are left.
        for (value, mark) in [(7, 0), (0, 2), (-5, 2), (-1, 0)] {
            assert!(first(value, mark).is_ok(), "{value} after {mark}");
        }
        for (value, mark) in [(8, 0), (10, 1), (i64::MIN, 0), (i64::MAX, 0), (0, 3)] {
            assert!(first(value, mark).is_err(), "{value} after {mark}");
        }
        assert!(with(|stored| stored.windows[1].cells[0].value += 1).is_err());
        assert!(with(|stored| drop(stored.windows.pop())).is_err());
        assert!(with(|stored| stored.windows[0].cells.clear()).is_err());
        assert!(with(|stored| stored.windows[0].span.end = Timestamp::from_unix_ms(1)).is_err());
        let within_a_minute = Timestamp::from_unix_ms(1_760_011_201_000);
        assert!(with(|stored| stored.windows[0].span.end = NOON).is_ok());
        let mut stored = record.stored();
        stored.windows[0].span.end = within_a_minute;
        assert!(record.with_stored(&stored, &UTC).is_err());
    }

    #[test]
    fn a_call_that_does_not_fit_changes_nothing() {
        let mut record = record();
        let before = record.clone();
        let charge = |tokens| Amounts::of(&Charge::request().with_tokens(0, tokens).unwrap());
        for (story, tokens, now) in [
            ("it reaches a threshold", 16, NOON),
            ("a window has ended", 1, NOON.after(std::time::Duration::from_secs(60))),
            ("the clock was far ahead", 1, Timestamp::START_OF_1970),
        ] {
            assert!(!record.take(&charge(tokens), now), "{story}");
            assert_eq!(record, before, "{story}");
        }
        assert!(record.take(&charge(15), NOON));
        assert_ne!(record, before);
    }
}
