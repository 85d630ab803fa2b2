//! Tasks that call all the time, and counts of the outcomes of their calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use limiter_core::{Decision, Store, StoreError};
use limiter_test_servers::until_async;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::world::{Guarded, World, one_credit};

/// The outcomes of calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// By the store.
    pub(crate) allowed: u64,
    /// By the policy.
    pub(crate) degraded: u64,
    pub(crate) denied: u64,
    /// Nothing was charged.
    pub(crate) unavailable: u64,
    /// It may have been charged.
    pub(crate) unknown: u64,
    /// Calls that took longer than half a deadline.
    pub(crate) waited: u64,
    pub(crate) slowest: Duration,
    /// Calls that had no answer when the load ended, long after their deadline.
    pub(crate) hung: usize,
}

impl Tally {
    fn add(&mut self, answer: &Result<Decision, StoreError>, took: Duration) {
        match answer {
            Ok(decision) if decision.is_degraded() => self.degraded += 1,
            Ok(decision) if decision.is_allowed() => self.allowed += 1,
            Ok(_) => self.denied += 1,
            Err(StoreError::Unavailable(_)) => self.unavailable += 1,
            Err(StoreError::OutcomeUnknown(_)) => self.unknown += 1,
            Err(error) => panic!("{error:?}"),
        }
        self.waited += u64::from(took > super::world::DEADLINE / 2);
        self.slowest = self.slowest.max(took);
    }

    pub(crate) fn errors(&self) -> u64 {
        self.unavailable + self.unknown
    }

    /// Returns the number of answers that did not come from the store.
    pub(crate) fn without_store(&self) -> u64 {
        self.degraded + self.errors()
    }
}

pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(world: &World) -> Self {
        let mut load = Self { tally: Arc::default(), stop: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..TASKS {
            let (store, key): (Guarded, _) = (world.store.clone(), world.key.clone());
            let (tally, stop) = (Arc::clone(&load.tally), Arc::clone(&load.stop));
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = store.check_and_consume(&key, None, &one_credit()).await;
                    tally.lock().unwrap().add(&answer, began.elapsed());
                    sleep(PAUSE).await;
                }
            });
        }
        load
    }

    pub(crate) fn now(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// Waits until the store has allowed this many more calls.
    pub(crate) async fn until_allowed(&self, more: u64) {
        let enough = self.now().allowed + more;
        let _ =
            until_async("the store allows more calls", async || self.now().allowed >= enough).await;
    }

    /// Waits until this many more calls are answered without the store.
    pub(crate) async fn until_without_store(&self, more: u64) {
        let enough = self.now().without_store() + more;
        let _ = until_async("more calls are answered without the store", async || {
            self.now().without_store() >= enough
        })
        .await;
    }

    /// Ends all tasks, each after its call, and counts those that do not end.
    pub(crate) async fn end(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(LONG, all).await;
        let hung = self.tasks.len();
        Tally { hung, ..self.now().clone() }
    }
}

/// The number of concurrent callers.
pub(crate) const TASKS: u64 = 64;
/// The pause between two calls of a task, so that calls without the store leave time for the others.
const PAUSE: Duration = Duration::from_millis(2);
/// Many deadlines.
const LONG: Duration = Duration::from_secs(10);
