//! Calls that are reserved before, in and after an outage: a store in memory, which this process cannot connect to at first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use limiter_conformance::fixtures::request_id;
use limiter_core::{
    AccessKey, Charge, Decision, KeyConfig, KeyId, KeyKind, Limits, NewRecord, ReservationError,
    Store, StoreError, StoredSecret, Thresholds, Totals,
};
use limiter_memory::MemoryStore;
use limiter_policy::{FailurePolicy, GuardedStore, GuardedStoreBuilder};
use limiter_test_servers::until_async;

use crate::used;

struct World {
    /// As another process sees it.
    inner: MemoryStore,
    store: GuardedStore,
    is_there: Arc<AtomicBool>,
    key: KeyId,
}

impl World {
    async fn in_an_outage(policy: FailurePolicy) -> Self {
        let (inner, is_there) = (MemoryStore::new(), Arc::new(AtomicBool::new(false)));
        let limits = Limits::builder().tokens_per_day(1_000).build().unwrap();
        let key = inner.create(NewRecord {
            id: "ci".parse().unwrap(),
            workspace: "home".parse().unwrap(),
            kind: KeyKind::Member,
            config: KeyConfig::named("ci").unwrap().with_global(limits),
            thresholds: Thresholds::DEFAULT,
            secret: Some(StoredSecret::from(&access_key())),
            bootstraps: false,
        });
        let builder = GuardedStoreBuilder::new(policy).probe_every(Duration::from_millis(5));
        let connect = {
            let (inner, is_there) = (inner.clone(), Arc::clone(&is_there));
            move || {
                let there = is_there.load(Ordering::Relaxed).then(|| inner.clone());
                async move { there.ok_or("the network is down") }
            }
        };
        let store = builder.most_remembered(2).connect(connect).await;
        Self { inner, store, is_there, key: key.unwrap().id }
    }

    async fn reserve(&self, id: &str, output: u64) -> Result<Decision, ReservationError> {
        self.store.reserve(&self.key, None, &output_tokens(output), &request_id(id), HOUR).await
    }

    async fn settle(&self, id: &str, output: u64) -> Result<(), ReservationError> {
        self.store.settle(&self.key, &request_id(id), &actual(output)).await.map(drop)
    }

    /// As a process does that still has the store.
    fn reserve_elsewhere(&self, id: &str, output: u64) {
        let decision =
            self.inner.reserve(&self.key, None, &output_tokens(output), &request_id(id), HOUR);
        assert!(decision.is_ok_and(|decision| decision.is_allowed()));
    }

    async fn end_of_outage(&self) {
        self.is_there.store(true, Ordering::Relaxed);
        until_async("the store is well", async || self.store.is_well()).await;
    }

    fn used(&self) -> u64 {
        used(&self.inner.usage(&self.key).unwrap(), "global/day/tokens")
    }
}

fn output_tokens(output: u64) -> Charge {
    Charge::request().with_tokens(0, output).unwrap()
}

fn actual(output: u64) -> Totals {
    Totals::unchanged().with_output_tokens(output).unwrap()
}

fn access_key() -> AccessKey {
    AccessKey::new("an access key of at least 32 characters".replace(' ', "-")).unwrap()
}

#[tokio::test]
async fn what_was_reserved_before_and_ends_in_the_outage_is_settled_when_the_store_is_back() {
    let world = World::in_an_outage(FailurePolicy::FailOpen).await;
    world.reserve_elsewhere("settled", 100);
    world.reserve_elsewhere("cancelled", 10);
    assert_eq!(world.used(), 110);
    world.settle("settled", 30).await.unwrap();
    world.store.cancel(&world.key, &request_id("cancelled")).await.unwrap();
    assert_eq!(world.used(), 110, "the store does not know yet");
    world.end_of_outage().await;
    assert_eq!(world.used(), 30);
}

#[tokio::test]
async fn the_queue_of_late_ends_is_bounded_and_one_more_is_an_error() {
    let world = World::in_an_outage(FailurePolicy::FailOpen).await;
    for id in ["a", "b", "c"] {
        world.reserve_elsewhere(id, 100);
    }
    assert!(world.settle("a", 1).await.is_ok() && world.settle("b", 1).await.is_ok());
    let one_more = world.settle("c", 1).await;
    assert!(matches!(one_more, Err(ReservationError::Store(StoreError::Unavailable(_)))));
    world.end_of_outage().await;
    assert_eq!(world.used(), 102);
    world.settle("c", 1).await.unwrap();
    assert_eq!(world.used(), 3);
}

#[tokio::test]
async fn the_end_of_a_call_that_is_reserved_in_the_outage_is_no_error_if_there_is_no_room_for_it() {
    let world = World::in_an_outage(FailurePolicy::FailOpen).await;
    for id in ["a", "b"] {
        world.reserve_elsewhere(id, 100);
        world.settle(id, 1).await.unwrap();
    }
    assert!(world.reserve("c", 5_000).await.is_ok_and(|decision| decision.is_degraded()));
    world.settle("c", 5_000).await.unwrap();
    world.end_of_outage().await;
    assert_eq!(world.used(), 2);
}

#[tokio::test]
async fn a_call_that_is_reserved_in_the_outage_is_let_through_to_its_end_and_not_charged() {
    let world = World::in_an_outage(FailurePolicy::FailOpen).await;
    assert!(world.reserve("r", 5_000).await.is_ok_and(|decision| decision.is_degraded()));
    let amended = world.store.amend(&world.key, &request_id("r"), &actual(9_000)).await;
    assert!(amended.is_ok_and(|decision| decision.is_allowed() && decision.is_degraded()));
    world.end_of_outage().await;
    let amended = world.store.amend(&world.key, &request_id("r"), &actual(9_500)).await;
    assert!(amended.is_ok_and(|decision| decision.is_allowed() && decision.is_degraded()));
    world.settle("r", 9_500).await.unwrap();
    assert_eq!(world.used(), 0);
    let stranger = world.settle("nobody reserved it", 1).await;
    assert!(matches!(stranger, Err(ReservationError::Unknown(_))), "{stranger:?}");
}

#[tokio::test]
async fn under_fail_closed_every_step_of_a_reservation_is_the_stores_error() {
    let world = World::in_an_outage(FailurePolicy::FailClosed).await;
    world.reserve_elsewhere("r", 100);
    let outage = |error| matches!(error, ReservationError::Store(StoreError::Unavailable(_)));
    assert!(world.reserve("s", 1).await.is_err_and(outage));
    assert!(world.settle("r", 30).await.is_err_and(outage));
    assert!(world.store.cancel(&world.key, &request_id("r")).await.is_err_and(outage));
    world.end_of_outage().await;
    assert_eq!(world.used(), 100);
    world.settle("r", 30).await.unwrap();
    assert_eq!(world.used(), 30);
}

#[tokio::test]
async fn an_access_key_that_was_never_found_is_not_found_in_an_outage() {
    let world = World::in_an_outage(FailurePolicy::FailOpen).await;
    let digest = access_key().digest();
    let never_found = world.store.resolve(&digest).await;
    assert!(matches!(never_found, Err(StoreError::Unavailable(_))), "{never_found:?}");
    world.end_of_outage().await;
    assert_eq!(world.store.resolve(&digest).await.unwrap(), Some(world.key.clone()));
}

const HOUR: Duration = Duration::from_secs(3_600);
