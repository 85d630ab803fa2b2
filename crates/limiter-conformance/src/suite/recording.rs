//! Recording: what was allowed elsewhere is counted, whatever the limits say, and once.

use limiter_core::{Charge, RecordId, ReservationError, Store};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, at_noon_and, generous, millionths, request_id};
use super::world::{DAY, NOON, assert_refused, asset, named, requests_per_minute, tokens};

fn requests(requests: u64) -> Charge {
    Charge::request().with_requests(requests).expect("within bounds")
}

/// Ten requests and a hundred tokens are the limits of the minute: what is above stands as debt, until the window ends.
pub async fn what_was_allowed_elsewhere_counts_past_the_limit<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let calls = Calls::at_noon(&store).await;
    let charge = requests(12).with_tokens(100, 50).expect("within bounds");
    calls.record("r1", None, charge).await.expect("it is never refused for a limit");
    assert_eq!(calls.used().await, [12, 150, 12, 150]);
    assert!(!calls.admits().await);
    calls.world.clock.set(at_noon_and(60_000));
    assert_eq!(calls.used().await, [0, 0, 12, 150]);
    assert!(calls.admits().await);
}

/// Only the id identifies a record, for as long as the caller asked, which may exceed the dedupe time. Afterwards the
/// id counts as new. Ids of checks are separate.
pub async fn what_is_recorded_again_counts_once<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let calls = Calls::at_noon(&store).await;
    for charge in [tokens(0, 5), tokens(0, 5), requests(7)] {
        calls.record("r1", None, charge).await.expect("a repetition is no error");
    }
    assert_eq!(calls.used().await, [1, 5, 1, 5]);
    let checked = calls.check_once("r1", None, tokens(0, 9)).await.expect("the id is free");
    assert!(checked.allowed().is_some_and(|allowed| !allowed.replayed()));
    assert_eq!(calls.used().await, [2, 14, 2, 14]);
    let day = 86_400_000;
    for (after_noon_ms, tokens_of_the_day) in [(120_001, 14), (day - 1, 0), (day, 5)] {
        calls.world.clock.set(at_noon_and(after_noon_ms));
        calls.record("r1", None, tokens(0, 5)).await.expect("a repetition is no error");
        assert_eq!(calls.used().await[3], tokens_of_the_day, "{after_noon_ms} ms after noon");
    }
}

/// A caller who records often does not fill the bound, and a late repetition is still recognised.
pub async fn what_a_later_record_confirms_is_forgotten_after_the_dedupe_time<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let calls = Calls::at_noon(&store).await;
    calls.record("r1", None, requests(1)).await.expect("it is never refused");
    calls.record_after("r1", "r2", requests(1)).await.expect("it is never refused");
    calls.record_after("never recorded", "r3", requests(1)).await.expect("it is never refused");
    for (after_noon_ms, requests_of_the_day) in [(119_999, 3), (120_000, 4)] {
        calls.world.clock.set(at_noon_and(after_noon_ms));
        for id in ["r1", "r2", "r3"] {
            calls.record(id, None, requests(1)).await.expect("a repetition is no error");
        }
        assert_eq!(calls.used().await[2], requests_of_the_day, "{after_noon_ms} ms after noon");
    }
}

/// In every scope that the call meets, and no other.
pub async fn what_was_allowed_elsewhere_counts_in_each_scope<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let config = named("ci").with_global(generous());
    let config = config.with_asset(asset("m1"), requests_per_minute(1));
    let calls = Calls::of(&store, config).await;
    calls.record("r1", Some("m1"), requests(3)).await.expect("the key is known");
    calls.record("r2", Some("made up"), requests(2)).await.expect("the key is known");
    let usage = calls.world.usage(&calls.key).await;
    let used: Vec<_> =
        usage.scopes().map(|(asset, usage)| (asset.cloned(), usage.minute.requests.used)).collect();
    assert_eq!(used, [(None, 5), (Some(asset("m1")), 3)]);
}

/// Credits count past the budget too, and on a key that has expired since.
pub async fn what_was_allowed_elsewhere_counts_on_an_expired_key_without_budget<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let config = named("ci").with_global(generous()).with_budget(millionths(10));
    let calls = Calls::of(&store, config.with_expiry(NOON)).await;
    let charge = requests(1).with_credits(millionths(25));
    calls.record("r1", None, charge).await.expect("the key is known");
    assert_eq!((calls.spent().await, calls.used().await), (25, [1, 0, 1, 0]));
}

/// A key that never was or is no longer owes nothing.
pub async fn what_was_allowed_elsewhere_of_an_unknown_key_is_refused<T>(store: T)
where
    T: StoreUnderTest<Store: Store>,
{
    let calls = Calls::at_noon(&store).await;
    let (store, id) = (calls.world.engine.store(), request_id("r1"));
    let nobody = "nobody".parse().expect("a short id");
    let recorded = store.record(&nobody, None, &requests(1), &RecordId::new(&id, DAY)).await;
    assert_refused!(recorded, ReservationError::KeyUnknown);
}
