//! Debts that the store refuses, answers that it loses, long outages, and stores that never come back. The store is in
//! memory and the clock is the test's, so the tests take no time.

mod flaky;
mod groups;
mod world;

use std::time::Duration;

use limiter_core::{Charge, LedgerBounds, RecordId, ReservationError, StoreError, Totals};
use limiter_memory::MemoryStore;
use limiter_policy::{BreakerState, GuardedStoreBuilder};
use limiter_test_servers::Log;
use tokio::time::Instant;
use tracing::Level;

use self::world::{DAY, HOUR, PROBE_EVERY, World, named, share};

#[tokio::test(start_paused = true)]
async fn one_key_with_a_full_ledger_and_one_damaged_keep_no_other_debt_waiting() {
    let log = Log::listen(Level::WARN);
    let world =
        World::of(100, MemoryStore::builder().ledger_bounds(LedgerBounds::of_each(1)), share())
            .await;
    let (full, damaged) = (&world.keys[0], &world.keys[1]);
    let id = named("of another process");
    let id = RecordId::new(&id, DAY);
    world.flaky.inner.record(full, None, &Charge::request(), &id).unwrap();
    world.owe_one_each().await;
    world.flaky.damages(damaged);
    world.flaky.comes_back();
    let began = Instant::now();
    world
        .until("all others are paid", || world.keys[2..].iter().all(|key| world.used(key) == 2))
        .await;
    assert!(began.elapsed() <= 2 * PROBE_EVERY, "{:?}", began.elapsed());
    assert_eq!((world.used(full), world.used(damaged)), (2, 1), "unchanged");
    assert!(!world.store.is_well());

    // Retries and warnings become rare.
    world.pass(Duration::from_secs(600)).await;
    let tries = world.flaky.recorded(damaged).len();
    assert!((9..=12).contains(&tries), "{tries} in ten minutes");
    let warnings = log.lines_with("the store refuses");
    assert!((5..=12).contains(&warnings.len()), "{warnings:?}");
    assert!(warnings[0].contains("refusals=2"), "{warnings:?}");
    let refused = world.metric(r#"operation="record",outcome="refused""#);
    assert!((18..=24).contains(&refused), "{refused}");
    assert_eq!(world.metric(r#"operation="record",outcome="done""#), 98);

    // A repaired key is paid after the longest pause at most, under the id that its payment had.
    world.flaky.repairs(damaged);
    world.until("the repaired key is paid", || world.used(damaged) == 2).await;
    let ids = world.flaky.recorded(damaged);
    assert!(ids.iter().all(|id| *id == ids[0]), "it might have been charged: {ids:?}");
    world.pass(DAY).await;
    world.until("the full key has room and is paid", || world.store.is_well()).await;
    assert_eq!(world.used(full), 1, "in the new day");
}

/// The dedupe time is 120 s.
#[tokio::test(start_paused = true)]
async fn a_payment_whose_answer_is_lost_counts_once_however_long_the_store_stays_away() {
    for away in [125, 2 * 3_600].map(Duration::from_secs) {
        let world = World::of(1, MemoryStore::builder(), share()).await;
        let key = &world.keys[0];
        for _ in 0..100 {
            world.owe_one_each().await;
        }
        world.flaky.loses_answers();
        world.until("a payment is charged", || world.used(key) == 101).await;
        world.flaky.goes_away();
        world.pass(away).await;
        let spent = || world.flaky.inner.usage(key).unwrap().credits.spent.millionths();
        assert_eq!(spent(), 101);
        world.flaky.comes_back();
        world.until("all is paid", || world.store.is_well()).await;
        assert_eq!(spent(), 101, "101 were allowed, and the store was away for {away:?}");
        let ids = world.flaky.recorded(key);
        assert!(ids.len() > 1 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_too_old_to_be_repeated_is_given_up_with_a_warning() {
    let log = Log::listen(Level::WARN);
    let guarded = share().payments_remembered_for(2 * HOUR);
    let world = World::of(1, MemoryStore::builder(), guarded).await;
    let key = &world.keys[0];
    world.owe_one_each().await;
    world.flaky.loses_answers();
    world.until("the payment is charged", || world.used(key) == 2).await;
    world.flaky.goes_away();
    world.pass(2 * HOUR).await;
    world.owe_one_each().await;
    world.flaky.comes_back();
    world.until("what is owed since is paid", || world.store.is_well()).await;
    let usage = world.flaky.inner.usage(key).unwrap();
    assert_eq!(usage.credits.spent.millionths(), 3, "by the store, lost, and since");
    let ids = world.flaky.recorded(key);
    assert_ne!(ids.first(), ids.last());
    let warnings = log.lines_with("may or may not be charged");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("requests: 1, "), "{warnings:?}");
    assert_eq!(world.metric(r#"operation="record",outcome="given_up""#), 1);
}

#[tokio::test(start_paused = true)]
async fn payments_one_after_the_other_do_not_fill_what_the_store_remembers() {
    let world =
        World::of(1, MemoryStore::builder().ledger_bounds(LedgerBounds::of_each(2)), share()).await;
    for outage in 1..=10 {
        world.owe_one_each().await;
        world.flaky.comes_back();
        world.until("all is paid", || world.store.is_well()).await;
        assert_eq!(world.used(&world.keys[0]), 1 + outage);
        world.pass(Duration::from_secs(121)).await;
    }
    assert_eq!(world.metric(r#"operation="record",outcome="refused""#), 0);
}

#[tokio::test(start_paused = true)]
async fn ends_of_reservations_that_are_refused_keep_no_other_waiting_and_are_not_lost() {
    let world = World::of(2, MemoryStore::builder(), share()).await;
    let (damaged, sound) = (&world.keys[0], &world.keys[1]);
    let ids = ["damaged", "sound"].map(named);
    for (key, id) in world.keys.iter().zip(&ids) {
        let reserved = world.flaky.inner.reserve(key, None, &Charge::request(), id, HOUR);
        assert!(reserved.is_ok_and(|decision| decision.is_allowed()));
    }
    world.give_up().await;
    for (key, id) in world.keys.iter().zip(&ids) {
        world.cancel(key, id).await.unwrap();
    }
    world.flaky.damages(damaged);
    world.flaky.comes_back();
    world.until("the other is cancelled", || world.used(sound) == 1).await;
    assert_eq!(world.used(damaged), 2);
    world.flaky.repairs(damaged);
    world.until("this one too", || world.store.is_well()).await;
    assert_eq!(world.used(damaged), 1);
    assert!(world.metric(r#"operation="cancel",outcome="refused""#) > 0);
    assert_eq!(world.metric(r#"operation="cancel",outcome="done""#), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flush_pays_as_soon_as_the_store_is_back_and_says_what_is_left_at_its_deadline() {
    let world = World::of(100, MemoryStore::builder(), share()).await;
    world.owe_one_each().await;
    let began = Instant::now();
    let unpaid = world.store.flush(Duration::from_secs(5)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!((unpaid.keys, unpaid.requests, unpaid.settlements), (100, 100, 0));
    assert_eq!((unpaid.input_tokens, unpaid.output_tokens), (300, 400));
    assert_eq!(unpaid.credits.millionths(), 100);

    let back = {
        let flaky = world.flaky.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            flaky.comes_back();
        }
    };
    let (unpaid, ()) = tokio::join!(world.store.flush(Duration::from_secs(60)), back);
    assert!(unpaid.is_nothing(), "{unpaid}");
    assert!(world.keys.iter().all(|key| world.used(key) == 2));
}

#[tokio::test(start_paused = true)]
async fn a_flush_tries_what_was_refused_once_more_and_does_not_wait_for_it() {
    let world = World::of(2, MemoryStore::builder(), share()).await;
    world.owe_one_each().await;
    world.flaky.damages(&world.keys[0]);
    world.flaky.comes_back();
    world.until("the other is paid", || world.used(&world.keys[1]) == 2).await;
    let began = Instant::now();
    let unpaid = world.store.flush(HOUR).await;
    assert_eq!((unpaid.keys, unpaid.requests), (1, 1));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    world.flaky.repairs(&world.keys[0]);
    let began = Instant::now();
    assert!(world.store.flush(HOUR).await.is_nothing(), "a flush ignores the pause");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn debts_that_end_with_their_last_owner_are_warned_of_and_those_that_are_paid_are_not() {
    for is_flushed in [false, true] {
        let log = Log::listen(Level::WARN);
        let world = World::of(100, MemoryStore::builder(), share()).await;
        world.owe_one_each().await;
        let clone = world.store.clone();
        if is_flushed {
            world.flaky.comes_back();
            assert!(world.store.flush(Duration::from_secs(5)).await.is_nothing());
        }
        drop(world);
        assert!(log.lines_with("which are lost").is_empty(), "a clone is an owner too");
        drop(clone);
        let warnings = log.lines_with("which are lost");
        assert_eq!(warnings.len(), usize::from(!is_flushed), "{warnings:?}");
        let sum =
            "requests: 100, input tokens: 300, output tokens: 400, credits: 0.0001; keys: 100";
        assert!(is_flushed || warnings[0].contains(sum), "{warnings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_are_remembered_of_all_keys_as_may_be_and_one_more_is_an_error() {
    let world = World::of(3, MemoryStore::builder(), share().most_calls_remembered(4)).await;
    world.give_up().await;
    for (number, key) in world.keys.iter().cycle().take(4).enumerate() {
        let id = named(&number.to_string());
        assert!(world.reserve(key, &id).await.is_ok_and(|decision| decision.is_degraded()));
        // A repetition needs no room.
        assert!(world.reserve(key, &id).await.is_ok_and(|decision| decision.is_allowed()));
    }
    for key in &world.keys {
        let one_more = world.reserve(key, &named("one more")).await;
        assert!(matches!(one_more, Err(ReservationError::TooMany { most: 4, .. })), "{one_more:?}");
        // The first of them is forgotten when its ttl has passed.
        let wait = one_more.unwrap_err().retry_after().unwrap();
        assert!((HOUR - Duration::from_secs(60)..=HOUR).contains(&wait), "{wait:?}");
    }
    assert!(world.call(&world.keys[0]).await.unwrap().is_allowed(), "it has no id");
    world.flaky.comes_back();
    world.until("all is paid", || world.store.is_well()).await;
    let used: u64 = world.keys.iter().map(|key| world.used(key)).sum();
    assert_eq!(used, 3 + 4 + 1, "denied calls are not charged");
}

/// The queue holds only ends of reservations that the store may know.
#[tokio::test(start_paused = true)]
async fn under_fail_open_calls_unknown_to_the_store_take_no_room_in_the_queue_of_ends() {
    let policy = limiter_policy::FailurePolicy::FailOpen;
    let builder = GuardedStoreBuilder::new(policy).most_remembered(2);
    let world = World::of(1, MemoryStore::builder(), builder).await;
    let (key, before) = (&world.keys[0], ["a", "b"].map(named));
    for id in &before {
        let reserved = world.flaky.inner.reserve(key, None, &Charge::request(), id, HOUR);
        assert!(reserved.is_ok_and(|decision| decision.is_allowed()));
    }
    world.give_up().await;
    assert_eq!(world.store.breaker(), BreakerState::Open);
    for number in 0..100 {
        let id = named(&number.to_string());
        assert!(world.reserve(key, &id).await.is_ok_and(|decision| decision.is_degraded()));
        for _ in 0..2 {
            let actual = Totals::unchanged().with_output_tokens(7).unwrap();
            world.settle(key, &id, &actual).await.unwrap();
        }
    }
    for id in &before {
        world.cancel(key, id).await.unwrap();
    }
    let one_more = world.cancel(key, &named("c")).await;
    assert!(matches!(one_more, Err(ReservationError::Store(StoreError::Unavailable(_)))));
    world.flaky.comes_back();
    world.until("the store knows all", || world.store.is_well()).await;
    assert_eq!(world.used(key), 1, "the earlier ones are cancelled, the others never counted");
}
