//! Histories: the store answers every operation as the model does.

use std::sync::{Mutex, PoisonError};
use std::thread;

use super::prelude::*;
use super::property::{
    Broken, bounded_player, holds_for_groups, holds_for_histories, holds_for_open_groups,
    holds_for_plans, holds_for_reservations, number_from, play, player,
};
use crate::generate::{
    Sequences, grouped_world, parallel_world, planned_world, reserved_world, small_world,
};
use crate::model::{Bounds, Model};
use crate::replay::{Action, Answer, Operation, Reserve, to_jsonl};
use crate::{Committed, committed, line_of};

pub(super) fn stories(suite: &mut Suite) {
    let unbounded = Bounds::default();

    // Charges of all shapes, a clock that stands, moves, steps back and jumps, limits, budgets and expiries changed at any
    // moment, keys deleted and created again.
    suite.story("random_histories_agree_with_the_model", move |world| {
        holds_for_histories(world, 1, |history| agrees(&world.source, unbounded, history));
    });

    // The same with calls that are reserved, amended, settled, cancelled and repeated. Small bounds refuse them, and
    // admit them again when there is room.
    for (name, share, bounds) in [
        ("random_reservations_agree_with_the_model", 1, unbounded),
        ("random_reservations_at_one_open_agree_with_the_model", 4, FEW_OPEN),
        ("random_reservations_at_one_ended_agree_with_the_model", 4, FEW_ENDED),
    ] {
        suite.story(name, move |world| {
            holds_for_reservations(world, share, |history| agrees(&world.source, bounds, history));
        });
    }

    // The same of keys in groups, which are changed, reset, put in shadow mode, deleted and created again as keys are.
    suite.story("random_groups_agree_with_the_model", move |world| {
        holds_for_groups(world, 1, |history| agrees(&world.source, unbounded, history));
    });

    // The same of keys and groups with plans, which change at any moment, for the next windows or at once.
    suite.story("random_plans_agree_with_the_model", move |world| {
        holds_for_plans(world, 1, |history| agrees(&world.source, unbounded, history));
    });

    // The same of unregistered keys: groups are opened and closed, and keys are made late.
    suite.story("random_open_groups_agree_with_the_model", move |world| {
        holds_for_open_groups(world, 1, |history| agrees(&world.source, unbounded, history));
    });

    // All sequences of up to four letters, or as many as `LIMITER_TEST_DEPTH` says; some are one letter less deep.
    type Enumerated = fn(u32) -> Sequences;
    for (name, histories, less, bounds) in [
        ("every_short_history_agrees_with_the_model", small_world as Enumerated, 0, unbounded),
        ("every_short_reservation_agrees_with_the_model", reserved_world, 0, unbounded),
        ("every_short_reservation_at_small_bounds_agrees_with_the_model", reserved_world, 1, ONE),
        ("every_short_history_of_groups_agrees_with_the_model", grouped_world, 1, unbounded),
        ("every_short_history_of_slots_agrees_with_the_model", parallel_world, 1, unbounded),
        ("every_short_history_of_plans_agrees_with_the_model", planned_world, 1, unbounded),
    ] {
        suite.story(name, move |world| {
            play_all(world, histories(depth(world).saturating_sub(less)), bounds);
        });
    }

    // Instructive histories and past failures. Most answers were worked out by hand.
    for (name, folder) in [
        ("committed_histories_are_answered_as_committed", "histories"),
        ("committed_reservations_are_answered_as_committed", "histories/reservations"),
        ("committed_histories_of_the_second_version_are_answered_as_committed", "histories/second"),
        ("committed_histories_of_groups_are_answered_as_committed", "histories/groups"),
    ] {
        suite.story(name, move |world| {
            for Committed { file, operations, answers } in committed(folder) {
                let file = file.display();
                let agreed = agrees(&world.source, unbounded, &operations);
                agreed.unwrap_or_else(|broken| panic!("{file}: {broken}"));
                let Some(expected) = answers.filter(|_| !world.source.leases) else { continue };
                let mut player = player(world);
                let answers = operations.iter().map(|operation| {
                    let answer = play(&mut player, operation).wait();
                    let answer = answer.unwrap_or_else(|broken| panic!("{broken}"));
                    line_of(folder, &answer) + "\n"
                });
                assert_eq!(answers.collect::<String>(), expected, "{file}");
            }
        });
    }
}

/// Plays a history on a store and on the model, until their answers differ.
///
/// Operations whose answer the specification leaves open are played on neither.
fn agrees(source: &Source, bounds: Bounds, history: &[Operation]) -> Result<(), Broken> {
    // An account that has reached the largest number shows what goes back of a lease.
    if source.leases && history.iter().any(is_huge) {
        return Ok(());
    }
    let (mut model, mut player) = (Model::bounded(bounds), bounded_player(source, bounds));
    let played = async {
        for (index, operation) in history.iter().enumerate() {
            if !model.specifies(operation) {
                continue;
            }
            let expected = model.answer(operation);
            let answer = play(&mut player, operation).await?;
            let differs = match source.leases {
                true => answer.without_figures() != expected.without_figures(),
                false => answer != expected,
            };
            if differs {
                return Err(format!(
                    "line {} is answered wrongly: {}\n  the model answers {}\n  the store answers {}",
                    index + 1,
                    operation.to_line(),
                    whole(&expected),
                    whole(&answer)
                ));
            }
        }
        Ok(())
    };
    played.wait()
}

/// Returns whether a call asks for so much that its account may reach the largest number.
fn is_huge(operation: &Operation) -> bool {
    let numbers = match &operation.action {
        Action::Check(call) => [call.requests, call.input, call.output, call.credits],
        Action::Reserve(Reserve { estimate: call, .. }) => {
            [call.requests, call.input, call.output, call.credits]
        }
        Action::Amend(to) | Action::Settle(to) => {
            [to.requests, to.input, to.output, to.credits].map(Option::unwrap_or_default)
        }
        _ => [0; 4],
    };
    numbers.into_iter().any(|number| number > HUGE)
}

/// Returns the line of an answer, and the fields that the line leaves out.
fn whole(answer: &Answer) -> String {
    match answer {
        Answer::TooMany { retry_at } => format!("{} until {retry_at}", answer.to_line()),
        Answer::Usage(usage) => {
            let pending: Vec<_> = usage.rows.iter().map(|row| &row.pending).collect();
            format!("{}, pending {pending:?}", answer.to_line())
        }
        _ => format!("{}, fires {:?}", answer.to_line(), answer.crossed()),
    }
}

/// Plays all of them, each on an empty store, with as many threads as there are cores.
fn play_all(world: &World, histories: Sequences, bounds: Bounds) {
    let (total, letters) = (histories.total(), histories.letters());
    let histories = Mutex::new(histories);
    let next = || {
        let mut histories = histories.lock().unwrap_or_else(PoisonError::into_inner);
        histories.by_ref().take(BATCH).collect::<Vec<_>>()
    };
    let played = at_once(thread::available_parallelism().map_or(1, usize::from), |_| {
        let mut played = 0;
        loop {
            let batch = next();
            if batch.is_empty() {
                return played;
            }
            for history in batch {
                if let Err(broken) = agrees(&world.source, bounds, &history) {
                    panic!("{broken}\nThe history:\n{}", to_jsonl(&history));
                }
                played += 1;
            }
        }
    });
    assert_eq!(played.iter().sum::<u64>(), total);
    println!("{total} histories: every short sequence of {letters} letters");
}

/// Returns the length of the longest enumerated histories for this store.
fn depth(world: &World) -> u32 {
    let depth = number_from("LIMITER_TEST_DEPTH").unwrap_or(DEFAULT_DEPTH);
    match world.source.slowness {
        0..=1 => depth,
        2..100 => depth.saturating_sub(1),
        100.. => depth.saturating_sub(2),
    }
}

const HUGE: u64 = 1 << 40;
const FEW_OPEN: Bounds = Bounds { open: 1, ended: 2, checks: 1 };
const FEW_ENDED: Bounds = Bounds { open: 2, ended: 1, checks: 1 };
const ONE: Bounds = Bounds { open: 1, ended: 1, checks: 1 };
/// 137,561 histories, seconds for a store in memory. One more is millions.
const DEFAULT_DEPTH: u32 = 4;
/// Enough that threads do not wait for each other to take the next.
const BATCH: usize = 64;
