//! Operations that change nothing: peeks, reads and denied calls.

use limiter_core::{Charge, KeyRecord, Search, Usage};

use super::prelude::*;
use super::property::{Broken, holds_for_groups, holds_for_histories, play, player};
use crate::player::{Player, request};
use crate::replay::{Action, Call, Operation, levels};

pub(super) fn stories(suite: &mut Suite) {
    // Whole decisions are compared: every rule with limit, used, remaining and reset time, and the rest of the budget.
    // Neither the peek nor a denial changes the visible state of the key.
    suite.exact_story("a_peek_answers_what_the_check_then_answers", |world| {
        holds_for_histories(world, 4, |history| peeks_answer_as_checks(world, history));
    });

    // Nor the state of its groups.
    suite.exact_story("a_peek_in_a_group_answers_what_the_check_then_answers", |world| {
        holds_for_groups(world, 8, |history| peeks_answer_as_checks(world, history));
    });

    // A key that is read all the time gets the same decisions as one that is not.
    suite.exact_story("watching_changes_nothing", |world| {
        holds_for_histories(world, 4, |history| {
            let (mut alone, mut watched) = (player(world), player(world));
            for operation in history {
                watch(&watched, operation);
                let alone = play(&mut alone, operation).wait()?;
                same(&alone, &play(&mut watched, operation).wait()?)
                    .map_err(|broken| format!("{}\n{broken}", operation.to_line()))?;
            }
            Ok(())
        });
    });
}

/// Peeks before each check of a history.
fn peeks_answer_as_checks(world: &World, history: &[Operation]) -> Result<(), Broken> {
    let mut player = player(world);
    for operation in history {
        match &operation.action {
            Action::Check(call) if operation.is_within_bounds() => {
                player.clock().set(request::instant(operation.at));
                let broken = |broken| format!("{}\n{broken}", operation.to_line());
                peek_answers_as_check(&player, call).map_err(broken)?;
            }
            _ => {
                play(&mut player, operation).wait()?;
            }
        }
    }
    Ok(())
}

fn peek_answers_as_check(player: &Player, call: &Call) -> Result<(), Broken> {
    let before = seen(player, call);
    let peeked = player.peek(call).wait().expect("the store answers");
    same(&before, &seen(player, call))?;
    let checked = player.check(call).wait().expect("the store answers");
    same(&peeked, &checked)?;
    if checked.is_charged() { Ok(()) } else { same(&before, &seen(player, call)) }
}

fn same<V: PartialEq + std::fmt::Debug>(one: &V, other: &V) -> Result<(), Broken> {
    if one == other { Ok(()) } else { Err(format!("  first: {one:?}\n  then: {other:?}")) }
}

/// Returns the state of each level of a key that callers and admins can see.
fn seen(player: &Player, call: &Call) -> Vec<(Option<Usage>, Option<KeyRecord>)> {
    let keys = player.store().keys_as(player.admin());
    let seen = levels(&call.key).map(|level| {
        let key = player.key(level);
        let usage = player.store().usage(&key).wait().expect("the store answers");
        (usage, keys.get(&key).wait().ok())
    });
    seen.collect()
}

/// Reads every key in every way.
fn watch(player: &Player, operation: &Operation) {
    if !operation.is_within_bounds() {
        return;
    }
    player.clock().set(request::instant(operation.at));
    let keys = player.store().keys_as(player.admin());
    keys.search(&Search::all()).wait().expect("the hidden admin lists the keys");
    for label in ["k1", "k2", "k3"] {
        let key = player.key(label);
        let unknown = keys.get(&key).wait().is_err();
        assert_eq!(keys.usage(&key).wait().is_err(), unknown);
        for called in [None, Some("m1"), Some("m2"), Some("global")] {
            let (called, charge) = (called.map(asset), Charge::request());
            let decision = player.store().peek(&key, called.as_ref(), &charge).wait();
            assert!(decision.is_ok(), "{decision:?}");
        }
    }
}
