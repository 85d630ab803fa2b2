//! The second implementation of an operation, on bare numbers.

use limiter_core::operation::{Guard, Operation, Step, Takes};
use limiter_core::{Amount, MAX_COUNT, METERS, Record, Span};

use super::{Ended, Hot, Request};
use crate::bug::Bug;

/// The same as the core's `apply`, on bare numbers.
pub(super) fn by_hand(
    hot: &[Hot],
    operation: &Operation,
    request: &Request,
    bug: Option<Bug>,
) -> (Ended, Vec<Hot>, Vec<bool>) {
    let as_was = |ended| (ended, hot.to_vec(), vec![true]);
    let mut moved = Vec::new();
    for (number, (hot, step)) in hot.iter().zip(&operation.steps).enumerate() {
        match moved_by_hand(hot, step, request.rebases[number], bug) {
            Some(hot) => moved.push(hot),
            None => return as_was(Ended::Stale),
        }
    }
    let mut done = Vec::new();
    for call in &operation.calls {
        let taken = moved.iter().zip(&operation.steps).zip(call);
        let taken: Option<Vec<Hot>> =
            taken.map(|((hot, step), takes)| taken_by_hand(hot, step, takes, bug)).collect();
        done.push(taken.is_some());
        moved = taken.unwrap_or(moved);
    }
    let as_planned =
        |planned: &Vec<_>| moved.iter().map(|hot| hot.marks).eq(planned.iter().copied());
    if done.is_empty() {
        done.push(true);
    }
    match done.contains(&true) {
        false => as_was(Ended::Refused),
        true if request.planned.as_ref().is_some_and(|planned| !as_planned(planned)) => {
            as_was(Ended::Stale)
        }
        true => (Ended::Applied, moved, done),
    }
}

fn moved_by_hand(hot: &Hot, step: &Step, believed: [u8; 2], bug: Option<Bug>) -> Option<Hot> {
    if hot.generation != step.generations[0] {
        return None;
    }
    let mut moved = Hot { generation: step.generations[1], ..hot.clone() };
    let rolls =
        |window: usize| matches!(step.guards[window], Guard::Roll(end) if hot.ends[window] < end);
    for (window, guard) in step.guards.into_iter().enumerate() {
        let stored = hot.span(window);
        let (next, begins) = match guard {
            Guard::Keep => (stored, false),
            Guard::Same(seen, _) if seen != stored => return None,
            Guard::Same(_, next) => (next, false),
            Guard::Roll(end) if stored.end > end => return None,
            Guard::Roll(end) => {
                let all = bug == Some(Bug::RollsAllAtOnce) && (rolls(0) || rolls(1));
                let begins = rolls(window) || all;
                let takes = begins && bug == Some(Bug::TakesTheClientsRebases);
                (
                    Span { end, rebases: if takes { believed[window] } else { stored.rebases } },
                    begins,
                )
            }
            Guard::Anew(seen, _) | Guard::End(seen) if seen != stored => return None,
            Guard::Anew(_, next) | Guard::Begin(next) => (next, true),
            Guard::End(_) => (Hot::of(&Record::UNCOUNTED).span(window), true),
        };
        moved.set_span(window, next);
        if begins {
            for meter in [2 * window, 2 * window + 1] {
                (moved.values[meter], moved.marks[meter]) = (step.start[meter], 0);
            }
        }
    }
    Some(moved)
}

fn taken_by_hand(hot: &Hot, step: &Step, takes: &Takes, bug: Option<Bug>) -> Option<Hot> {
    let mut taken = hot.clone();
    for meter in (0..METERS).filter(|meter| step.counts[*meter] != Amount::Nothing) {
        let (mut value, mut mark, take) =
            (hot.values[meter], usize::from(hot.marks[meter]), takes[meter]);
        let ladder = step.ladders.as_ref().map(|ladders| ladders[meter]);
        let floor = |floors: &[i64], mark: usize| floors.get(mark).copied().unwrap_or(0);
        if let Some(ladder) = &ladder {
            value += floor(ladder.from.floors(), mark);
        }
        let enough = match bug {
            Some(Bug::ComparesSums) => take.least == limiter_core::ANY || value - take.less >= 0,
            _ => value >= take.least,
        };
        if !enough {
            return None;
        }
        value -= take.less;
        if let Some(ladder) = &ladder {
            let (cap, floors) = (ladder.to.cap(), ladder.to.floors());
            if bug != Some(Bug::StopsAtNoEnd) {
                value = value.clamp(cap - MAX_COUNT.cast_signed(), cap);
            }
            mark = ladder.start.get(mark).map_or(mark, |mark| usize::from(*mark));
            while floor(floors, mark) > 0 && value < floor(floors, mark) {
                mark += 1;
            }
            value -= floor(floors, mark);
        }
        (taken.values[meter], taken.marks[meter]) = (value, u8::try_from(mark).unwrap());
    }
    Some(taken)
}
