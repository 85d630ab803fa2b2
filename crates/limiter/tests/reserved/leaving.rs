//! Callers who leave before their `reserve` is answered: nothing stays charged under an unknown id.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use limiter::{Estimate, Limiter, RequestId};

use super::faulty_store::Fault;
use super::log::Log;
use super::world::{World, charge};

const LOST: &str = "a reservation was dropped before its answer";

/// Polls once and drops the call, as a caller does who leaves.
fn begin<F: Future>(call: F) {
    let mut call = pin!(call);
    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "the store waits");
}

/// Runs the tasks of this thread's runtime until the store has had this many calls of the operation.
async fn until_called(world: &World, name: &str, count: u64) {
    for _ in 0..1_000 {
        if world.store.calls(name) >= count {
            // The store's own step needs no further wait.
            tokio::task::yield_now().await;
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{name} was called {} times", world.store.calls(name));
}

#[tokio::test]
async fn a_reserve_whose_caller_leaves_goes_on_and_is_taken_back() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    world.store.fail([Fault::Waits]);
    begin(world.limiter.reserve(&world.key, None, &charge(100, 500)));
    world.store.go_on();
    until_called(&world, "cancel", 1).await;
    assert_eq!((world.store.calls("reserve"), world.store.calls("cancel")), (1, 1));
    assert_eq!((world.minute_tokens().await, world.requests().await), (0, 0));
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn an_estimate_whose_caller_leaves_is_taken_back_too() {
    let world = World::with_tokens_per_minute(1_000).await;
    world.store.fail([Fault::Waits]);
    let estimate = Estimate::for_input_tokens(100).max_output_tokens(500);
    begin(world.limiter.reserve_estimated(&world.key, None, &estimate));
    world.store.go_on();
    until_called(&world, "cancel", 1).await;
    assert_eq!(world.minute_tokens().await, 0);
}

/// The reservation may have been made, so it is cancelled by its id.
#[tokio::test]
async fn a_reserve_whose_caller_leaves_and_whose_answer_is_lost_is_taken_back() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    world.store.fail([Fault::WaitsAndAnswerLost]);
    begin(world.limiter.reserve(&world.key, None, &charge(100, 500)));
    world.store.go_on();
    until_called(&world, "cancel", 1).await;
    assert_eq!((world.minute_tokens().await, log.text()), (0, String::new()));
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_warned_of_with_key_and_id() {
    for faults in
        [[Fault::Waits, Fault::Unavailable], [Fault::WaitsAndAnswerLost, Fault::Unavailable]]
    {
        let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
        world.store.fail(faults);
        begin(world.limiter.reserve(&world.key, None, &charge(100, 500)));
        world.store.go_on();
        until_called(&world, "cancel", 1).await;
        assert_eq!(world.minute_tokens().await, 600);
        let text = log.text();
        assert!(text.contains(&format!("key={} reservation=", world.key)), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        // With key and id from the log, an operator can cancel the reservation.
        let id = text.split("reservation=").nth(1).unwrap();
        let id: RequestId = id.split_whitespace().next().unwrap().parse().unwrap();
        world.limiter.cancel(&world.key, &id).await.unwrap();
        assert_eq!(world.minute_tokens().await, 0);
    }
}

#[tokio::test]
async fn a_denied_reserve_whose_caller_leaves_takes_nothing_back() {
    let (world, log) = (World::with_tokens_per_minute(10).await, Log::listen());
    world.store.fail([Fault::Waits]);
    begin(world.limiter.reserve(&world.key, None, &charge(100, 500)));
    world.store.go_on();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!((world.store.calls("cancel"), log.text()), (0, String::new()));
}

#[tokio::test]
async fn a_reserve_that_never_began_leaves_nothing() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    drop(world.limiter.reserve(&world.key, None, &charge(100, 500)));
    tokio::task::yield_now().await;
    assert_eq!((world.store.calls("reserve"), log.text()), (0, String::new()));
}

/// The caller retries under the same id. If the first try were cancelled, the retry would be free.
#[tokio::test]
async fn a_reserve_under_an_id_of_the_callers_is_not_taken_back_and_its_repetition_is_charged() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    let id: RequestId = "job-7".parse().unwrap();
    let estimate = charge(100, 500);
    let reserve =
        || world.limiter.reserve_as(&world.key, None, &estimate, &id, Limiter::RESERVATION_TTL);
    world.store.fail([Fault::Waits]);
    begin(reserve());
    let text = log.text();
    assert!(text.contains(LOST) && text.contains("reservation=job-7"), "{text}");
    let call = reserve().await.unwrap().allowed().unwrap();
    assert_eq!((world.store.calls("cancel"), world.minute_tokens().await), (0, 600));
    call.keep();
}

#[test]
fn without_a_runtime_a_warning_names_key_and_id() {
    let log = Log::listen();
    let world = futures_util::FutureExt::now_or_never(World::with_tokens_per_minute(1_000));
    let world = world.expect("it does not wait");
    world.store.fail([Fault::Waits]);
    begin(world.limiter.reserve(&world.key, None, &charge(100, 500)));
    let text = log.text();
    assert!(text.contains(LOST), "{text}");
    assert!(text.contains(&format!("key={} reservation=", world.key)), "{text}");
}

#[test]
fn a_runtime_that_ends_before_the_answer_leaves_a_warning() {
    let log = Log::listen();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let world = World::with_tokens_per_minute(1_000).await;
        world.store.fail([Fault::Waits]);
        begin(world.limiter.reserve(&world.key, None, &charge(100, 500)));
        tokio::task::yield_now().await;
    });
    assert_eq!(log.text(), "", "it goes on");
    drop(runtime);
    assert!(log.text().contains(LOST), "{}", log.text());
}
