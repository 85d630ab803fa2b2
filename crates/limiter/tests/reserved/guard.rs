//! A reservation's guard, in all of its ends: nothing is charged twice, and no loss is silent.

use std::fmt::Debug;
use std::future::pending;

use limiter::memory::MemoryStore;
use limiter::{Limiter, RequestId, Reservation, ReservationError, Reserved, StoreError};

use super::faulty_store::Fault;
use super::log::Log;
use super::world::{World, charge, output, totals};
use crate::used;

const DROPPED: &str =
    "a reservation was dropped without being settled: its estimate stands as charged";

#[tokio::test]
async fn dropped_in_a_panic_it_keeps_the_estimate_and_says_so() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    let call = world.reserve(100, 500).await;
    let id = call.id().clone();
    let task = tokio::spawn(async move {
        let _call = call;
        panic!("upstream answered nonsense");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(world.minute_tokens().await, 600);
    assert!(log.text().contains(DROPPED), "{}", log.text());
    // With the id from the log, an operator can settle the call.
    world.limiter.settle(&world.key, &id, &output(7)).await.unwrap();
    assert_eq!(world.minute_tokens().await, 107);
}

#[tokio::test]
async fn dropped_with_a_cancelled_future_it_keeps_the_estimate_and_says_so() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    let call = async {
        let _call = world.reserve(100, 500).await;
        pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = call => unreachable!("it waits for ever"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(world.minute_tokens().await, 600);
    assert!(log.text().contains(DROPPED), "{}", log.text());
}

#[test]
fn dropped_after_the_runtime_has_gone_it_keeps_the_estimate_and_says_so() {
    let log = Log::listen();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (world, call) = runtime.block_on(async {
        let world = World::with_tokens_per_minute(1_000).await;
        let call = world.reserve(100, 500).await;
        (world, call)
    });
    drop(runtime);
    drop(call);
    assert!(log.text().contains(DROPPED), "{}", log.text());
    let usage = world.memory.usage(&world.key).unwrap();
    assert_eq!(used(&usage, "global/minute/tokens"), 600);
}

#[tokio::test]
async fn a_dropped_guard_logs_the_estimate_and_no_secret() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    let mut call = world.reserve(100, 500).await;
    assert!(call.amend(&output(600)).await.unwrap().is_allowed());
    let told = [
        format!("key={}", world.key),
        format!("reservation={}", call.id()),
        "input_tokens=100".to_owned(),
        "output_tokens=600".to_owned(),
    ];
    drop(call);
    let text = log.text();
    assert!(told.iter().all(|told| text.contains(told)), "{text}");
    assert!(!text.contains(world.access_key.expose()), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn settled_cancelled_or_kept_it_says_nothing() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    world.reserve(10, 20).await.settle(&output(5)).await.unwrap();
    world.reserve(10, 20).await.cancel().await.unwrap();
    world.reserve(10, 20).await.keep();
    assert_eq!(log.text(), "");
    assert_eq!(world.minute_tokens().await, 15 + 30);
}

#[tokio::test]
async fn a_denied_call_has_no_guard_and_says_nothing() {
    let (world, log) = (World::with_tokens_per_minute(10).await, Log::listen());
    let reserved = world.limiter.reserve(&world.key, None, &charge(10, 20)).await.unwrap();
    assert!(reserved.denied().is_some_and(limiter::Denied::never_fits));
    drop(reserved);
    assert_eq!((log.text(), world.minute_tokens().await), (String::new(), 0));
}

#[tokio::test]
async fn its_id_can_be_stored_and_settled_by_another_limiter() {
    let world = World::with_tokens_per_minute(1_000).await;
    let stored = world.reserve(100, 500).await.keep().to_string();

    let other = Limiter::from(world.memory.clone());
    let id: RequestId = stored.parse().unwrap();
    assert!(other.amend(&world.key, &id, &output(600)).await.unwrap().is_allowed());
    other.settle(&world.key, &id, &output(30)).await.unwrap();
    assert_eq!(world.minute_tokens().await, 130);
}

/// The id as another process finds it, after this one has saved its state and ended.
#[tokio::test]
async fn its_id_can_be_settled_after_a_restart() {
    let world = World::with_tokens_per_minute(1_000).await;
    let id = world.reserve(100, 500).await.keep();
    let saved = serde_json::to_string(&world.memory.snapshot()).unwrap();

    let restored = MemoryStore::builder()
        .clock(world.clock.clone())
        .restore(serde_json::from_str(&saved).unwrap())
        .unwrap();
    let other = Limiter::from(restored);
    other.settle(&world.key, &id, &output(30)).await.unwrap();
    let usage = other.usage(&world.key).await.unwrap().unwrap();
    assert_eq!(used(&usage, "global/minute/tokens"), 130);
}

/// A repeated `reserve` returns a guard of the same reservation.
#[tokio::test]
async fn another_process_takes_a_call_over_by_reserving_it_again() {
    let world = World::with_tokens_per_minute(1_000).await;
    let id: RequestId = "job-7".parse().unwrap();
    let first = reserve_as(&world, &id).await.unwrap().allowed().unwrap();
    first.keep();
    let mut second = reserve_as(&world, &id).await.unwrap().allowed().unwrap();
    assert!(second.decision().replayed());
    second.settle(&output(30)).await.unwrap();
    assert_eq!((world.minute_tokens().await, world.requests().await), (130, 1));
}

#[tokio::test]
async fn a_reserve_whose_answer_was_lost_is_repeated_and_charged_once() {
    let world = World::with_tokens_per_minute(1_000).await;
    let id: RequestId = "job-7".parse().unwrap();
    world.store.fail([Fault::AnswerLost]);
    let lost = reserve_as(&world, &id).await;
    assert!(
        matches!(lost, Err(ReservationError::Store(StoreError::OutcomeUnknown(_)))),
        "{lost:?}"
    );
    let mut call = reserve_as(&world, &id).await.unwrap().allowed().unwrap();
    assert!(call.decision().replayed());
    call.settle(&output(30)).await.unwrap();
    assert_eq!((world.minute_tokens().await, world.requests().await), (130, 1));
}

#[tokio::test]
async fn a_settlement_whose_answer_was_lost_is_repeated_and_counted_once() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    let mut call = world.reserve(100, 500).await;
    world.store.fail([Fault::AnswerLost, Fault::AnswerLost]);
    for _ in 0..2 {
        call.settle(&totals(90, 30)).await.unwrap_err();
        assert_eq!(world.minute_tokens().await, 120, "it was done all the same");
    }
    call.settle(&totals(90, 30)).await.unwrap();
    drop(call);
    assert_eq!((world.minute_tokens().await, log.text()), (120, String::new()));
}

#[tokio::test]
async fn a_cancellation_whose_answer_was_lost_is_repeated_and_counted_once() {
    let world = World::with_tokens_per_minute(1_000).await;
    world.reserve(1, 1).await.settle(&output(1)).await.unwrap();
    let mut call = world.reserve(100, 500).await;
    world.store.fail([Fault::AnswerLost]);
    call.cancel().await.unwrap_err();
    call.cancel().await.unwrap();
    assert_eq!((world.minute_tokens().await, world.requests().await), (2, 1));
}

#[tokio::test]
async fn an_amendment_whose_answer_was_lost_is_repeated_and_charged_once() {
    let world = World::with_tokens_per_minute(1_000).await;
    let mut call = world.reserve(100, 500).await;
    world.store.fail([Fault::AnswerLost]);
    call.amend(&output(600)).await.unwrap_err();
    assert_eq!(call.estimate(), &charge(100, 500), "nothing was heard of it");
    assert!(call.amend(&output(600)).await.unwrap().is_allowed());
    assert_eq!(call.estimate(), &charge(100, 600));
    assert_eq!(world.minute_tokens().await, 700);
    call.cancel().await.unwrap();
    assert_eq!(world.minute_tokens().await, 0);
}

/// After a failed settlement the guard is still open, and warns when it is dropped.
#[tokio::test]
async fn dropped_after_a_settlement_that_failed_it_says_so() {
    let (world, log) = (World::with_tokens_per_minute(1_000).await, Log::listen());
    let mut call = world.reserve(100, 500).await;
    world.store.fail([Fault::Unavailable]);
    call.settle(&output(30)).await.unwrap_err();
    drop(call);
    assert_eq!(world.minute_tokens().await, 600);
    assert!(log.text().contains(DROPPED), "{}", log.text());
}

#[tokio::test]
async fn settled_once_it_is_final() {
    let world = World::with_tokens_per_minute(1_000).await;
    let mut call = world.reserve(100, 500).await;
    call.settle(&output(30)).await.unwrap();
    assert_already_settled(call.settle(&output(31)).await);
    assert_already_settled(call.cancel().await);
    assert_already_settled(call.amend(&output(600)).await.map(drop));
    assert_eq!(world.minute_tokens().await, 130);
}

fn assert_already_settled<T: Debug>(answer: Result<T, ReservationError>) {
    assert!(matches!(answer, Err(ReservationError::AlreadySettled(_))), "{answer:?}");
}

async fn reserve_as(world: &World, id: &RequestId) -> Result<Reserved, ReservationError> {
    let (key, ttl) = (&world.key, Limiter::RESERVATION_TTL);
    world.limiter.reserve_as(key, None, &charge(100, 500), id, ttl).await
}

/// A guard may be moved to another thread, and into a task.
#[expect(dead_code, reason = "it is enough that it compiles")]
fn a_guard_is_send(call: Reservation) -> impl Send {
    call
}
