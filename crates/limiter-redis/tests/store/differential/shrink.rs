//! Makes a case that diverges smaller, as long as it diverges.

use limiter_core::operation::{CellStep, Guard, Operation, Origin};
use limiter_core::{ANY, Take, TimeZone, Timestamp, Unit, Window};

use super::case::{Case, Script};
use super::reference::Expected;
use super::server::{Divergence, Server};

/// The smallest case that was found to diverge, and how it does.
pub(crate) fn shrunk(
    server: &mut Server,
    mut case: Case,
    mut divergence: Divergence,
) -> (Case, Divergence) {
    'smaller: loop {
        for smaller in smaller(&case) {
            let expected = Expected::of(&smaller);
            let mut found = server.run(std::slice::from_ref(&smaller), &[expected]);
            if let Some(Err(why)) = found.pop() {
                (case, divergence) = (smaller, why);
                continue 'smaller;
            }
        }
        return (case, divergence);
    }
}

/// Cases with one thing less each.
fn smaller(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Case) -> bool| {
        let mut smaller = case.clone();
        if change(&mut smaller) {
            all.push(smaller);
        }
    };
    let operation = &case.operation;
    if operation.calls.len() > 1 {
        for call in 0..operation.calls.len() {
            add(&|case| {
                case.operation.calls.remove(call);
                true
            });
        }
    }
    let last = case.levels.len() - 1;
    if last > 0 {
        add(&|case| {
            let records = case.records.iter().filter(|record| record.level < last).count();
            case.levels.truncate(last);
            case.extras.begins = case.extras.begins.filter(|level| *level < last);
            case.records.truncate(records);
            case.operation.steps.truncate(records);
            case.operation.calls.iter_mut().for_each(|call| call.truncate(records));
            true
        });
    }
    for record in 0..case.records.len() {
        add(&|case| {
            // Each level has the global one.
            let is_more = !case.records[record].is_global();
            if is_more {
                case.records.remove(record);
                case.operation.steps.remove(record);
                case.operation.calls.iter_mut().for_each(|call| drop(call.remove(record)));
            }
            is_more
        });
    }
    for level in 0..case.levels.len() {
        add(&|case| std::mem::take(&mut case.levels[level].other_type));
        add(&|case| !std::mem::take(&mut case.levels[level].closed).is_empty());
        add(&|case| std::mem::take(&mut case.levels[level].cold).iter().any(Option::is_some));
    }
    add(&|case| !std::mem::take(&mut case.operation.soft).is_empty());
    add(&|case| case.extras.ledger.take().is_some());
    add(&|case| case.extras.guard.take().is_some());
    add(&|case| case.extras.put.take().is_some());
    add(&|case| case.extras.drop.take().is_some());
    add(&|case| case.extras.begins.take().is_some());
    add(&|case| std::mem::take(&mut case.extras.not_after) > 0);
    add(&|case| case.extras.kept_after.take().is_some());
    add(&|case| std::mem::take(&mut case.extras.is_absent));
    add(&|case| !std::mem::take(&mut case.extras.shown).is_empty());
    add(&|case| {
        let always = (Timestamp::MIN, Window::Day.end(Timestamp::MAX, &TimeZone::UTC));
        std::mem::replace(&mut case.operation.from, always.0) != always.0
            || std::mem::replace(&mut case.operation.until, always.1) != always.1
    });
    for record in 0..case.records.len() {
        add(&|case| {
            let stored = &mut case.records[record];
            stored.bytes.replace(stored.whole.clone()) != Some(stored.whole.clone())
        });
        // `take` knows stops of all records, or of none. What starts at the account is moved along stops.
        let starts_at_account = |cell: &CellStep| matches!(cell.origin, Origin::Account { .. });
        let is_loose =
            case.script == Script::Apply && !operation.steps[record].cells().any(starts_at_account);
        add(&|case| is_loose && std::mem::take(&mut case.operation.steps[record].stops));
        for at in 0..case.operation.steps[record].windows.len() {
            add(&|case| {
                let of = &mut case.operation.steps[record].windows[at];
                let span = case.records[record].believed.span(of.window);
                let same = Guard::Same(span, span);
                let is_more = matches!(of.guard, Guard::Roll(_) | Guard::Anew(..));
                is_more && std::mem::replace(&mut of.guard, same) != same
            });
        }
    }
    // All cells that count a unit lose it together.
    for call in 0..operation.calls.len() {
        for unit in Unit::ALL {
            add(&|case| {
                let Operation { steps, calls, .. } = &mut case.operation;
                let mut is_less = false;
                for (step, takes) in steps.iter().zip(&mut calls[call]) {
                    let of_unit = step.cells().zip(takes);
                    for (_, take) in of_unit.filter(|(cell, _)| cell.unit == unit) {
                        is_less |= std::mem::replace(take, NOTHING) != NOTHING;
                    }
                }
                is_less
            });
        }
    }
    all
}

const NOTHING: Take = Take { least: ANY, less: 0 };
