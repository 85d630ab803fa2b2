//! The second implementation of an operation, on bare numbers.

use limiter_core::operation::{CellStep, Guard, Operation, Origin, Step, WindowStep};
use limiter_core::{ANY, Cell, MAX_COUNT, Span, Stored, StoredWindow, Take, Window};

use super::{Ended, Request};
use crate::bug::Bug;

/// The same as the core's `apply`, on bare numbers.
pub(super) fn by_hand(
    records: &[Stored],
    operation: &Operation,
    request: &Request,
    bug: Option<Bug>,
) -> (Ended, Vec<Stored>, Vec<bool>) {
    let as_was = |ended| (ended, records.to_vec(), vec![true]);
    let mut moved = Vec::new();
    for (number, (record, step)) in records.iter().zip(&operation.steps).enumerate() {
        match moved_by_hand(record, step, request.believed.get(number), bug) {
            Some(record) => moved.push(record),
            None => return as_was(Ended::Stale),
        }
    }
    let mut done = Vec::new();
    for call in &operation.calls {
        let taken = moved.iter().zip(&operation.steps).zip(call);
        let taken: Vec<_> =
            taken.map(|((record, step), takes)| taken_by_hand(record, step, takes, bug)).collect();
        let fits = taken.iter().all(Option::is_some);
        done.push(fits);
        if fits || bug == Some(Bug::ChargesEachLevelAlone) {
            moved = taken.into_iter().zip(moved).map(|(taken, was)| taken.unwrap_or(was)).collect();
        }
    }
    if done.is_empty() {
        done.push(true);
    }
    let is_planned = request.planned.as_ref().is_none_or(|planned| marks(planned) == marks(&moved));
    match done.contains(&true) {
        false if bug == Some(Bug::ChargesEachLevelAlone) => (Ended::Refused, moved, vec![true]),
        false => as_was(Ended::Refused),
        true if !is_planned => as_was(Ended::Stale),
        true => (Ended::Applied, moved, done),
    }
}

fn moved_by_hand(
    record: &Stored,
    step: &Step,
    believed: Option<&Stored>,
    bug: Option<Bug>,
) -> Option<Stored> {
    if record.generation != step.generation {
        return None;
    }
    let stored = |window: Window| record.windows.iter().find(|of| of.window == window);
    let rolls = |of: &WindowStep| matches!((of.guard, stored(of.window)), (Guard::Roll(end), Some(it)) if it.span.end < end);
    let any_rolls = step.windows.iter().any(rolls);
    let mut windows = Vec::new();
    let mut seen = 0;
    for of in &step.windows {
        let before = stored(of.window);
        match (of.guard, before) {
            (Guard::Begin(_), None) => {}
            (Guard::Begin(_), Some(_)) | (_, None) => return None,
            (_, Some(before)) if before.cells.len() != of.before => return None,
            _ => seen += 1,
        }
        let span = before.map_or(Span::EVER, |before| before.span);
        let (next, begins) = match of.guard {
            Guard::Keep => (span, false),
            Guard::Same(expected, _) | Guard::Anew(expected, _) | Guard::End(expected)
                if expected != span =>
            {
                return None;
            }
            Guard::Same(_, next) => (next, false),
            Guard::Roll(end) if span.end > end => return None,
            Guard::Roll(end) => {
                let begins = rolls(of) || any_rolls && bug == Some(Bug::RollsAllAtOnce);
                let of_client = believed.and_then(|it| {
                    it.windows.iter().find(|it| it.window == of.window).map(|it| it.span.rebases)
                });
                let takes = begins && bug == Some(Bug::TakesTheClientsRebases);
                let rebases = of_client.filter(|_| takes).unwrap_or(span.rebases);
                (Span { end, rebases }, begins)
            }
            Guard::Anew(_, next) | Guard::Begin(next) => (next, true),
            Guard::End(_) => continue,
        };
        let before = before.filter(|_| !begins).map(|before| &before.cells[..]);
        let cells = of.cells.iter().map(|cell| begun_by_hand(cell, before)).collect();
        windows.push(StoredWindow { window: of.window, span: next, cells });
    }
    let is_complete = seen == record.windows.len();
    is_complete.then(|| Stored { generation: record.generation, windows: windows.into() })
}

/// A cell before any call: as it was, or from the start.
fn begun_by_hand(step: &CellStep, before: Option<&[Cell]>) -> Cell {
    match (step.origin, before) {
        (Origin::Kept(place), Some(before)) => before[place],
        (Origin::Account { first, count }, Some(before)) => {
            let used: i64 = before[first..first + count]
                .iter()
                .map(|cell| MAX_COUNT.cast_signed() - cell.value)
                .sum();
            let left = step.ladder.to.cap() - used.min(MAX_COUNT.cast_signed());
            past_stops(left, 0, step.ladder.to.floors())
        }
        _ => {
            let from = step.ladder.from;
            Cell { value: from.cap() - from.floors()[0], mark: 0 }
        }
    }
}

fn taken_by_hand(record: &Stored, step: &Step, takes: &[Take], bug: Option<Bug>) -> Option<Stored> {
    let mut taken = record.clone();
    let cells = taken.windows.iter_mut().flat_map(|window| &mut window.cells);
    for ((cell, of), take) in cells.zip(step.cells()).zip(takes) {
        let (ladder, mark) = (of.ladder, usize::from(cell.mark));
        let floor = ladder.from.floors().get(mark).filter(|_| step.stops);
        let value = cell.value + floor.copied().unwrap_or(0);
        let enough = match bug {
            Some(Bug::ComparesSums) => take.least == ANY || value - take.less >= 0,
            _ => value >= take.least,
        };
        if !enough {
            return None;
        }
        let mut left = value - take.less;
        if !step.stops {
            cell.value = left;
            continue;
        }
        let cap = ladder.to.cap();
        if bug != Some(Bug::StopsAtNoEnd) {
            left = left.clamp(cap - MAX_COUNT.cast_signed(), cap);
        }
        let mark = ladder.start.get(mark).map_or(mark, |mark| usize::from(*mark));
        *cell = past_stops(left, mark, ladder.to.floors());
    }
    Some(taken)
}

/// A cell of which this much is left, past the stops that it has reached.
fn past_stops(left: i64, mut mark: usize, floors: &[i64]) -> Cell {
    let floor = |mark: usize| floors.get(mark).copied().unwrap_or(0);
    while floor(mark) > 0 && left < floor(mark) {
        mark += 1;
    }
    Cell { value: left - floor(mark), mark: u8::try_from(mark).unwrap() }
}

fn marks(records: &[Stored]) -> Vec<u8> {
    let windows = records.iter().flat_map(|record| &record.windows);
    windows.flat_map(|window| &window.cells).map(|cell| cell.mark).collect()
}
