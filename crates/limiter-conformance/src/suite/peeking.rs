//! What changes nothing: peeks, reads, and calls that are denied.

use limiter_core::{Charge, Decision, KeyRecord, Search, Store, Usage};

use super::StoreUnderTest;
use super::histories::play;
use super::property::{Broken, cases, holds_for_histories, player};
use super::world::{World, named, requests_per_minute};
use crate::player::{Player, request};
use crate::replay::{Action, Call, Operation};

/// Whole decisions are compared: every rule with limit, used, remaining and reset time, and what is left of the budget.
pub async fn a_peek_tells_what_the_check_then_answers(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_histories(cases(store, 4), |history| async move {
        let mut player = player(store).await;
        for operation in &history {
            let Some(call) = checked(operation) else {
                play(&mut player, operation).await?;
                continue;
            };
            let told = peek(&player, operation, call).await;
            let answered = check(&player, operation, call).await;
            if told != answered {
                return Err(format!(
                    "{}\n  a peek tells {told:?}\n  but {answered:?}",
                    operation.to_line()
                ));
            }
        }
        Ok(())
    });
}

/// Usage and record of the key are the same before and after.
pub async fn a_peek_changes_nothing(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_histories(cases(store, 4), |history| async move {
        let mut player = player(store).await;
        for operation in &history {
            if let Some(call) = checked(operation) {
                let before = seen(&player, operation, call).await;
                drop(peek(&player, operation, call).await);
                changed_nothing(operation, &before, &seen(&player, operation, call).await)?;
            }
            play(&mut player, operation).await?;
        }
        Ok(())
    });
}

/// Usage and record of the key are the same before and after a denial, whatever its reason.
pub async fn a_denied_call_consumes_nothing(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_histories(cases(store, 4), |history| async move {
        let mut player = player(store).await;
        for operation in &history {
            let Some(call) = checked(operation) else {
                play(&mut player, operation).await?;
                continue;
            };
            let before = seen(&player, operation, call).await;
            if !check(&player, operation, call).await.is_allowed() {
                changed_nothing(operation, &before, &seen(&player, operation, call).await)?;
            }
        }
        Ok(())
    });
}

/// A key that is watched all the time goes the same way as one that nobody looks at.
pub async fn watching_changes_nothing(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_histories(cases(store, 4), |history| async move {
        let (mut alone, mut watched) = (player(store).await, player(store).await);
        for operation in &history {
            watch(&watched, operation).await;
            let (expected, answer) =
                (play(&mut alone, operation).await?, play(&mut watched, operation).await?);
            if expected != answer {
                let (expected, answer) = (expected.to_line(), answer.to_line());
                return Err(format!(
                    "{}\n  alone: {expected}\n  watched: {answer}",
                    operation.to_line()
                ));
            }
        }
        Ok(())
    });
}

/// The decision of a peek is the one of the check that would follow, so it shows the charge; the usage does not.
pub async fn a_peek_answers_as_if_charged(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_minute(2))).await;
    let peeked = world.peek(&key, None, Charge::request()).await;
    assert_eq!(
        peeked.rules().map(|rule| (rule.used, rule.remaining)).collect::<Vec<_>>(),
        [(1, 1)]
    );
    let usage = world.usage(&key).await.global.expect("the key has global limits");
    assert_eq!(usage.minute.requests.used, 0);
}

/// The call of a check that is within its bounds.
fn checked(operation: &Operation) -> Option<&Call> {
    match &operation.action {
        Action::Check(call) if operation.is_within_bounds() => Some(call),
        _ => None,
    }
}

async fn check<S: Store>(player: &Player<S>, operation: &Operation, call: &Call) -> Decision {
    player.clock().set(request::instant(operation.at));
    let (asset, charge) = asked(call);
    let decision =
        player.engine().check_and_consume(player.key(&call.key), asset.as_ref(), &charge);
    decision.await.expect("the store answers")
}

async fn peek<S: Store>(player: &Player<S>, operation: &Operation, call: &Call) -> Decision {
    player.clock().set(request::instant(operation.at));
    let (asset, charge) = asked(call);
    let decision = player.engine().peek(player.key(&call.key), asset.as_ref(), &charge);
    decision.await.expect("the store answers")
}

fn asked(call: &Call) -> (Option<limiter_core::AssetId>, Charge) {
    let asset = request::asset(call).expect("the id is within its bounds");
    (asset, request::charge(call).expect("the charge is within its bounds"))
}

/// All that anybody can see of a key at the instant of an operation.
async fn seen<S: Store>(
    player: &Player<S>,
    operation: &Operation,
    call: &Call,
) -> (Option<Usage>, Option<KeyRecord>) {
    player.clock().set(request::instant(operation.at));
    let key = player.key(&call.key);
    let usage = player.engine().usage(key).await.expect("the store answers");
    (usage, player.engine().keys_as(player.admin()).get(key).await.ok())
}

fn changed_nothing<T: PartialEq + std::fmt::Debug>(
    operation: &Operation,
    before: &T,
    after: &T,
) -> Result<(), Broken> {
    if before == after {
        return Ok(());
    }
    Err(format!("{}\n  before: {before:?}\n  after: {after:?}", operation.to_line()))
}

/// Looks at every key in every way.
async fn watch<S: Store>(player: &Player<S>, operation: &Operation) {
    if !operation.is_within_bounds() {
        return;
    }
    player.clock().set(request::instant(operation.at));
    let keys = player.engine().keys_as(player.admin());
    keys.search(&Search::all()).await.expect("the hidden admin lists the keys");
    for label in ["k1", "k2", "k3"] {
        let key = player.key(label);
        let unknown = keys.get(key).await.is_err();
        assert_eq!(keys.usage(key).await.is_err(), unknown);
        for called in [None, Some("m1"), Some("m2"), Some("global")] {
            let called = called.map(super::world::asset);
            let decision = player.engine().peek(key, called.as_ref(), &Charge::request()).await;
            drop(decision.expect("the store answers"));
        }
    }
}
