//! The number of calls of the store that a stream makes.

use futures_util::StreamExt;
use limiter::stream::StreamMeter;

use super::world::{World, chunks, metered, says};

/// The promise of the documentation: ⌈n ÷ step⌉ amendments for n tokens more than were reserved, and one settlement.
#[tokio::test]
async fn a_stream_of_ten_thousand_chunks_makes_a_stated_number_of_calls() {
    let default_step = StreamMeter::<(), (), ()>::DEFAULT_STEP;
    for (reserved, step, amendments) in [
        (10_000, default_step, 0),
        (9_999, default_step, 1),
        (1_000, default_step, 9),
        (500, default_step, 10),
        (0, default_step, 10),
        (0, 333, 31),
        (1, 1, 9_999),
        (0, 1 << 40, 1),
    ] {
        for ends in [false, true] {
            let world = World::with_tokens_per_minute(1 << 52).await;
            let call = world.reserve(100, reserved).await;
            let mut answer = metered([1; 10_000], call).with_step(step);
            if ends {
                answer = answer.ending_at_limit();
            }
            assert_eq!(answer.count().await, 10_000);
            let missing = 10_000_u64.saturating_sub(reserved);
            assert_eq!(world.store.calls("amend"), missing.div_ceil(step));
            assert_eq!(world.store.calls("amend"), amendments);
            assert_eq!(world.store.calls("settle"), 1);
            assert_eq!(world.minute_tokens().await, 10_100);
        }
    }
}

/// A step of 0 would never end; it counts as 1.
#[tokio::test]
async fn a_step_of_nothing_is_one_token() {
    let world = World::with_tokens_per_minute(1_000).await;
    let answer = metered([1; 3], world.reserve(0, 1).await).with_step(0);
    assert_eq!(answer.count().await, 3);
    assert_eq!(world.store.calls("amend"), 2);
}

/// Denials do not make it ask more often.
#[tokio::test]
async fn a_stream_that_goes_on_past_its_limit_asks_once_a_step() {
    let world = World::with_tokens_per_minute(200).await;
    let answer = metered([1; 10_000], world.reserve(100, 50).await).with_step(100);
    assert_eq!(answer.count().await, 10_000);
    assert_eq!(world.store.calls("amend"), 9_950_u64.div_ceil(100));
    assert_eq!(world.store.calls("settle"), 1);
    assert_eq!(world.minute_tokens().await, 10_100);
}

/// Chunks larger than a step take several at once: there are never more amendments than chunks.
#[tokio::test]
async fn large_chunks_ask_once_each() {
    let world = World::with_tokens_per_minute(1 << 52).await;
    let call = world.reserve(100, 0).await;
    let answer = StreamMeter::stream(chunks([1_000; 50]), call, says).with_step(7);
    assert_eq!(answer.count().await, 50);
    assert!(world.store.calls("amend") <= 50);
    assert_eq!(world.minute_tokens().await, 50_100);
}

/// At its limit a stream asks for a whole step, for what fits, and for the chunk that does not; a chunk asks three times at
/// most.
#[tokio::test]
async fn a_stream_that_ends_at_its_limit_asks_a_few_times_more() {
    let world = World::with_tokens_per_minute(150).await;
    let call = world.reserve(100, 20).await;
    let answer = metered([1; 10_000], call).ending_at_limit();
    assert_eq!(answer.count().await, 51, "50 chunks and the error");
    assert_eq!(world.store.calls("amend"), 2 + 2);
    assert_eq!(world.store.calls("settle"), 1);
    assert_eq!(world.minute_tokens().await, 150);
}
