//! `retry_at` is exact: denied until then, allowed then; and where there is none, no wait helps.

use limiter_core::{Decision, Store, Timestamp};

use super::StoreUnderTest;
use super::histories::play;
use super::property::{Broken, cases, holds_for_histories, player};
use super::world::{
    DAY, MIDNIGHT, MINUTE, NEXT_MINUTE, NOON, World, named, requests_per_minute, tokens,
};
use crate::player::{Player, request};
use crate::replay::{Action, Answer, Call, Denial, Operation};

/// Nothing else is consumed, and time is moved by hand. The same charge is denied a millisecond before.
pub async fn a_charge_is_allowed_at_retry_at_and_not_a_millisecond_earlier(
    store: impl StoreUnderTest,
) {
    let store = &store;
    holds_for_histories(cases(store, 4), |history| async move {
        let mut player = player(store).await;
        for operation in &history {
            if let Some((call, Some(retry_at))) = rate_limited(&mut player, operation).await? {
                let before = answer_at(&player, call, retry_at - 1).await;
                let then = answer_at(&player, call, retry_at).await;
                if before.is_allowed() || !then.is_allowed() {
                    let call = operation.to_line();
                    return Err(format!(
                        "{call}\n  a millisecond before: {before:?}\n  at {retry_at}: {then:?}"
                    ));
                }
            }
        }
        Ok(())
    });
}

/// Every end of a minute of three days is tried; ends of days are among them. Changes that are pending come meanwhile.
pub async fn a_charge_that_never_fits_is_denied_at_every_window_end(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_histories(cases(store, 20), |history| async move {
        let mut player = player(store).await;
        for operation in &history {
            if let Some((call, None)) = rate_limited(&mut player, operation).await? {
                let first_end = (operation.at / MINUTE_MS + 1) * MINUTE_MS;
                for end in (0..MINUTES_OF_THREE_DAYS).map(|minute| first_end + minute * MINUTE_MS) {
                    if answer_at(&player, call, end).await.is_allowed() {
                        return Err(format!("{}\n  is allowed at {end}", operation.to_line()));
                    }
                }
                // Once in a history, as it takes thousands of peeks.
                return Ok(());
            }
        }
        Ok(())
    });
}

/// Of several violated rules, the one that is full the longest decides.
pub async fn a_retry_waits_for_the_day_if_the_day_is_full(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let day_and_minute = super::world::limits(|l| l.requests_per_minute(1).tokens_per_day(5));
    let key = world.member(named("ci").with_global(day_and_minute)).await;
    assert!(world.check(&key, None, tokens(0, 5)).await.is_allowed());
    let denied = world.check(&key, None, tokens(0, 1)).await;
    assert_eq!(retry_at(&denied), Some(MIDNIGHT));
}

/// A limit that is raised now helps from the next minute on, and the answer knows.
pub async fn a_retry_counts_on_a_pending_limit(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_minute(0))).await;
    assert_eq!(retry_at(&world.check(&key, None, tokens(0, 0)).await), None);
    world.update(&key, |config| config.global = requests_per_minute(1)).await.expect("an update");
    assert_eq!(retry_at(&world.check(&key, None, tokens(0, 0)).await), Some(NEXT_MINUTE));
}

/// A key that has expired by then makes no calls.
pub async fn no_retry_outlives_the_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let config = named("ci").with_global(requests_per_minute(1));
    let key = world.member(config.clone().with_expiry(NEXT_MINUTE)).await;
    world.admit(&key, None, 1).await;
    assert_eq!(retry_at(&world.check(&key, None, tokens(0, 0)).await), None);
    let later =
        world.update(&key, |config| config.expires_at = Some(NEXT_MINUTE.after(MINUTE))).await;
    later.expect("an expiry is put off");
    assert_eq!(retry_at(&world.check(&key, None, tokens(0, 0)).await), Some(NEXT_MINUTE));
}

/// A budget has no window: waiting does not fill it.
pub async fn an_exhausted_budget_has_no_retry(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let broke = named("ci").with_budget(limiter_core::Credits::ZERO);
    let key = world.member(broke.with_global(requests_per_minute(0))).await;
    for instant in [NOON, NEXT_MINUTE, MIDNIGHT, MIDNIGHT.after(DAY)] {
        world.clock.set(instant);
        assert_eq!(retry_at(&world.check(&key, None, tokens(0, 0)).await), None);
    }
}

/// Plays an operation; if it is a call that a rule denies, answers it with its retry.
async fn rate_limited<'a, S: Store>(
    player: &mut Player<S>,
    operation: &'a Operation,
) -> Result<Option<(&'a Call, Option<u64>)>, Broken> {
    let answer = play(player, operation).await?;
    Ok(match (&operation.action, answer) {
        (Action::Check(call), Answer::Denied(Denial::RateLimited { retry_at, .. })) => {
            Some((call, retry_at))
        }
        _ => None,
    })
}

/// What the same call would be answered at another instant. The next operation sets the clock again.
async fn answer_at<S: Store>(player: &Player<S>, call: &Call, at: u64) -> Decision {
    player.clock().set(request::instant(at));
    let asset = request::asset(call).expect("the id is within its bounds");
    let charge = request::charge(call).expect("the charge is within its bounds");
    let decision = player.engine().peek(player.key(&call.key), asset.as_ref(), &charge).await;
    decision.expect("the store answers")
}

fn retry_at(decision: &Decision) -> Option<Timestamp> {
    decision.denied().expect("the call is denied").retry_at()
}

const MINUTE_MS: u64 = 60_000;
const MINUTES_OF_THREE_DAYS: u64 = 3 * 24 * 60;
