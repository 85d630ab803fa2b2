//! Streams that are cut: the client goes away.

use futures_util::future::poll_immediate;
use futures_util::{StreamExt, stream};
use limiter::stream::{AnswerReader, Api, StreamMeter};

use super::faulty_store::Fault;
use super::log::Log;
use super::world::{World, metered};

#[tokio::test]
async fn a_stream_cut_at_any_chunk_costs_what_was_seen() {
    const TOKENS: [u64; 12] = [1, 0, 5, 2, 30, 1, 1, 0, 0, 9, 4, 1];
    for cut in 0..=TOKENS.len() {
        for (reserved, step) in [(500, 10), (7, 10), (0, 1)] {
            let world = World::with_tokens_per_minute(10_000).await;
            let mut answer = metered(TOKENS, world.reserve(100, reserved).await).with_step(step);
            for _ in 0..cut {
                answer.next().await.unwrap().unwrap();
            }
            drop(answer);
            world.settlements(1).await;
            let seen: u64 = TOKENS[..cut].iter().sum();
            assert_eq!(
                world.minute_tokens().await,
                100 + seen,
                "cut at {cut}, {reserved} reserved"
            );
            assert_eq!(world.requests().await, 1);
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_unread_costs_its_prompt() {
    let (world, log) = (World::with_tokens_per_minute(10_000).await, Log::listen());
    drop(metered([1; 10], world.reserve(100, 500).await));
    world.settlements(1).await;
    assert_eq!((world.minute_tokens().await, log.text()), (100, String::new()));
}

/// A chunk that waits for its amendment has come from upstream: it counts.
#[tokio::test]
async fn a_stream_cut_while_it_is_amended_costs_what_was_seen() {
    let world = World::with_tokens_per_minute(10_000).await;
    let mut answer = metered([5, 6, 7], world.reserve(100, 5).await).with_step(10);
    answer.next().await.unwrap().unwrap();
    world.store.fail([Fault::Waits]);
    assert!(poll_immediate(answer.next()).await.is_none(), "it waits");
    assert_eq!(world.minute_tokens().await, 105);
    drop(answer);
    world.store.go_on();
    world.settlements(1).await;
    assert_eq!(world.minute_tokens().await, 111);
}

#[tokio::test]
async fn a_stream_cut_while_it_is_settled_is_settled() {
    let world = World::with_tokens_per_minute(10_000).await;
    let mut answer = metered([5], world.reserve(100, 500).await);
    answer.next().await.unwrap().unwrap();
    world.store.fail([Fault::Waits]);
    assert!(poll_immediate(answer.next()).await.is_none(), "it waits");
    drop(answer);
    assert_eq!(world.minute_tokens().await, 600);
    world.store.go_on();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!((world.minute_tokens().await, world.store.calls("settle")), (105, 1));
}

/// One call of the store at a time: while it lasts, upstream is not asked for more.
#[tokio::test]
async fn nothing_is_taken_from_upstream_while_a_chunk_waits() {
    let world = World::with_tokens_per_minute(10_000).await;
    let taken = std::cell::Cell::new(0);
    let upstream = stream::iter([5_u64; 10]).map(|chunk| {
        taken.set(taken.get() + 1);
        Ok::<_, std::io::Error>(chunk)
    });
    let call = world.reserve(100, 5).await;
    let mut answer = StreamMeter::stream(upstream, call, super::world::says).with_step(10);
    answer.next().await.unwrap().unwrap();
    world.store.fail([Fault::Waits]);
    for _ in 0..20 {
        assert!(poll_immediate(answer.next()).await.is_none(), "it waits");
    }
    assert_eq!((taken.get(), world.store.calls("amend")), (2, 1));
    world.store.go_on();
    assert_eq!(answer.count().await, 9);
    assert_eq!(world.minute_tokens().await, 150);
}

/// Figures that were reported before the cut take precedence over a count.
#[tokio::test]
async fn a_stream_cut_after_its_usage_was_reported_costs_what_was_reported() {
    let world = World::with_tokens_per_minute(10_000).await;
    let upstream = stream::iter([
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":80,\"completion_tokens\":40}}\n\n",
        "data: [DONE]\n\n",
    ]);
    let call = world.reserve(100, 500).await;
    let upstream = upstream.map(Ok::<_, std::io::Error>);
    let mut answer = StreamMeter::stream(upstream, call, AnswerReader::new(Api::OpenAiChat));
    answer.next().await.unwrap().unwrap();
    answer.next().await.unwrap().unwrap();
    drop(answer);
    world.settlements(1).await;
    assert_eq!(world.minute_tokens().await, 120);
}
