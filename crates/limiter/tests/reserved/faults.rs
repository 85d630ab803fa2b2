//! Streams whose store fails: nothing is counted twice, and nothing fails in silence.

use std::error::Error;

use futures_util::{StreamExt, TryStreamExt};
use limiter::stream::StreamError;
use limiter::{Limiter, ReservationError};

use super::faulty_store::Fault::{AnswerLost, Unavailable};
use super::log::Log;
use super::world::{World, metered, output};

#[tokio::test]
async fn a_settlement_is_tried_three_times_and_counted_once() {
    for faults in [[AnswerLost, AnswerLost], [Unavailable, AnswerLost], [AnswerLost, Unavailable]] {
        let (world, log) = (World::with_tokens_per_minute(10_000).await, Log::listen());
        let answer = metered([1; 7], world.reserve(100, 500).await);
        world.store.fail(faults);
        assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 7);
        assert_eq!((world.minute_tokens().await, world.store.calls("settle")), (107, 3));
        assert_eq!(log.text(), "");
    }
}

/// The answer is not affected. With the numbers in the log, the call can be settled later.
#[tokio::test]
async fn a_settlement_that_fails_three_times_is_logged_with_its_totals() {
    let (world, log) = (World::with_tokens_per_minute(10_000).await, Log::listen());
    let call = world.reserve(100, 500).await;
    let id = call.id().clone();
    world.store.fail([Unavailable; 3]);
    assert_eq!(metered([1; 7], call).try_collect::<Vec<_>>().await.unwrap().len(), 7);
    assert_eq!((world.minute_tokens().await, world.store.calls("settle")), (600, 3));
    let text = log.text();
    for told in [
        "ERROR".to_owned(),
        format!("key={}", world.key),
        format!("reservation={id}"),
        "input_tokens=100 output_tokens=7 ".to_owned(),
        "the store is unavailable".to_owned(),
        "nobody listens there".to_owned(),
    ] {
        assert!(text.contains(&told), "{told} is not in {text}");
    }
    assert!(!text.contains(world.access_key.expose()), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    world.limiter.settle(&world.key, &id, &output(7)).await.unwrap();
    assert_eq!(world.minute_tokens().await, 107);
}

#[tokio::test]
async fn a_stream_that_may_go_on_does_so_when_an_amendment_fails_and_says_so() {
    for fault in [AnswerLost, Unavailable] {
        let (world, log) = (World::with_tokens_per_minute(10_000).await, Log::listen());
        let answer = metered([1; 40], world.reserve(100, 10).await).with_step(10);
        world.store.fail([fault]);
        assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 40);
        assert_eq!((world.minute_tokens().await, world.store.calls("amend")), (140, 3));
        let text = log.text();
        assert!(text.contains("WARN") && text.contains("could not be amended"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[tokio::test]
async fn streams_that_cannot_be_amended_bring_one_warning_and_not_one_each() {
    let (world, log) = (World::with_tokens_per_minute(100_000).await, Log::listen());
    for _ in 0..20 {
        let answer = metered([1; 40], world.reserve(100, 10).await).with_step(10);
        world.store.fail([Unavailable; 3]);
        assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 40);
    }
    assert_eq!(log.text().matches("could not be amended").count(), 1, "{}", log.text());
}

#[tokio::test]
async fn a_stream_that_ends_at_its_limit_tries_an_amendment_three_times() {
    for faults in [[AnswerLost, AnswerLost], [Unavailable, AnswerLost]] {
        let (world, log) = (World::with_tokens_per_minute(150).await, Log::listen());
        let call = world.reserve(100, 10).await;
        let answer = metered([1; 40], call).with_step(30).ending_at_limit();
        world.store.fail(faults);
        assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 40);
        assert_eq!((world.minute_tokens().await, world.store.calls("amend")), (140, 3));
        assert_eq!(log.text(), "");
    }
}

/// An error never allows a chunk.
#[tokio::test]
async fn a_stream_that_ends_at_its_limit_ends_where_the_store_does_not_answer() {
    for fault in [AnswerLost, Unavailable] {
        let world = World::with_tokens_per_minute(10_000).await;
        let call = world.reserve(100, 10).await;
        let mut answer = metered([1; 40], call).with_step(10).ending_at_limit();
        world.store.fail([fault; 3]);
        for _ in 0..10 {
            answer.next().await.unwrap().unwrap();
        }
        let error = answer.next().await.unwrap().unwrap_err();
        assert!(matches!(&error, StreamError::Unknown(ReservationError::Store(_))), "{error:?}");
        let cause = error.source().unwrap().to_string();
        assert!(!error.to_string().contains(&cause), "the cause is told once: {error}: {cause}");
        assert!(answer.next().await.is_none());
        assert_eq!(world.minute_tokens().await, 110, "what was passed on");
    }
}

/// The ttl of a reservation runs out while its client stalls.
#[tokio::test]
async fn a_stream_that_outlives_its_reservation_says_so() {
    let (world, log) = (World::with_tokens_per_minute(10_000).await, Log::listen());
    let mut answer = metered([1; 40], world.reserve(100, 10).await).with_step(10);
    answer.next().await.unwrap().unwrap();
    world.pass(Limiter::RESERVATION_TTL);
    assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 39);
    assert_eq!(world.day_tokens().await, 110, "the estimate stands");
    let text = log.text();
    assert!(text.contains("its ttl has passed"), "{text}");
    assert!(text.contains("output_tokens=40"), "{text}");
}

#[tokio::test]
async fn a_stream_whose_call_another_process_has_amended_goes_on() {
    let world = World::with_tokens_per_minute(10_000).await;
    let call = world.reserve(100, 10).await;
    let (key, id) = (call.key().clone(), call.id().clone());
    assert!(world.limiter.amend(&key, &id, &output(35)).await.unwrap().is_allowed());
    let answer = metered([1; 40], call).with_step(10).ending_at_limit();
    assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 40);
    assert_eq!(world.minute_tokens().await, 140);
}

#[tokio::test]
async fn a_stream_whose_call_another_process_has_settled_says_so() {
    let (world, log) = (World::with_tokens_per_minute(10_000).await, Log::listen());
    let call = world.reserve(100, 10).await;
    world.limiter.settle(call.key(), call.id(), &output(3)).await.unwrap();
    assert_eq!(metered([1; 4], call).count().await, 4);
    assert_eq!(world.minute_tokens().await, 103);
    let text = log.text();
    assert!(text.contains("has already ended"), "{text}");
}
