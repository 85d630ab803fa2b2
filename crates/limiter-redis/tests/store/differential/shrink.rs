//! Makes a case that diverges smaller, as long as it diverges.

use std::collections::BTreeSet;

use limiter_core::operation::{Guard, Operation};
use limiter_core::{ANY, METERS, Take, Timestamp, Window};

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
    if case.records.len() > 1 {
        add(&|case| {
            case.records.truncate(1);
            case.operation.steps.truncate(1);
            case.operation.calls.iter_mut().for_each(|call| call.truncate(1));
            true
        });
    }
    add(&|case| std::mem::take(&mut case.other_type));
    add(&|case| case.extras.ledger.take().is_some());
    add(&|case| case.extras.guard.take().is_some());
    add(&|case| case.extras.put.take().is_some());
    add(&|case| case.extras.drop.take().is_some());
    add(&|case| std::mem::take(&mut case.extras.not_after) > 0);
    add(&|case| {
        let always = (Timestamp::MIN, Window::Day.end(Timestamp::MAX));
        std::mem::replace(&mut case.operation.from, always.0) != always.0
            || std::mem::replace(&mut case.operation.until, always.1) != always.1
    });
    for record in 0..case.records.len() {
        add(&|case| {
            let stored = &mut case.records[record];
            stored.bytes.replace(stored.whole.clone()) != Some(stored.whole.clone())
        });
        // `take` knows stops of all meters, or of none.
        let is_loose = case.script == Script::Apply;
        add(&|case| is_loose && case.operation.steps[record].ladders.take().is_some());
        for window in Window::ALL {
            add(&|case| {
                let step = &mut case.operation.steps[record];
                let at = usize::from(window == Window::Day);
                let span = case.records[record].believed.span(window);
                let same = Guard::Same(span, span);
                let is_more = matches!(step.guards[at], Guard::Roll(_) | Guard::Anew(..));
                is_more && std::mem::replace(&mut step.guards[at], same) != same
            });
        }
        for meter in 0..METERS {
            add(&|case| std::mem::take(&mut case.operation.steps[record].start[meter]) != 0);
        }
    }
    // All meters that count an amount lose it together.
    let counts = operation.steps.iter().flat_map(|step| step.counts);
    let amounts: BTreeSet<_> = counts.collect();
    for call in 0..operation.calls.len() {
        for amount in &amounts {
            add(&|case| {
                let Operation { steps, calls, .. } = &mut case.operation;
                let mut is_less = false;
                for (step, takes) in steps.iter().zip(&mut calls[call]) {
                    let of_amount = step.counts.iter().zip(takes);
                    for (_, take) in of_amount.filter(|(counts, _)| *counts == amount) {
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
