//! Streams that hold a slot of a parallel limit.

use std::time::Duration;

use futures_util::StreamExt;
use limiter::{Charge, KeyConfig, Limits, Reserved};
use tokio::time::advance;

use super::faulty_store::Fault;
use super::world::{A_MINUTE, World, metered};

async fn with_parallel(limit: u64) -> World {
    let limits = Limits::builder().tokens_per_day(1_000).parallel(limit).build().unwrap();
    World::new(KeyConfig::named("ci").unwrap().with_global(limits)).await
}

/// Whether another call finds a slot. It gives it back.
async fn has_a_free_slot(world: &World) -> bool {
    match world.limiter.reserve(&world.key, None, &Charge::request()).await.unwrap() {
        Reserved::Allowed(mut call) => call.cancel().await.is_ok(),
        Reserved::Denied(_) => false,
    }
}

/// It lasts 25 minutes, and its chunks are within the estimate.
#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_slot_as_long_as_chunks_pass() {
    let world = with_parallel(1).await;
    let mut answer = metered([1; 6], world.reserve(0, 100).await);
    for _ in 0..5 {
        assert!(answer.next().await.is_some_and(|chunk| chunk.is_ok()));
        assert!(!has_a_free_slot(&world).await);
        world.pass(5 * A_MINUTE);
        advance(5 * A_MINUTE).await;
    }
    assert_eq!(world.store.calls("amend"), 4, "with each chunk but the first");
    assert_eq!(answer.count().await, 1);
    assert!(has_a_free_slot(&world).await, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_stream_renews_its_slot_once_a_minute_at_most() {
    let world = with_parallel(1).await;
    let mut answer = metered([1; 61], world.reserve(0, 100).await);
    while answer.next().await.is_some() {
        advance(Duration::from_secs(3)).await;
    }
    assert_eq!(world.store.calls("amend"), 3, "in 183 seconds");
}

/// An amendment that a step needs renews it too.
#[tokio::test(start_paused = true)]
async fn a_renewal_waits_for_the_amendments_of_the_stream_itself() {
    let world = with_parallel(1).await;
    let mut answer = metered([10; 9], world.reserve(0, 0).await).with_step(10);
    while answer.next().await.is_some() {
        advance(Duration::from_secs(30)).await;
    }
    assert_eq!(world.store.calls("amend"), 9, "one for each step");
}

/// The store answers when the test lets it.
#[tokio::test(start_paused = true)]
async fn chunks_do_not_wait_for_a_renewal() {
    let world = with_parallel(1).await;
    let mut answer = metered([1; 5], world.reserve(0, 100).await);
    assert!(answer.next().await.is_some());
    world.store.fail([Fault::Waits]);
    advance(A_MINUTE).await;
    for _ in 0..3 {
        assert!(answer.next().await.is_some_and(|chunk| chunk.is_ok()));
    }
    world.store.go_on();
    assert_eq!(answer.count().await, 1);
    assert_eq!((world.store.calls("amend"), world.store.calls("settle")), (1, 1));
    assert!(has_a_free_slot(&world).await);
}

/// It would cost a call of the store a minute.
#[tokio::test(start_paused = true)]
async fn a_stream_without_a_parallel_limit_renews_nothing() {
    let world = World::with_tokens_per_minute(1_000).await;
    let mut answer = metered([1; 5], world.reserve(0, 100).await);
    while answer.next().await.is_some() {
        advance(5 * A_MINUTE).await;
    }
    assert_eq!(world.store.calls("amend"), 0);
}
