//! Shadow mode: what would be denied for a limit or the budget is let through, says so, and charges nothing.

use limiter_core::{
    Charge, Decision, DecisionHandle, DenialReason, Denied, KeyConfig, NewKey, ReservationError,
    Store,
};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, generous, millionths, output};
use super::told::{NOTHING, told};
use super::world::{
    DAY, MINUTE, NOON, World, assert_refused, asset, key_id, named, requests_per_day,
    requests_per_minute, tokens,
};

/// One key is enforced and one is not, and both are asked the same, through calls that fit and calls that do not: what the
/// one is denied, the other is told, word for word; what the one may, the other may; and their counts are the same.
pub async fn a_key_in_shadow_is_decided_and_counted_like_any_other(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let config = |name, shadow| {
        let config = named(name).with_global(generous()).with_budget(millionths(45));
        config.with_asset(asset("m1"), requests_per_day(30)).with_shadow(shadow)
    };
    let enforced = world.member(config("enforced", false)).await;
    let shadow = world.member(config("shadow", true)).await;
    let (mut denied, mut exhausted) = (0, 0);
    for call in 0..150 {
        let called = (call % 3 > 0).then_some("m1");
        let charge = tokens(call % 7, call % 11 * 3).with_credits(millionths(call % 5));
        let expected = world.check(&enforced, called, charge).await;
        let answer = world.check(&shadow, called, charge).await;
        match (&expected, &answer) {
            (Decision::Denied(denial), Decision::Allowed(allowed)) => {
                let shadowed = allowed.shadowed().expect("it is flagged");
                assert_eq!((denial.key(), shadowed.key()), (Some(&enforced), Some(&shadow)));
                assert_eq!(shadowed.reason(), denial.reason());
                assert_eq!(shadowed.asset(), denial.asset());
                assert_eq!(shadowed.decided_at(), denial.decided_at());
                assert!(!answer.is_charged() && allowed.crossed().is_empty());
                let budget = matches!(denial.reason(), DenialReason::BudgetExhausted { .. });
                *(if budget { &mut exhausted } else { &mut denied }) += 1;
            }
            _ => assert_eq!(expected, answer),
        }
        assert_eq!(world.usage(&shadow).await, world.usage(&enforced).await);
        if call % 20 == 19 {
            world.advance(MINUTE);
        }
    }
    assert!(denied > 10 && exhausted > 10, "{denied} for a limit, {exhausted} for the budget");
}

/// The rules are shown as they stand: nothing is left of the one that would have denied.
pub async fn what_is_let_through_shows_the_rules_as_they_stand(store: impl StoreUnderTest) {
    let calls = in_shadow(&store, named("ci").with_global(requests_per_minute(2))).await;
    calls.world.admit(&calls.key, None, 2).await;
    let decision = calls.world.check(&calls.key, None, Charge::request()).await;
    let denial = shadowed(&decision).rate_limited().expect("a rule is the reason");
    assert_eq!(denial.violations().count(), 1);
    let rules: Vec<_> = decision.rules().map(|rule| (rule.used, rule.remaining)).collect();
    assert_eq!(rules, [(2, 0)]);
}

/// A peek tells that the call would be let through, and a handle lets it through.
pub async fn peeks_and_handles_let_through_as_checks_do(store: impl StoreUnderTest) {
    let calls = in_shadow(&store, named("ci").with_asset(asset("m1"), requests_per_day(1))).await;
    calls.world.admit(&calls.key, "m1", 1).await;
    let checked = calls.world.check(&calls.key, "m1", Charge::request()).await;
    shadowed(&checked);
    assert_eq!(calls.world.peek(&calls.key, "m1", Charge::request()).await, checked);
    let handle = calls.world.engine.handle(&calls.key, Some(&asset("m1"))).await;
    let handle = handle.expect("the store answers").expect("the key is known");
    for answer in
        [handle.check_and_consume(&Charge::request()).await, handle.peek(&Charge::request()).await]
    {
        assert_eq!(answer.expect("the store answers"), checked);
    }
    let usage = calls.world.usage(&calls.key).await;
    assert_eq!(usage.assets[0].usage.day.requests.used, 1);
}

/// "Only admitted calls are remembered": the same id is decided anew, and charged when it fits.
pub async fn the_id_of_a_call_that_is_let_through_is_not_remembered(store: impl StoreUnderTest) {
    let calls = in_shadow(&store, named("ci").with_global(requests_per_minute(1))).await;
    calls.world.admit(&calls.key, None, 1).await;
    for _ in 0..2 {
        shadowed(&calls.check_once("q1", None, Charge::request()).await.expect("it is new"));
    }
    calls.world.advance(MINUTE);
    for replayed in [false, true] {
        let decision = calls.check_once("q1", None, Charge::request()).await.expect("it fits");
        assert!(decision.is_charged());
        assert_eq!(decision.allowed().map(|allowed| allowed.replayed()), Some(replayed));
    }
    assert_eq!(calls.used().await, [1, 0, 2, 0]);
}

/// There is nothing to extend, settle or cancel: nothing was charged.
pub async fn a_reservation_that_is_let_through_is_not_made(store: impl StoreUnderTest) {
    let calls = in_shadow(&store, named("ci").with_global(generous())).await;
    let reserved = calls.try_reserve("r1", None, tokens(0, 101), DAY).await.expect("it is new");
    shadowed(&reserved);
    assert_refused!(calls.extend("r1", output(200)).await, ReservationError::Unknown(_));
    assert_refused!(calls.settle("r1", output(20)).await, ReservationError::Unknown(_));
    assert_refused!(calls.cancel("r1").await, ReservationError::Unknown(_));
    assert_eq!(calls.used().await, [0, 0, 0, 0]);
    calls.reserve("r1", tokens(0, 50)).await;
    assert_eq!(calls.used().await, [1, 50, 1, 50], "the id is free");
}

/// The stream goes on, its estimate stays as it was, and what it did cost is counted in the end.
pub async fn an_extension_that_is_let_through_charges_nothing(store: impl StoreUnderTest) {
    let calls = in_shadow(&store, named("ci").with_global(generous())).await;
    calls.reserve("r1", tokens(0, 50)).await;
    shadowed(&calls.extend("r1", output(150)).await.expect("the reservation is known"));
    assert_eq!(calls.used().await, [1, 50, 1, 50]);
    assert_eq!(calls.settling_tells("r1", output(140)).await.len(), 2);
    assert_eq!(calls.used().await, [1, 140, 1, 140]);
}

/// Thresholds are told by what is charged, also in shadow: the last of them says that the limit is reached.
pub async fn thresholds_are_told_in_shadow_as_always(store: impl StoreUnderTest) {
    let calls = in_shadow(&store, named("ci").with_global(requests_per_day(5))).await;
    calls.world.admit(&calls.key, None, 3).await;
    assert_eq!(calls.tells(None, Charge::request()).await, ["80 % of global/day/requests"]);
    assert_eq!(calls.tells(None, Charge::request()).await, ["100 % of global/day/requests"]);
    let through = calls.world.check(&calls.key, None, Charge::request()).await;
    shadowed(&through);
    assert_eq!(through.allowed().map(|allowed| allowed.crossed().len()), Some(0));
    let nothing = Charge::request().with_requests(0).expect("within bounds");
    assert_eq!(told(&calls.world.check(&calls.key, None, nothing).await), NOTHING);
}

/// Shadow mode is about limits: an expired key, an admin key and one that is not known make no calls.
pub async fn who_may_not_call_may_not_in_shadow(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let config = |name| named(name).with_shadow(true);
    let expired = world.member(config("expired").with_expiry(NOON)).await;
    let admin = world.create(NewKey::admin(config("admin")).without_access_key()).await;
    let deleted = world.member(config("deleted")).await;
    world.keys().delete(&deleted).await.expect("an admin deletes keys");
    for key in [expired, admin.record.id, deleted, key_id("nobody")] {
        assert!(!world.check(&key, None, Charge::request()).await.is_allowed());
        assert!(!world.peek(&key, None, Charge::request()).await.is_allowed());
    }
}

/// Like budget and expiry it does not wait, also for handles that are out already.
pub async fn shadow_mode_begins_and_ends_at_once(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_day(1))).await;
    world.admit(&key, None, 1).await;
    let handle = world.engine.handle(&key, None).await.expect("the store answers");
    let handle = handle.expect("the key is known");
    assert!(!world.record(&key).await.shadow);
    for shadow in [true, false, true] {
        let updated = world.update(&key, |config| config.shadow = shadow).await.expect("an update");
        assert_eq!((updated.shadow, world.record(&key).await.shadow), (shadow, shadow));
        assert_eq!(world.record(&key).await.config().shadow, shadow);
        let by_key = world.check(&key, None, Charge::request()).await;
        let by_handle = handle.check_and_consume(&Charge::request()).await;
        for decision in [by_key, by_handle.expect("the store answers")] {
            assert_eq!((decision.is_allowed(), decision.is_charged()), (shadow, false));
        }
    }
    assert_eq!(world.usage(&key).await.global.expect("it is counted").day.requests.used, 1);
}

/// The denial of a call that was let through.
fn shadowed(decision: &Decision) -> &Denied {
    assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
    decision.shadowed().expect("it was let through")
}

async fn in_shadow<S: Store>(
    store: &impl StoreUnderTest<Store = S>,
    config: KeyConfig,
) -> Calls<S> {
    Calls::of(store, config.with_shadow(true)).await
}
