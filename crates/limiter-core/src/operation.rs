//! The one operation on stored numbers: compare, then add, all of it or nothing.
//!
//! [`prepare`](crate::prepare) writes an operation, [`apply`] does it, and [`explain`](crate::explain) makes the answer.
//! `apply` contains no rules: a remote store does the same on its server. The records are those of one call: of each level the
//! global one, then those of its asset and of other assets, if it meets them.

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::levels::LevelSet;
use crate::limits::MAX_COUNT;
use crate::meter::{Ladder, Take};
use crate::record::{ACCOUNT, Cell, Span, Stored, StoredWindow};
use crate::rule::Unit;
use crate::window::Window;

/// The comparisons and additions for stored records, valid from `from` until just before `until`.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The first instant at which it may be done.
    pub from: Timestamp,
    /// The first instant at which it may not be done any more.
    pub until: Timestamp,
    /// The step of each record, before any call; those of one level together.
    pub steps: SmallVec<[Step; 2]>,
    /// The levels that stop no call: if a call does not fit in one of them, it takes nothing there.
    pub soft: LevelSet,
    /// The calls in their order, with the amounts that each takes from each record. Each call is done in full, up to the soft
    /// levels, or not at all. Without any call the steps alone are stored.
    pub calls: SmallVec<[SmallVec<[Takes; 2]>; 1]>,
}

/// The amounts that a call takes from the cells of a record.
pub type Takes = SmallVec<[Take; 12]>;

/// The part of an operation that concerns one record.
#[derive(Clone, Debug)]
pub struct Step {
    /// The level of the record, from the outermost, which is 0.
    pub level: usize,
    /// The generation that the record must have.
    pub generation: u32,
    /// Its windows, those that begin and those that end included, the shorter first.
    pub windows: SmallVec<[WindowStep; 3]>,
    /// Whether marks move along the ladders of the cells. Otherwise a take is compared with the value itself.
    pub stops: bool,
}

/// The part of a step that concerns one window.
#[derive(Clone, Debug)]
pub struct WindowStep {
    /// Which window it is.
    pub window: Window,
    /// The comparison with the stored window.
    pub guard: Guard,
    /// The number of its cells before.
    pub before: usize,
    /// Its cells afterwards.
    pub cells: SmallVec<[CellStep; 6]>,
}

/// A cell of a window, after an operation.
#[derive(Clone, Copy, Debug)]
pub struct CellStep {
    /// The unit that it counts.
    pub unit: Unit,
    /// Where its numbers come from, if the window goes on.
    pub origin: Origin,
    /// The stops that it moves along. A cell that starts is full by the stops before, so that what the calls take turns it
    /// into a full one by the stops after.
    pub ladder: Ladder,
}

/// Where the numbers of a cell come from, if its window goes on. If it begins, the cell starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the cell at this place of the window before.
    Kept(usize),
    /// The cell starts, with no threshold fired.
    Started,
    /// It starts with what these cells of the day's account have counted, past the thresholds that this reaches.
    Account {
        /// The first of these cells.
        first: usize,
        /// How many there are.
        count: usize,
    },
}

/// A comparison of a stored window, and the window afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The window does not end.
    Keep,
    /// The window must be the first of these, and is the second afterwards: the same, or rebased.
    Same(Span, Span),
    /// The window that ends here is current: it replaces an older one, and stays if it is stored already. A later window must
    /// not be stored.
    Roll(Timestamp),
    /// The window must be the first of these. The second begins.
    Anew(Span, Span),
    /// The window was not counted: this one begins.
    Begin(Span),
    /// The window must be this one. It is not counted any more.
    End(Span),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done. Of each call in their order: the soft levels that it did not fit in; none if it was not done.
    Applied(SmallVec<[Option<LevelSet>; 1]>),
    /// In every call, some cell has less than the required least value: nothing was done.
    Refused,
    /// A record has changed since the operation was prepared: nothing was done.
    Stale,
    /// It is too early or too late: nothing was done.
    Untimely,
}

/// The account of a day that an operation has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The place of the record among those of the operation.
    pub record: usize,
    /// The window that was closed.
    pub span: Span,
    /// What was left of [`MAX_COUNT`], by the units of [`ACCOUNT`].
    pub left: [i64; ACCOUNT.len()],
}

/// Does an operation on the records, all of it or nothing. Adds the days that it closes to `closed`.
pub fn apply(
    records: &mut [Stored],
    operation: &Operation,
    now: Timestamp,
    closed: &mut Vec<Closed>,
) -> Verdict {
    if now < operation.from || now >= operation.until {
        return Verdict::Untimely;
    }
    if records.len() != operation.steps.len() {
        return Verdict::Stale;
    }
    let mut moved = SmallVec::<[Stored; 2]>::new();
    let mut ended = SmallVec::<[Closed; 2]>::new();
    for (number, (record, step)) in records.iter().zip(&operation.steps).enumerate() {
        match step.moved(record, number, &mut ended) {
            Some(record) => moved.push(record),
            None => return Verdict::Stale,
        }
    }
    let mut done = SmallVec::new();
    for call in &operation.calls {
        done.push(operation.take(&mut moved, call));
    }
    if !operation.calls.is_empty() && !done.iter().any(Option::is_some) {
        return Verdict::Refused;
    }
    closed.extend(ended);
    for (record, moved) in records.iter_mut().zip(moved) {
        *record = moved;
    }
    Verdict::Applied(done)
}

impl Operation {
    /// Returns the one that compares and takes nothing, at any time.
    #[must_use]
    pub fn nothing() -> Self {
        let (from, until) = (Timestamp::MIN, Span::EVER.end);
        let (steps, calls) = (SmallVec::new(), SmallVec::new());
        Self { from, until, steps, soft: LevelSet::NONE, calls }
    }

    /// Takes what a call asks for from the records of all levels, but of soft ones that have too little. Returns those; none if
    /// it took nothing: another level has too little, or all have.
    fn take(
        &self,
        records: &mut SmallVec<[Stored; 2]>,
        call: &SmallVec<[Takes; 2]>,
    ) -> Option<LevelSet> {
        let mut taken = records.clone();
        let mut short = LevelSet::NONE;
        for ((record, step), takes) in taken.iter_mut().zip(&self.steps).zip(call) {
            if !step.take(record, takes) {
                short = short.with(step.level);
                if !self.soft.contains(step.level) {
                    return None;
                }
            }
        }
        if self.steps.iter().all(|step| short.contains(step.level)) && !self.steps.is_empty() {
            return None;
        }
        for ((record, taken), step) in records.iter_mut().zip(taken).zip(&self.steps) {
            if !short.contains(step.level) {
                *record = taken;
            }
        }
        Some(short)
    }
}

impl Step {
    /// Returns the record with its windows moved, if they are as expected. Adds the day that it closes.
    fn moved(
        &self,
        record: &Stored,
        number: usize,
        closed: &mut SmallVec<[Closed; 2]>,
    ) -> Option<Stored> {
        if record.generation != self.generation {
            return None;
        }
        let mut stored = record.windows.iter();
        let mut windows = SmallVec::new();
        for step in &self.windows {
            let before = match step.guard {
                Guard::Begin(_) => None,
                _ => Some(
                    stored
                        .next()
                        .filter(|of| of.window == step.window && of.cells.len() == step.before)?,
                ),
            };
            let seen = before.map_or(Span::EVER, |of| of.span);
            let (span, begins) = match step.guard {
                Guard::Keep => (seen, false),
                Guard::Same(expected, next) if expected == seen => (next, false),
                Guard::Roll(end) if seen.end <= end => (Span { end, ..seen }, seen.end < end),
                Guard::Anew(expected, next) if expected == seen => (next, true),
                Guard::Begin(next) => (next, true),
                Guard::End(expected) if expected == seen => continue,
                _ => return None,
            };
            if let Some(of) = before.filter(|_| begins && step.window == Window::Day) {
                closed.extend(of.closed(number, span.end));
            }
            let cell = |step: &CellStep| match (step.origin, before) {
                (Origin::Kept(place), Some(before)) if !begins => before.cells.get(place).copied(),
                (Origin::Account { first, count }, Some(before)) if !begins => {
                    let most = MAX_COUNT.cast_signed();
                    let cells = before.cells.get(first..first.checked_add(count)?)?;
                    let used = cells.iter().map(|cell| most.saturating_sub(cell.value));
                    let used = used.fold(0_i64, i64::saturating_add).min(most);
                    let left = step.ladder.to.cap().saturating_sub(used);
                    let (value, mark) = step.ladder.to.reach(left, 0);
                    Some(Cell { value, mark })
                }
                _ => Some(Cell { value: step.ladder.from.full(), mark: 0 }),
            };
            let cells = step.cells.iter().map(cell).collect::<Option<_>>()?;
            windows.push(StoredWindow { window: step.window, span, cells });
        }
        stored.next().is_none().then_some(Stored { generation: record.generation, windows })
    }

    /// Takes from all cells, or stops at the first that has too little.
    fn take(&self, record: &mut Stored, takes: &Takes) -> bool {
        let steps = self.cells();
        let cells = record.windows.iter_mut().flat_map(|window| &mut window.cells);
        for ((cell, step), take) in cells.zip(steps).zip(takes) {
            let Cell { value, mark } = *cell;
            let taken = if self.stops {
                step.ladder.take(value, mark, *take)
            } else {
                (value >= take.least).then(|| (value.saturating_sub(take.less), mark))
            };
            let Some((value, mark)) = taken else { return false };
            *cell = Cell { value, mark };
        }
        true
    }

    /// Returns the cells afterwards.
    pub fn cells(&self) -> impl Iterator<Item = &CellStep> {
        let counted = self.windows.iter().filter(|of| of.is_counted());
        counted.flat_map(|of| &of.cells)
    }
}

impl WindowStep {
    /// Returns whether the window is counted afterwards.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        !matches!(self.guard, Guard::End(_))
    }
}

impl StoredWindow {
    /// Returns its account if it has counted anything. A day far ahead, from before the clock was set right, ends with the next
    /// one.
    fn closed(&self, record: usize, next_end: Timestamp) -> Option<Closed> {
        let left: [i64; ACCOUNT.len()] = self
            .cells
            .iter()
            .map(|cell| cell.value)
            .take(ACCOUNT.len())
            .collect::<Vec<_>>()
            .try_into()
            .ok()?;
        let counted = left.iter().any(|left| *left != MAX_COUNT.cast_signed());
        let span = Span { end: self.span.end.min(next_end), ..self.span };
        counted.then_some(Closed { record, span, left })
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::meter::{ANY, Stops};
    use crate::thresholds::Thresholds;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
    const MOST: i64 = MAX_COUNT.cast_signed();
    const DONE: Option<LevelSet> = Some(LevelSet::NONE);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_unix_ms(NOON.unix_ms() + minute * 60_000)
    }

    fn span(minute: i64) -> Span {
        Span { end: at(minute), rebases: 1 }
    }

    /// A record whose minute ends at 12:01 and has 7 of 10 left.
    fn record() -> Stored {
        let cells = smallvec![Cell { value: 7, mark: 0 }];
        let windows = smallvec![StoredWindow { window: Window::Minute, span: span(1), cells }];
        Stored { generation: 3, windows }
    }

    /// A record whose day ends at 12:01, with this left of the account, and 7 of 10 left.
    fn of_a_day(left: [i64; 4]) -> Stored {
        let cells = left.into_iter().chain([7]).map(|value| Cell { value, mark: 0 }).collect();
        let windows = smallvec![StoredWindow { window: Window::Day, span: span(1), cells }];
        Stored { generation: 3, windows }
    }

    fn step(record: &Stored, guard: Guard) -> Step {
        let ladder = Ladder::same(Stops::new(Some(10), Thresholds::NONE));
        let of = |window: &StoredWindow| WindowStep {
            window: window.window,
            guard,
            before: window.cells.len(),
            cells: (0..window.cells.len())
                .map(|place| CellStep { unit: Unit::Requests, origin: Origin::Kept(place), ladder })
                .collect(),
        };
        let windows = record.windows.iter().map(of).collect();
        Step { level: 0, generation: 3, windows, stops: false }
    }

    /// Takes one from the last cell for each call, if this is left.
    fn operation(steps: &[Step], least: &[i64]) -> Operation {
        let call = |least: &i64| {
            let takes = |step: &Step| -> Takes {
                let count = step.cells().count();
                let take = |place| match place + 1 == count {
                    true => Take { least: *least, less: 1 },
                    false => Take { least: ANY, less: 0 },
                };
                (0..count).map(take).collect()
            };
            steps.iter().map(takes).collect()
        };
        let calls = least.iter().map(call).collect();
        let (steps, soft) = (steps.iter().cloned().collect(), LevelSet::NONE);
        Operation { from: NOON, until: at(1), steps, soft, calls }
    }

    fn verdict(record: &Stored, guard: Guard) -> (Verdict, Stored) {
        let operation = operation(&[step(record, guard)], &[1]);
        let mut records = [record.clone()];
        let verdict = apply(&mut records, &operation, NOON, &mut Vec::new());
        (verdict, records.into_iter().next().unwrap())
    }

    #[test]
    fn an_operation_is_done_in_its_time_alone() {
        let steps = [step(&record(), Guard::Same(span(1), span(1)))];
        let operation = operation(&steps, &[1]);
        for (now, is_timely) in [
            (Timestamp::from_unix_ms(NOON.unix_ms() - 1), false),
            (NOON, true),
            (Timestamp::from_unix_ms(at(1).unix_ms() - 1), true),
            (at(1), false),
        ] {
            let verdict = apply(&mut [record()], &operation, now, &mut Vec::new());
            assert_eq!(verdict != Verdict::Untimely, is_timely, "{now}");
        }
    }

    #[test]
    fn each_guard_accepts_the_windows_that_it_names_and_no_others() {
        for (guard, value) in [
            (Guard::Same(span(1), span(1)), 6),
            (Guard::Same(span(1), Span { rebases: 2, ..span(1) }), 6),
            (Guard::Roll(at(1)), 6),
            (Guard::Roll(at(2)), 9),
            (Guard::Anew(span(1), span(2)), 9),
        ] {
            let (verdict, after) = verdict(&record(), guard);
            assert_eq!(verdict, Verdict::Applied(smallvec![DONE]), "{guard:?}");
            assert_eq!(after.windows[0].cells[0].value, value, "{guard:?}");
        }
        let rebased = Span { rebases: 2, ..span(1) };
        for guard in [
            Guard::Same(span(2), span(2)),
            Guard::Same(rebased, rebased),
            Guard::Roll(at(0)),
            Guard::Anew(span(2), span(3)),
            Guard::Anew(rebased, span(2)),
            Guard::End(span(2)),
            Guard::End(rebased),
        ] {
            let (verdict, after) = verdict(&record(), guard);
            assert_eq!((verdict, after), (Verdict::Stale, record()), "{guard:?}");
        }
    }

    #[test]
    fn a_record_of_another_shape_or_generation_is_stale() {
        let right = step(&record(), Guard::Same(span(1), span(1)));
        let changes: [fn(&mut Step); 5] = [
            |step| step.generation = 4,
            |step| step.windows[0].window = Window::Hour,
            |step| step.windows[0].before = 2,
            |step| step.windows.clear(),
            |step| step.windows.push(step.windows[0].clone()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut step = right.clone();
            change(&mut step);
            let operation = Operation { calls: smallvec![], ..operation(&[step], &[]) };
            let verdict = apply(&mut [record()], &operation, NOON, &mut Vec::new());
            assert_eq!(verdict, Verdict::Stale, "{number}");
        }
        let two = operation(&[right.clone(), right], &[1]);
        let verdict = apply(&mut [record()], &two, NOON, &mut Vec::new());
        assert_eq!(verdict, Verdict::Stale, "a record more is expected");
    }

    #[test]
    fn a_window_that_ends_is_counted_no_more() {
        let mut step = step(&record(), Guard::End(span(1)));
        assert_eq!(step.cells().count(), 0);
        step.windows[0].cells.clear();
        let operation = Operation { calls: smallvec![], ..operation(&[step], &[]) };
        let mut records = [record()];
        let verdict = apply(&mut records, &operation, NOON, &mut Vec::new());
        assert_eq!(verdict, Verdict::Applied(smallvec![]));
        assert!(records[0].windows.is_empty());
    }

    #[test]
    fn each_call_is_done_or_not_and_if_none_is_nothing_changes() {
        let steps = [step(&record(), Guard::Roll(at(1)))];
        for (least, done, left) in [
            (&[7, 7][..], Verdict::Applied(smallvec![DONE, None]), 6),
            (&[8, 7], Verdict::Applied(smallvec![None, DONE]), 6),
            (&[1, 1], Verdict::Applied(smallvec![DONE, DONE]), 5),
            (&[8, 8], Verdict::Refused, 7),
            (&[], Verdict::Applied(smallvec![]), 7),
        ] {
            let mut records = [record()];
            let verdict = apply(&mut records, &operation(&steps, least), NOON, &mut Vec::new());
            assert_eq!(verdict, done, "{least:?}");
            assert_eq!(records[0].windows[0].cells[0].value, left, "{least:?}");
        }
    }

    #[test]
    fn a_limit_of_today_starts_with_the_account_of_a_day_that_goes_on() {
        let day = of_a_day([MOST - 4, MOST, MOST, MOST]);
        for (guard, left) in
            [(Guard::Same(span(1), span(1)), 6), (Guard::Anew(span(1), span(2)), 10)]
        {
            let mut step = step(&day, guard);
            step.windows[0].cells[4].origin = Origin::Account { first: 0, count: 1 };
            let operation = operation(&[step], &[]);
            let mut records = [day.clone()];
            apply(&mut records, &operation, NOON, &mut Vec::new());
            assert_eq!(records[0].windows[0].cells[4].value, left, "{guard:?}");
        }
    }

    #[test]
    fn a_day_that_ends_is_closed_with_what_it_has_counted() {
        let counted = [MOST - 1, MOST, MOST, MOST];
        let closed_by = |record: &Stored, guard, least| {
            let mut closed = Vec::new();
            let operation = operation(&[step(record, guard)], &[least]);
            apply(&mut [record.clone()], &operation, NOON, &mut closed);
            closed
        };
        let day = of_a_day(counted);
        let row = |span| [Closed { record: 0, span, left: counted }];
        assert_eq!(closed_by(&day, Guard::Roll(at(2)), 1), row(span(1)));
        assert_eq!(closed_by(&day, Guard::Anew(span(1), span(2)), 1), row(span(1)));
        // It was far ahead, and ends with the day that replaces it.
        assert_eq!(closed_by(&day, Guard::Anew(span(1), span(0)), 1), row(span(0)));
        assert_eq!(closed_by(&day, Guard::Roll(at(1)), 1), [], "it goes on");
        assert_eq!(closed_by(&day, Guard::Same(span(1), span(1)), 1), [], "it goes on");
        assert_eq!(closed_by(&day, Guard::Roll(at(2)), 11), [], "the call does not fit");
        let unused = of_a_day([MOST; 4]);
        assert_eq!(closed_by(&unused, Guard::Roll(at(2)), 1), [], "nothing was counted");
    }

    /// Three levels with 7 left each, of which a call wants `least`.
    #[test]
    fn a_soft_level_stops_no_call_and_keeps_what_it_has_if_the_call_does_not_fit() {
        const SOFT: [usize; 2] = [0, 2];
        let levels =
            [0, 1, 2].map(|level| Step { level, ..step(&record(), Guard::Same(span(1), span(1))) });
        let left = |soft: LevelSet, least: [i64; 3]| {
            let take = |least| Takes::from_iter([Take { least, less: 1 }]);
            let calls = smallvec![least.into_iter().map(take).collect()];
            let operation = Operation { soft, calls, ..operation(&levels, &[]) };
            let mut records = [record(), record(), record()];
            let verdict = apply(&mut records, &operation, NOON, &mut Vec::new());
            (verdict, records.map(|record| record.windows[0].cells[0].value))
        };
        let soft = LevelSet::from_iter(SOFT);
        let short =
            |levels: &[usize]| Verdict::Applied(smallvec![Some(levels.iter().copied().collect())]);
        assert_eq!(left(soft, [1, 1, 1]), (short(&[]), [6, 6, 6]));
        assert_eq!(left(soft, [8, 1, 1]), (short(&[0]), [7, 6, 6]));
        assert_eq!(left(soft, [8, 1, 8]), (short(&SOFT), [7, 6, 7]));
        assert_eq!(
            left(soft, [1, 8, 1]),
            (Verdict::Refused, [7, 7, 7]),
            "a level that is not soft"
        );
        let all = LevelSet::ALL;
        assert_eq!(left(all, [8, 8, 1]), (short(&[0, 1]), [7, 7, 6]));
        assert_eq!(
            left(all, [8, 8, 8]),
            (Verdict::Refused, [7, 7, 7]),
            "it takes nothing anywhere"
        );
    }
}
