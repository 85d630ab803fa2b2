//! Repeating: an answer that was lost is asked for again, and nothing is counted twice.

use std::time::Duration;

use limiter_core::{Charge, Decision, DenialReason, ReservationError, SettledAs, Totals};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, at_noon_and, generous, millionths, output};
use super::world::{DAY, MINUTE, NOON, assert_refused, asset, named, requests_per_minute, tokens};

/// The same figures are the same settlement; it changes nothing more, also after others came.
pub async fn a_repeated_settlement_changes_nothing_more(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.reserve("r2", tokens(0, 5)).await;
    for _ in 0..3 {
        calls.settle("r1", output(20)).await.expect("the reservation is known");
    }
    assert_eq!(calls.used().await, [2, 25, 2, 25]);
}

/// "Settle and cancel answer `actual` and what was charged by it, so that a caller can bill". A repetition answers the
/// same charge, and is marked as a repetition.
pub async fn the_final_charge_is_answered_and_once_as_the_first(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let estimate = tokens(3, 5).with_requests(2).expect("within bounds");
    for (id, called) in [("r1", Some("m1")), ("r2", None)] {
        let reserved = calls.try_reserve(id, called, estimate, DAY).await;
        assert!(reserved.is_ok_and(|decision| decision.is_allowed()));
    }
    let _ = calls.extend("r1", output(6)).await.expect("the reservation is known");
    let actual = output(7).with_credits(millionths(9));
    let charge = estimate.with_tokens(3, 7).expect("within bounds").with_credits(millionths(9));
    for outcome in [SettledAs::First, SettledAs::Repeated, SettledAs::Repeated] {
        let settled = calls.settle("r1", actual).await.expect("the reservation is known");
        assert_eq!((settled.asset, settled.charge), (Some(asset("m1")), Some(charge)));
        assert_eq!((settled.outcome, settled.at), (outcome, Some(NOON)));
    }
    for outcome in [SettledAs::First, SettledAs::Repeated] {
        let cancelled = calls.cancel("r2").await.expect("the reservation is known");
        assert_eq!((cancelled.asset, cancelled.charge), (None, Some(Charge::NOTHING)));
        assert_eq!((cancelled.outcome, cancelled.crossed), (outcome, Vec::new()));
    }
}

/// "Settle is final": other figures come too late, and so does a cancel.
pub async fn a_settlement_is_final(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.settle("r1", output(20)).await.expect("the reservation is known");
    assert_refused!(calls.settle("r1", output(21)).await, ReservationError::AlreadySettled(_));
    assert_refused!(calls.cancel("r1").await, ReservationError::AlreadySettled(_));
    assert_eq!(calls.used().await, [1, 20, 1, 20]);
}

/// A cancel may be repeated; a settlement after it is refused, also one at zero, which would count the request.
pub async fn a_cancel_is_final(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    for _ in 0..3 {
        calls.cancel("r1").await.expect("the reservation is known");
    }
    assert_refused!(calls.settle("r1", output(0)).await, ReservationError::AlreadySettled(_));
    assert_eq!(calls.used().await, [0, 0, 0, 0]);
}

/// Repeated with another ttl, after an extension, after the settlement, or when the key has expired: it is known.
pub async fn a_repeated_reservation_is_replayed(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    for step in 0..4 {
        match step {
            1 => assert!(calls.extend("r1", output(60)).await.is_ok()),
            2 => assert!(calls.settle("r1", output(40)).await.is_ok()),
            3 => {
                let expire =
                    calls.world.update(&calls.key, |config| config.expires_at = Some(NOON));
                assert!(expire.await.is_ok());
            }
            _ => {}
        }
        let before = calls.used().await;
        let again = calls.try_reserve("r1", None, tokens(0, 50), MINUTE).await;
        assert!(is_replayed(&again.expect("the figures are the same")), "step {step}");
        assert_eq!(calls.used().await, before);
    }
}

/// A first reservation is not flagged, and a replay tells the state of now.
pub async fn a_replay_tells_the_state_of_now(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let first = calls.try_reserve("r1", None, tokens(0, 50), DAY).await.expect("it is new");
    assert!(first.is_allowed() && !is_replayed(&first));
    calls.reserve("r2", tokens(0, 30)).await;
    let again = calls.try_reserve("r1", None, tokens(0, 50), DAY).await.expect("it is known");
    let left: Vec<_> = again.rules().map(|rule| rule.remaining).collect();
    assert_eq!(left, [8, 20, 920]);
}

/// An id that is used for another call is a mistake of the caller, and told.
pub async fn a_known_id_with_another_call_is_refused(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(1, 50)).await;
    for (called, estimate) in [
        (Some("m1"), tokens(1, 50)),
        (None, tokens(1, 51)),
        (None, tokens(51, 0)),
        (None, Charge::request()),
    ] {
        let other = calls.try_reserve("r1", called, estimate, DAY).await;
        assert_refused!(other, ReservationError::OtherExists(_));
    }
    let extended = calls.extend("r1", output(60)).await;
    assert!(extended.is_ok());
    let as_extended = calls.try_reserve("r1", None, tokens(1, 60), DAY).await;
    assert_refused!(as_extended, ReservationError::OtherExists(_));
}

/// After the ttl the id names another call.
pub async fn an_id_is_free_after_its_ttl(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let ttl = Duration::from_secs(1);
    assert!(calls.try_reserve("r1", None, tokens(0, 50), ttl).await.is_ok());
    calls.world.advance(ttl);
    let again = calls.try_reserve("r1", None, tokens(0, 7), ttl).await.expect("the id is free");
    assert!(again.is_allowed() && !is_replayed(&again));
    calls.settle("r1", output(1)).await.expect("it is the second that is settled");
    assert_eq!(calls.used().await, [2, 51, 2, 51]);
}

/// After the dedupe time since its end the id names another call, also if its ttl is longer.
pub async fn an_id_is_free_after_the_dedupe_time(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.settle("r1", output(20)).await.expect("the reservation is known");
    calls.world.advance(2 * MINUTE);
    let again = calls.try_reserve("r1", None, tokens(0, 7), DAY).await.expect("the id is free");
    assert!(again.is_allowed() && !is_replayed(&again));
    assert_eq!(calls.used().await, [1, 7, 2, 27]);
}

/// What was denied was not reserved.
pub async fn a_denied_reservation_is_not_made(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let denied = calls.try_reserve("r1", None, tokens(0, 101), DAY).await;
    assert!(denied.is_ok_and(|decision| !decision.is_allowed()));
    assert_refused!(calls.settle("r1", output(1)).await, ReservationError::Unknown(_));
    calls.reserve("r1", tokens(0, 100)).await;
}

/// A retry after a timeout is safe: it is allowed, and charged once.
pub async fn a_check_with_a_known_id_is_charged_once(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_minute(1))).await;
    let first = calls.check_once("q1", None, tokens(0, 5)).await.expect("the store answers");
    assert!(first.is_allowed() && !is_replayed(&first));
    for _ in 0..3 {
        let again = calls.check_once("q1", None, tokens(0, 5)).await.expect("the store answers");
        assert!(is_replayed(&again));
    }
    assert_eq!(calls.used().await, [1, 5, 1, 5]);
    let another = calls.check_once("q2", None, tokens(0, 5)).await.expect("the store answers");
    assert!(!another.is_allowed());
}

/// "The id alone decides": another asset or charge is not looked at.
pub async fn the_id_of_a_check_alone_decides(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    assert!(calls.check_once("q1", None, tokens(0, 5)).await.is_ok());
    let other = calls.check_once("q1", Some("m1"), tokens(90, 90)).await;
    assert!(is_replayed(&other.expect("the store answers")));
    assert_eq!(calls.used().await, [1, 5, 1, 5]);
}

/// "Only admitted calls are remembered": what was denied may be allowed later.
pub async fn a_denied_check_is_decided_anew(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 100)).await;
    let denied = calls.check_once("q1", None, tokens(0, 5)).await.expect("the store answers");
    assert!(!denied.is_allowed());
    calls.settle("r1", output(50)).await.expect("the reservation is known");
    let allowed = calls.check_once("q1", None, tokens(0, 5)).await.expect("the store answers");
    assert!(allowed.is_allowed() && !is_replayed(&allowed));
}

/// To the millisecond: for 120 seconds, and no longer, and a repetition does not prolong it.
pub async fn a_check_is_remembered_for_two_minutes(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    assert!(calls.check_once("q1", None, tokens(0, 5)).await.is_ok());
    calls.world.clock.set(at_noon_and(119_999));
    let last = calls.check_once("q1", None, tokens(0, 5)).await.expect("the store answers");
    assert!(is_replayed(&last));
    calls.world.clock.set(NOON.after(2 * MINUTE));
    let new = calls.check_once("q1", None, tokens(0, 5)).await.expect("the store answers");
    assert!(new.is_allowed() && !is_replayed(&new));
    assert_eq!(calls.used().await, [1, 5, 2, 10]);
}

/// The call was made: that the key has expired since does not undo it.
pub async fn a_repeated_check_is_allowed_on_an_expired_key(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    assert!(calls.check_once("q1", None, tokens(0, 5)).await.is_ok());
    let expired = calls.world.update(&calls.key, |config| config.expires_at = Some(NOON)).await;
    assert!(expired.is_ok());
    let again = calls.check_once("q1", None, tokens(0, 5)).await.expect("the store answers");
    assert!(is_replayed(&again));
}

/// "Ids of checks and of reservations are separate", and each key has its own.
pub async fn ids_of_checks_and_reservations_are_separate(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    assert!(calls.check_once("same", None, tokens(0, 5)).await.is_ok());
    calls.reserve("same", tokens(0, 50)).await;
    assert_eq!(calls.used().await, [2, 55, 2, 55]);
    calls.cancel("same").await.expect("the reservation is known");
    let again = calls.check_once("same", None, tokens(0, 5)).await.expect("the store answers");
    assert!(is_replayed(&again));
    let other = calls.world.member(named("other").with_global(generous())).await;
    let other = Calls { world: calls.world, key: other };
    let first = other.check_once("same", None, tokens(0, 5)).await.expect("the store answers");
    assert!(first.is_allowed() && !is_replayed(&first));
}

/// "On a deleted key all answer `KeyUnknown`": what would decide as a denial, what would change as an error.
pub async fn a_deleted_key_is_unknown_to_all(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    assert!(calls.check_once("q1", None, tokens(0, 5)).await.is_ok());
    calls.world.keys().delete(&calls.key).await.expect("an admin deletes keys");
    for decision in [
        calls.try_reserve("r1", None, tokens(0, 50), DAY).await,
        calls.extend("r1", output(60)).await,
        calls.check_once("q1", None, tokens(0, 5)).await,
    ] {
        let decision = decision.expect("it is a denial");
        let reason = decision.denied().map(|denied| denied.reason().clone());
        assert!(matches!(reason, Some(DenialReason::KeyUnknown)), "{reason:?}");
    }
    assert_refused!(calls.settle("r1", Totals::unchanged()).await, ReservationError::KeyUnknown);
    assert_refused!(calls.cancel("r1").await, ReservationError::KeyUnknown);
}

fn is_replayed(decision: &Decision) -> bool {
    decision.allowed().is_some_and(limiter_core::Allowed::replayed)
}
