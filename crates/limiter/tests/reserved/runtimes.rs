//! Meters on a tokio runtime that has ended, or without one.

use futures_util::StreamExt;
use limiter::stream::{CountTokens, StreamError, StreamMeter};
use tokio::runtime::{Builder, Runtime};

use super::faulty_store::Fault;
use super::log::Log;
use super::world::{World, metered};
use crate::used;

#[test]
fn dropped_after_the_runtime_has_gone_the_estimate_stands_and_the_log_says_so() {
    let log = Log::listen();
    let runtime = runtime();
    let (world, answer) = runtime.block_on(async {
        let world = World::with_tokens_per_minute(10_000).await;
        let mut answer = metered([1; 10], world.reserve(100, 500).await);
        answer.next().await.unwrap().unwrap();
        (world, answer)
    });
    drop(runtime);
    drop(answer);
    assert_eq!(minute_tokens(&world), 600);
    assert!(log.text().contains("its estimate stands as charged"), "{}", log.text());
}

#[test]
fn a_task_that_ends_with_its_runtime_leaves_the_estimate_and_the_log_says_so() {
    let log = Log::listen();
    let runtime = runtime();
    let world = runtime.block_on(async {
        let world = World::with_tokens_per_minute(10_000).await;
        let mut answer = metered([1; 10], world.reserve(100, 500).await);
        tokio::spawn(async move {
            answer.next().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        world
    });
    drop(runtime);
    assert_eq!(minute_tokens(&world), 600);
    assert!(log.text().contains("its estimate stands as charged"), "{}", log.text());
}

/// A settlement that the runtime cuts off leaves an open guard, which logs a warning.
#[test]
fn a_settlement_that_ends_with_its_runtime_leaves_the_estimate_and_the_log_says_so() {
    let log = Log::listen();
    let runtime = runtime();
    let world = runtime.block_on(async {
        let world = World::with_tokens_per_minute(10_000).await;
        let answer = metered([1; 10], world.reserve(100, 500).await);
        world.store.fail([Fault::Waits]);
        drop(answer);
        tokio::task::yield_now().await;
        world
    });
    assert_eq!((world.store.calls("settle"), log.text()), (1, String::new()));
    drop(runtime);
    assert_eq!(minute_tokens(&world), 600);
    assert!(log.text().contains("its estimate stands as charged"), "{}", log.text());
}

/// The runtime that polled the meter goes on, though the meter is dropped on a thread that has none.
#[test]
fn dropped_on_another_thread_it_is_settled_on_the_runtime_that_polled_it() {
    let runtime = runtime();
    let world = runtime.block_on(async {
        let world = World::with_tokens_per_minute(10_000).await;
        let mut answer = metered([1; 10], world.reserve(100, 500).await);
        answer.next().await.unwrap().unwrap();
        std::thread::spawn(move || drop(answer)).join().unwrap();
        world.settlements(1).await;
        world
    });
    assert_eq!(minute_tokens(&world), 101);
}

/// The memory store needs no runtime, and a stream that is read to its end needs none for it.
#[test]
fn without_any_runtime_a_stream_that_ends_is_settled() {
    let log = Log::listen();
    let world = futures_executor(async {
        let world = World::with_tokens_per_minute(10_000).await;
        let answer = metered([1; 10], world.reserve(100, 2).await).with_step(3);
        assert_eq!(answer.count().await, 10);
        drop(metered([1; 10], world.reserve(1, 2).await));
        world
    });
    assert_eq!(minute_tokens(&world), 110 + 3, "the one that was dropped stands as estimated");
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
}

/// No uncounted chunk is passed on; the counted tokens are settled.
#[tokio::test]
async fn a_stream_whose_counter_panics_ends_with_an_error_and_is_settled() {
    let world = World::with_tokens_per_minute(10_000).await;
    let call = world.reserve(100, 500).await;
    let counter = |chunk: &u64| if *chunk == 7 { panic!("seven") } else { *chunk };
    let answer = StreamMeter::stream(super::world::chunks([1, 2, 7, 1]), call, counter);
    let items: Vec<_> = answer.collect().await;
    assert!(matches!(items[..], [Ok(1), Ok(2), Err(StreamError::Uncounted)]), "{items:?}");
    assert_eq!(world.minute_tokens().await, 103);
}

/// A counter that panics at the end of the stream, after all chunks were counted.
#[tokio::test]
async fn a_stream_whose_counter_panics_at_its_end_settles_what_was_counted() {
    struct Ends;
    impl CountTokens<u64> for Ends {
        fn count(&mut self, chunk: &u64) -> u64 {
            *chunk
        }

        fn end(&mut self) -> u64 {
            panic!("the end")
        }
    }
    let world = World::with_tokens_per_minute(10_000).await;
    let call = world.reserve(100, 500).await;
    let answer = StreamMeter::stream(super::world::chunks([1, 2]), call, Ends);
    let items: Vec<_> = answer.collect().await;
    assert!(matches!(items[..], [Ok(1), Ok(2)]), "{items:?}");
    assert_eq!(world.minute_tokens().await, 103);
}

/// The upstream is the application's own stream: its panic is not caught.
#[tokio::test]
async fn dropped_in_a_panic_of_its_upstream_what_was_seen_is_settled() {
    let world = World::with_tokens_per_minute(10_000).await;
    let call = world.reserve(100, 500).await;
    let upstream = super::world::chunks([1, 2, 7])
        .map(|chunk| if matches!(chunk, Ok(7)) { panic!("seven") } else { chunk });
    let mut answer = StreamMeter::stream(upstream, call, |chunk: &u64| *chunk);
    let task = tokio::spawn(async move { while answer.next().await.is_some() {} });
    assert!(task.await.unwrap_err().is_panic());
    world.settlements(1).await;
    assert_eq!(world.minute_tokens().await, 103);
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Polls a future that never waits.
fn futures_executor<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("it does not wait")
}

fn minute_tokens(world: &World) -> u64 {
    used(&world.memory.usage(&world.key).unwrap(), "global/minute/tokens")
}
