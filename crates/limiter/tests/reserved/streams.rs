//! A stream from its first chunk to its settlement.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use limiter::stream::{CountTokens, Reported, StreamError, StreamMeter};

use super::faulty_store::Fault;
use super::world::{A_MINUTE, World, charge, chunks, credits, metered, price, says};

#[tokio::test]
async fn a_stream_that_finishes_costs_what_its_chunks_carried() {
    let world = World::with_tokens_per_minute(10_000).await;
    let call = world.reserve(100, 500).await;
    let passed: Vec<_> = metered([3, 0, 7, 1], call).try_collect().await.unwrap();
    assert_eq!(passed, [3, 0, 7, 1]);
    assert_eq!((world.minute_tokens().await, world.requests().await), (111, 1));
}

#[tokio::test]
async fn a_stream_longer_than_its_estimate_is_charged_while_it_runs() {
    let world = World::with_tokens_per_minute(10_000).await;
    let mut answer = metered([1; 10], world.reserve(100, 4).await).with_step(3);
    for (seen, charged) in [(1, 4), (2, 4), (3, 4), (4, 4), (5, 7), (6, 7), (7, 7), (8, 10)] {
        answer.next().await.unwrap().unwrap();
        assert_eq!(world.minute_tokens().await, 100 + charged, "after {seen} tokens");
    }
    assert_eq!(answer.count().await, 2);
    assert_eq!(world.minute_tokens().await, 110);
}

#[tokio::test]
async fn an_empty_stream_costs_its_prompt() {
    let world = World::with_tokens_per_minute(10_000).await;
    assert_eq!(metered([], world.reserve(100, 500).await).count().await, 0);
    assert_eq!(world.minute_tokens().await, 100);
}

#[tokio::test]
async fn chunks_that_carry_nothing_cost_nothing() {
    let world = World::with_tokens_per_minute(10_000).await;
    let answer = metered([0; 50], world.reserve(100, 0).await).ending_at_limit();
    assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap(), [0; 50]);
    assert_eq!(world.minute_tokens().await, 100);
    assert_eq!(world.store.calls("amend"), 0);
}

#[tokio::test]
async fn a_huge_chunk_is_charged_in_one_go() {
    let world = World::with_tokens_per_minute(1_000_000).await;
    let mut answer = metered([1, 123_456, 1], world.reserve(100, 10).await).with_step(100);
    answer.next().await.unwrap().unwrap();
    answer.next().await.unwrap().unwrap();
    assert!(world.minute_tokens().await >= 100 + 123_457);
    assert_eq!(answer.count().await, 1);
    assert_eq!(world.minute_tokens().await, 100 + 123_458);
    assert_eq!(world.store.calls("amend"), 1);
}

/// A counter that is wrong affects its own call only: the count stops at the most that can be counted.
#[tokio::test]
async fn chunks_of_more_than_can_be_counted_are_charged_as_the_most_that_can() {
    let world = World::with_tokens_per_minute(1_000).await;
    let answer = metered([u64::MAX, u64::MAX, 1], world.reserve(100, 10).await);
    assert_eq!(answer.count().await, 3);
    assert_eq!(world.minute_tokens().await, limiter::MAX_COUNT);
}

/// A server does not poll the stream of a client that stalls. Nothing happens meanwhile, and later the stream goes on
/// in the minute that is open then.
#[tokio::test]
async fn a_client_that_stalls_holds_its_estimate_and_no_more() {
    let world = World::with_tokens_per_minute(10_000).await;
    let mut answer = metered([1; 30], world.reserve(100, 10).await).with_step(10);
    for _ in 0..10 {
        answer.next().await.unwrap().unwrap();
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((world.minute_tokens().await, world.store.calls("amend")), (110, 0));

    world.pass(A_MINUTE);
    answer.next().await.unwrap().unwrap();
    assert_eq!((world.minute_tokens().await, world.day_tokens().await), (10, 120));
    assert_eq!(answer.count().await, 19);
    assert_eq!((world.minute_tokens().await, world.day_tokens().await), (20, 130));
}

/// An amendment that was charged to a later minute stays there. A refund is made in the admitting minute or not at all.
#[tokio::test]
async fn a_minute_that_ends_in_mid_stream_keeps_what_it_was_charged() {
    let world = World::with_tokens_per_minute(10_000).await;
    let mut answer = metered([1; 15], world.reserve(100, 10).await).with_step(10);
    for _ in 0..5 {
        answer.next().await.unwrap().unwrap();
    }
    world.pass(A_MINUTE);
    for _ in 0..8 {
        answer.next().await.unwrap().unwrap();
    }
    assert_eq!(world.minute_tokens().await, 10, "one step");
    assert_eq!(answer.count().await, 2);
    // The minute that admitted the call has closed: its refund is forgotten there. The day goes on.
    assert_eq!((world.minute_tokens().await, world.day_tokens().await), (10, 115));
}

/// Reports these figures.
struct Bill(Reported);

impl CountTokens<u64> for Bill {
    fn count(&mut self, chunk: &u64) -> u64 {
        *chunk
    }

    fn reported(&self) -> Reported {
        self.0
    }
}

#[tokio::test]
async fn what_upstream_reported_is_settled_rather_than_what_was_counted() {
    for (reported, cost) in [
        (reported(Some(90), Some(2)), 92),
        (reported(Some(90), Some(900)), 990),
        (reported(None, Some(2)), 102),
        (reported(Some(90), None), 93),
        (reported(Some(limiter::MAX_COUNT), Some(1)), 103),
        (Reported::default(), 103),
    ] {
        let world = World::with_tokens_per_minute(10_000).await;
        let call = world.reserve(100, 500).await;
        let answer = StreamMeter::stream(chunks([1, 1, 1]), call, Bill(reported));
        assert_eq!(answer.count().await, 3);
        assert_eq!(world.minute_tokens().await, cost, "{reported:?}");
    }
}

#[tokio::test]
async fn credits_go_by_the_price_of_the_tokens() {
    let world = World::with_budget("1000").await;
    let estimate = charge(10, 5).with_credits(credits("20"));
    let call = world.reserve_charge(&estimate).await;
    let mut answer = metered([1; 7], call).with_step(10).with_price(price());
    for _ in 0..6 {
        answer.next().await.unwrap().unwrap();
    }
    assert_eq!(world.spent().await, credits("40"), "10 for the prompt, and 30 for 15 tokens");
    assert_eq!(answer.count().await, 1);
    assert_eq!(world.spent().await, credits("24"));
}

#[tokio::test]
async fn credits_without_a_price_are_those_reserved_or_reported() {
    let told = Reported { credits: Some(credits("3.5")), ..Reported::default() };
    for (reported, cost) in [(Reported::default(), "20"), (told, "3.5")] {
        let world = World::with_budget("1000").await;
        let estimate = charge(10, 1).with_credits(credits("20"));
        let call = world.reserve_charge(&estimate).await;
        let answer = StreamMeter::stream(chunks([1, 1, 1]), call, Bill(reported));
        assert_eq!(answer.count().await, 3);
        assert_eq!(world.spent().await, credits(cost));
        assert_eq!(world.day_tokens().await, 13);
    }
}

#[tokio::test]
async fn an_error_of_upstream_is_passed_on_and_what_was_seen_counts() {
    let world = World::with_tokens_per_minute(10_000).await;
    let upstream = stream::iter([Ok(3_u64), Ok(4), Err(std::io::Error::other("reset by peer"))]);
    let mut answer = StreamMeter::stream(upstream, world.reserve(100, 500).await, says);
    assert_eq!(answer.next().await.unwrap().unwrap(), 3);
    assert_eq!(answer.next().await.unwrap().unwrap(), 4);
    match answer.next().await.unwrap() {
        Err(StreamError::Upstream(error)) => assert_eq!(error.to_string(), "reset by peer"),
        other => panic!("{other:?}"),
    }
    drop(answer);
    world.settlements(1).await;
    assert_eq!(world.minute_tokens().await, 107);
}

#[tokio::test]
async fn a_stream_that_has_ended_stays_ended() {
    let world = World::with_tokens_per_minute(10_000).await;
    let mut answer = metered([3], world.reserve(100, 500).await);
    assert!(answer.next().await.is_some());
    for _ in 0..3 {
        assert!(answer.next().await.is_none());
    }
    drop(answer);
    tokio::task::yield_now().await;
    assert_eq!(world.store.calls("settle"), 1);
}

#[tokio::test]
async fn a_body_is_metered_by_its_data_and_keeps_its_trailers() {
    let world = World::with_tokens_per_minute(10_000).await;
    let trailers = HeaderMap::from_iter([("x-took".parse().unwrap(), "7".parse().unwrap())]);
    let frames = [
        Frame::data(Bytes::from_static(b"three")),
        Frame::data(Bytes::from_static(b"four")),
        Frame::trailers(trailers.clone()),
    ];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
    let metered = StreamMeter::body(body, world.reserve(100, 500).await, length);
    let collected = metered.collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    assert_eq!(collected.to_bytes(), "threefour");
    assert_eq!(world.minute_tokens().await, 109);
}

/// A server that sees the end too early never polls for it.
#[tokio::test]
async fn a_body_ends_once_its_call_is_settled() {
    let world = World::with_tokens_per_minute(10_000).await;
    let bodies: [(UnsyncBoxBody<Bytes, Infallible>, u64); 2] =
        [(Empty::new().boxed_unsync(), 0), (Full::from("five!").boxed_unsync(), 5)];
    for (body, length) in bodies {
        let before = world.minute_tokens().await;
        let call = world.reserve(100, 500).await;
        let mut metered = StreamMeter::body(body, call, self::length);
        assert_eq!(Body::size_hint(&metered).exact(), Some(length));
        while !Body::is_end_stream(&metered) {
            assert_eq!(world.minute_tokens().await, before + 600);
            let _ = metered.frame().await;
        }
        assert_eq!(world.minute_tokens().await, before + 100 + length);
    }
}

fn length(data: &Bytes) -> u64 {
    data.len() as u64
}

const fn reported(input: Option<u64>, output: Option<u64>) -> Reported {
    Reported { input, output, cached_input: 0, cache_write: 0, reasoning: 0, credits: None }
}

#[tokio::test]
async fn a_stream_answers_with_its_final_charge_also_when_its_client_goes_away() {
    for reads_it_all in [true, false] {
        let world = World::with_tokens_per_minute(10_000).await;
        let call = world.reserve(100, 500).await;
        let mut answer = StreamMeter::stream(chunks([3, 4]), call, says);
        let (first, second) = (answer.settled(), answer.settled());
        answer.next().await.unwrap().unwrap();
        if reads_it_all {
            assert_eq!(answer.by_ref().count().await, 1);
        }
        drop(answer);
        let seen = if reads_it_all { 7 } else { 3 };
        for settled in [first.await, second.await] {
            let charge = settled.unwrap().charge.unwrap();
            assert_eq!(
                (charge.requests(), charge.input_tokens(), charge.output_tokens()),
                (1, 100, seen)
            );
        }
        assert_eq!(world.minute_tokens().await, 100 + seen);
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_settled_answers_with_no_charge() {
    let world = World::with_tokens_per_minute(10_000).await;
    let call = world.reserve(100, 500).await;
    world.store.fail([Fault::Unavailable, Fault::Unavailable, Fault::Unavailable]);
    let mut answer = StreamMeter::stream(chunks([3, 4]), call, says);
    let settled = answer.settled();
    assert_eq!(answer.count().await, 2);
    assert_eq!(settled.await, None);
}
