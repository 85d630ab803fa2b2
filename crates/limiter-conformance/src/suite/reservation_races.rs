//! The same operation, repeated by many tasks at once, counts once; and totals do not depend on the order of answers.

use std::sync::Arc;

use limiter_core::{Allowed, Decision, ReservationError, Settled, Store};
use tokio::sync::Barrier;

use super::StoreUnderTest;
use super::reserved_calls::{Calls, output};
use super::world::{DAY, tokens};

/// One of them charges, and all others are told so.
pub async fn a_reservation_is_charged_once(store: impl StoreUnderTest) {
    let calls = Arc::new(Calls::at_noon(&store).await);
    for round in 0..ROUNDS {
        let decisions = race(&calls, move |calls, _| async move {
            calls.try_reserve(&format!("r{round}"), None, tokens(0, 3), DAY).await
        });
        assert_eq!(charged(decisions.await), 1);
        calls.cancel(&format!("r{round}")).await.expect("the reservation is known");
    }
    assert_eq!(calls.used().await, [0, 0, 0, 0]);
}

/// All calls succeed, exactly one of them as the first, and the surplus is returned once.
pub async fn a_settlement_counts_once(store: impl StoreUnderTest) {
    let calls = Arc::new(Calls::at_noon(&store).await);
    for round in 0..ROUNDS {
        let id = format!("r{round}");
        calls.reserve(&id, tokens(0, 20)).await;
        let settled = race(&calls, move |calls, _| async move {
            calls.settle(&format!("r{round}"), output(1)).await
        });
        let settled = settled.await;
        let firsts = settled.iter().flatten().filter(|settled| settled.is_first()).count();
        assert_eq!((settled.iter().all(Result::is_ok), firsts), (true, 1), "{settled:?}");
    }
    let rounds = ROUNDS as u64;
    assert_eq!(calls.used().await, [rounds, rounds, rounds, rounds]);
}

/// Half settle and half cancel: one of the two wins, and the counts are its own.
pub async fn a_settlement_and_a_cancel_do_not_both_count(store: impl StoreUnderTest) {
    let calls = Arc::new(Calls::at_noon(&store).await);
    for round in 0..ROUNDS {
        let before = calls.used().await;
        let id = format!("r{round}");
        calls.reserve(&id, tokens(0, 20)).await;
        let ended = race(&calls, move |calls, task| async move {
            let id = format!("r{round}");
            if task % 2 == 0 { calls.settle(&id, output(1)).await } else { calls.cancel(&id).await }
        });
        let refused =
            |ended: &&Result<Settled, _>| matches!(ended, Err(ReservationError::AlreadySettled(_)));
        assert_eq!(ended.await.iter().filter(refused).count(), TASKS / 2);
        let added = u64::from(calls.settle(&id, output(1)).await.is_ok());
        assert_eq!(calls.used().await, before.map(|count| count + added));
    }
}

/// One of them charges what is missing.
pub async fn an_extension_is_charged_once(store: impl StoreUnderTest) {
    let calls = Arc::new(Calls::at_noon(&store).await);
    calls.reserve("r1", tokens(0, 2)).await;
    for round in 1..=ROUNDS as u64 {
        let decisions =
            race(
                &calls,
                move |calls, _| async move { calls.extend("r1", output(2 + round)).await },
            );
        assert_eq!(charged(decisions.await), TASKS, "an extension is never flagged");
        assert_eq!(calls.used().await, [1, 2 + round, 1, 2 + round]);
    }
}

/// A retry that overtakes the call it repeats.
pub async fn a_check_with_an_id_is_charged_once(store: impl StoreUnderTest) {
    let calls = Arc::new(Calls::at_noon(&store).await);
    for round in 0..ROUNDS {
        let decisions = race(&calls, move |calls, _| async move {
            calls.check_once(&format!("q{round}"), None, tokens(0, 3)).await
        });
        assert_eq!(charged(decisions.await), 1);
    }
    let (requests, all) = (ROUNDS as u64, 3 * ROUNDS as u64);
    assert_eq!(calls.used().await, [requests, all, requests, all]);
}

/// A call is reserved, extended and settled by each task in turn, each step repeated: the totals are those of the calls.
pub async fn totals_are_exact_however_answers_are_repeated(store: impl StoreUnderTest) {
    let calls = Arc::new(Calls::at_noon(&store).await);
    let done = race(&calls, |calls, task| async move {
        let id = format!("r{task}");
        for _ in 0..3 {
            let reserved = calls.try_reserve(&id, None, tokens(1, 2), DAY).await?;
            assert!(reserved.is_allowed());
        }
        for _ in 0..3 {
            assert!(calls.extend(&id, output(4)).await?.is_allowed());
        }
        for _ in 0..3 {
            calls.settle(&id, output(3)).await?;
        }
        Ok::<_, ReservationError>(())
    });
    assert!(done.await.iter().all(Result::is_ok));
    let (requests, all) = (TASKS as u64, 4 * TASKS as u64);
    assert_eq!(calls.used().await, [requests, all, requests, all]);
}

/// Within the windows that admitted them, calls may be settled in any order, between any others.
pub async fn totals_do_not_depend_on_the_order(store: impl StoreUnderTest) {
    let actual = [0, 3, 9, 20];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let calls = Calls::at_noon(&store).await;
        for call in order {
            calls.reserve(&format!("r{call}"), tokens(0, 9)).await;
        }
        for call in order.into_iter().rev().chain(order) {
            let settled = calls.settle(&format!("r{call}"), output(actual[call])).await;
            settled.expect("the reservation is known");
        }
        assert_eq!(calls.used().await, [4, 32, 4, 32]);
    }
}

/// Lets all tasks begin at once.
async fn race<S, Operation, Outcome>(
    calls: &Arc<Calls<S>>,
    operation: impl Fn(Arc<Calls<S>>, usize) -> Operation + Clone + Send + 'static,
) -> Vec<Outcome>
where
    S: Store,
    Operation: Future<Output = Outcome> + Send,
    Outcome: Send + 'static,
{
    let start = Arc::new(Barrier::new(TASKS));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (calls, start, operation) = (calls.clone(), start.clone(), operation.clone());
            tokio::spawn(async move {
                start.wait().await;
                operation(calls, task).await
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.expect("no task panics"));
    }
    outcomes
}

/// How many were allowed and not told that they had been before.
fn charged(decisions: Vec<Result<Decision, ReservationError>>) -> usize {
    let decisions = decisions.into_iter().map(|decision| decision.expect("the store answers"));
    let allowed = |decision: &Decision| decision.allowed().map(Allowed::replayed) == Some(false);
    decisions.filter(allowed).count()
}

/// More than there are cores, so that tasks are interrupted anywhere.
const TASKS: usize = 8;
/// As many as the limit of requests has room for.
const ROUNDS: usize = 9;
