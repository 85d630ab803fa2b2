//! Bounds of the memory of calls: what would be one too many is refused and charged nothing, and nothing that is still
//! promised is forgotten.

use std::time::Duration;

use limiter_core::{Charge, LedgerBounds, ReservationError, SettledAs, Store, Timestamp, Totals};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, at_noon_and, generous, output};
use super::world::{DAY, MINUTE, NOON, assert_refused, named, requests_per_minute, tokens};

/// "An ended reservation is remembered for the dedupe time (120 s by default) from its end": to the millisecond, also when
/// its ttl would pass sooner or later, and a repetition does not prolong it.
pub async fn an_ended_reservation_is_remembered_for_two_minutes_from_its_end(
    store: impl StoreUnderTest,
) {
    let calls = Calls::at_noon(&store).await;
    for (id, ttl) in [("sooner", MINUTE), ("later", DAY), ("cancelled", DAY)] {
        assert!(calls.try_reserve(id, None, tokens(0, 5), ttl).await.is_ok());
    }
    calls.world.clock.set(at_noon_and(59_999));
    calls.settle("sooner", output(4)).await.expect("a millisecond is left");
    calls.settle("later", output(4)).await.expect("the reservation is known");
    calls.cancel("cancelled").await.expect("the reservation is known");
    for ms in [60_000, 179_998] {
        calls.world.clock.set(at_noon_and(ms));
        for settled in [
            calls.settle("sooner", output(4)).await,
            calls.settle("later", output(4)).await,
            calls.cancel("cancelled").await,
        ] {
            let settled = settled.expect("it is a repetition");
            assert_eq!(settled.outcome, SettledAs::Repeated, "{ms} ms after noon");
        }
        let again = calls.try_reserve("later", None, tokens(0, 5), DAY).await.expect("it is known");
        assert!(again.allowed().is_some_and(|allowed| allowed.replayed()), "{ms} ms after noon");
    }
    calls.world.clock.set(at_noon_and(179_999));
    for id in ["sooner", "later"] {
        assert_refused!(calls.settle(id, output(4)).await, ReservationError::Unknown(_));
    }
    assert_refused!(calls.cancel("cancelled").await, ReservationError::Unknown(_));
    assert_eq!(calls.used().await[3], 8, "each was settled once");
}

/// Nothing is charged, what is known stays known, and the answer names the bound and the instant.
pub async fn a_reservation_at_the_bound_of_open_ones_is_refused_until_the_first_ttl_has_passed(
    store: impl StoreUnderTest,
) {
    let calls = few(&store, LedgerBounds { open: 2, ..LedgerBounds::default() }).await;
    assert!(calls.try_reserve("r1", None, tokens(0, 5), 2 * MINUTE).await.is_ok());
    assert!(calls.try_reserve("r2", None, tokens(0, 5), MINUTE).await.is_ok());
    let sentence = refused(&calls, "r3", NOON.after(MINUTE)).await;
    assert!(sentence.contains("2 open reservations"), "{sentence}");
    assert!(sentence.contains("2025-10-09T12:01:00Z"), "{sentence}");
    assert!(sentence.contains("nothing was charged"), "{sentence}");
    assert_eq!(calls.used().await, [2, 10, 2, 10]);
    let known = calls.try_reserve("r1", None, tokens(0, 5), DAY).await.expect("it is known");
    assert!(known.allowed().is_some_and(|allowed| allowed.replayed()));

    calls.world.clock.set(at_noon_and(59_999));
    refused(&calls, "r3", NOON.after(MINUTE)).await;
    calls.world.clock.set(NOON.after(MINUTE));
    calls.reserve("r3", tokens(0, 5)).await;
    refused(&calls, "r4", NOON.after(2 * MINUTE)).await;
}

/// A key may reserve without end, as long as few of its calls run at a time.
pub async fn an_ended_reservation_leaves_its_place_to_an_open_one(store: impl StoreUnderTest) {
    let calls = few(&store, LedgerBounds { open: 1, ..LedgerBounds::default() }).await;
    for number in 0..8 {
        let id = format!("r{number}");
        calls.reserve(&id, tokens(0, 5)).await;
        assert_refused!(
            calls.try_reserve("another", None, tokens(0, 5), DAY).await,
            ReservationError::TooMany { most: 1, .. }
        );
        calls.settle(&id, output(5)).await.expect("the reservation is known");
    }
    assert_eq!(calls.used().await, [8, 40, 8, 40]);
}

/// Its own end will need a place.
pub async fn a_reservation_at_the_bound_of_ended_ones_is_refused_until_one_is_forgotten(
    store: impl StoreUnderTest,
) {
    let calls = few(&store, LedgerBounds { ended: 2, ..LedgerBounds::default() }).await;
    for (seconds, id) in [(0, "r1"), (1, "r2")] {
        calls.world.clock.set(NOON.after(Duration::from_secs(seconds)));
        calls.reserve(id, tokens(0, 5)).await;
        calls.cancel(id).await.expect("the reservation is known");
    }
    let sentence = refused(&calls, "r3", NOON.after(2 * MINUTE)).await;
    assert!(sentence.contains("2 ended reservations"), "{sentence}");
    assert_eq!(calls.used().await, [0, 0, 0, 0]);
    calls.cancel("r1").await.expect("a repetition needs no place");
    calls.world.clock.set(at_noon_and(119_999));
    refused(&calls, "r3", NOON.after(2 * MINUTE)).await;
    calls.world.clock.set(NOON.after(2 * MINUTE));
    calls.reserve("r3", tokens(0, 5)).await;
}

/// A refund may not be lost: what was open when the ended ones reached their bound ends beyond it, and is remembered as long
/// as any. There is room when as many are forgotten as exceed the bound.
pub async fn settlements_never_fail_for_a_bound(store: impl StoreUnderTest) {
    let bounds = LedgerBounds { open: 4, ended: 1, ..LedgerBounds::default() };
    let calls = few(&store, bounds).await;
    let ids = ["r0", "r1", "r2", "r3"];
    for id in ids {
        calls.reserve(id, tokens(0, 5)).await;
    }
    for (id, second) in ids.into_iter().zip(0..) {
        calls.world.clock.set(NOON.after(Duration::from_secs(second)));
        calls.settle(id, output(1)).await.expect("a settlement needs no room");
    }
    assert_eq!(calls.used().await, [4, 4, 4, 4]);
    let last = NOON.after(Duration::from_secs(123));
    refused(&calls, "r4", last).await;
    calls.world.clock.set(at_noon_and(119_999));
    for id in ids {
        let settled = calls.settle(id, output(1)).await.expect("all are remembered");
        assert_eq!(settled.outcome, SettledAs::Repeated);
    }
    calls.world.clock.set(at_noon_and(122_999));
    refused(&calls, "r4", last).await;
    calls.world.clock.set(last);
    calls.reserve("r4", tokens(0, 5)).await;
}

/// The ids of checks are remembered for the dedupe time.
pub async fn a_check_at_its_bound_is_refused_until_the_first_id_is_forgotten(
    store: impl StoreUnderTest,
) {
    let calls = few(&store, LedgerBounds { checks: 2, ..LedgerBounds::default() }).await;
    for (second, id) in [(0, "q1"), (1, "q2")] {
        calls.world.clock.set(NOON.after(Duration::from_secs(second)));
        assert!(calls.check_once(id, None, tokens(0, 5)).await.is_ok_and(|call| call.is_allowed()));
    }
    let full = calls.check_once("q3", None, tokens(0, 5)).await.expect_err("there is no room");
    assert_eq!(full.retry_at(), Some(NOON.after(2 * MINUTE)), "{full}");
    assert_eq!(full.retry_after(), Some(Duration::from_secs(119)), "{full}");
    assert_eq!(calls.used().await, [2, 10, 2, 10]);
    let known = calls.check_once("q1", None, tokens(0, 5)).await.expect("it is known");
    assert!(known.allowed().is_some_and(|allowed| allowed.replayed()));
    calls.world.clock.set(NOON.after(2 * MINUTE));
    assert!(calls.check_once("q3", None, tokens(0, 5)).await.is_ok_and(|call| call.is_allowed()));
}

/// The ids of records are remembered for as long as each caller asked.
pub async fn a_record_at_its_bound_is_refused_until_the_first_id_is_forgotten<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let calls = few(&store, LedgerBounds { records: 1, ..LedgerBounds::default() }).await;
    calls.record("r1", None, tokens(0, 5)).await.expect("there is room");
    let full = calls.record("r2", None, tokens(0, 5)).await.expect_err("there is no room");
    assert_eq!(full.retry_at(), Some(NOON.after(DAY)), "{full}");
    calls.record("r1", None, tokens(0, 5)).await.expect("it is known");
    assert_eq!(calls.used().await, [1, 5, 1, 5]);
    calls.world.clock.set(NOON.after(DAY));
    calls.record("r2", None, tokens(0, 5)).await.expect("there is room again");
}

/// None crowds out another.
pub async fn each_kind_has_a_bound_of_its_own<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let calls = few(&store, LedgerBounds::of_each(1)).await;
    calls.reserve("settled", tokens(0, 5)).await;
    calls.settle("settled", output(5)).await.expect("the reservation is known");
    calls.world.clock.set(at_noon_and(1));
    assert!(calls.check_once("q1", None, tokens(0, 5)).await.is_ok_and(|call| call.is_allowed()));
    calls.record("r1", None, tokens(0, 5)).await.expect("there is room");
    calls.world.clock.set(NOON.after(2 * MINUTE));
    calls.reserve("open", tokens(0, 5)).await;
    assert_refused!(
        calls.try_reserve("another", None, tokens(0, 5), DAY).await,
        ReservationError::TooMany { most: 1, .. }
    );
    assert_eq!(calls.used().await[2..], [4, 20]);
}

/// A denial is the better answer, and is free.
pub async fn a_call_that_would_be_denied_is_denied_at_the_bound_too(store: impl StoreUnderTest) {
    let config = named("ci").with_global(requests_per_minute(1));
    let calls = Calls::bounded(&store, config, LedgerBounds::of_each(1)).await;
    calls.reserve("r1", Charge::request()).await;
    let denied = calls.try_reserve("r2", None, Charge::request(), DAY).await;
    assert!(denied.is_ok_and(|decision| !decision.is_allowed()));
    calls.settle("r1", Totals::unchanged()).await.expect("the reservation is known");
    let denied = calls.try_reserve("r2", None, Charge::request(), DAY).await;
    assert!(denied.is_ok_and(|decision| !decision.is_allowed()));
}

/// A key with generous limits, in a store with these ledger bounds.
async fn few<T: StoreUnderTest>(store: &T, bounds: LedgerBounds) -> Calls<T::Store> {
    Calls::bounded(store, named("ci").with_global(generous()), bounds).await
}

/// Reserves a call, which must find no room until this instant, and returns the sentence of the refusal.
async fn refused(calls: &Calls<impl Store>, id: &str, room_at: Timestamp) -> String {
    let full = calls.try_reserve(id, None, tokens(0, 5), DAY).await.expect_err("there is no room");
    assert!(matches!(full, ReservationError::TooMany { .. }), "{full}");
    assert_eq!(full.retry_at(), Some(room_at), "{full}");
    full.to_string()
}
