//! A guarded store, whose inner store fails on demand, and its keys.

use std::num::NonZeroU32;
use std::time::Duration;

pub(crate) use limiter_conformance::fixtures::{DAY, request_id as named};
use limiter_conformance::fixtures::{NOON, millionths, tokens};
use limiter_core::{
    Charge, Credits, Decision, KeyConfig, KeyId, KeyKind, Limits, ManualClock, NewRecord,
    RequestId, ReservationError, Store, StoreError, Thresholds, Totals,
};
use limiter_memory::MemoryStoreBuilder;
use limiter_policy::{BreakerState, FailurePolicy, GuardedStore, GuardedStoreBuilder, Share};
use limiter_test_servers::Metrics;
use tokio::time::sleep;

use crate::used;

use super::flaky::{Flaky, flaky};

pub(crate) struct World {
    pub(crate) flaky: Flaky,
    pub(crate) store: GuardedStore,
    pub(crate) keys: Vec<KeyId>,
    clock: ManualClock,
    metrics: Metrics,
}

impl World {
    /// Creates keys; each has made one call, which the store has allowed.
    pub(crate) async fn of(
        keys: usize,
        inner: MemoryStoreBuilder,
        guarded: GuardedStoreBuilder,
    ) -> Self {
        let keys = (0..keys).map(|number| format!("key-{number}").parse().unwrap()).collect();
        Self::of_keys(keys, inner, guarded).await
    }

    /// Creates these keys and their groups; each key has made one call, which the store has allowed.
    pub(crate) async fn of_keys(
        keys: Vec<KeyId>,
        inner: MemoryStoreBuilder,
        guarded: GuardedStoreBuilder,
    ) -> Self {
        let clock = ManualClock::at(NOON);
        let flaky = flaky(inner.clock(clock.clone()).build());
        let metrics = Metrics::record();
        let store = guarded.probe_every(PROBE_EVERY).guard(flaky.clone());
        let world = Self { flaky, store, keys, clock, metrics };
        for key in &world.keys {
            for group in key.groups() {
                if world.store.read(&group).await.unwrap().is_none() {
                    world.create(&group, KeyKind::Group).await;
                }
            }
            world.create(key, KeyKind::Member).await;
            let decision = world.call(key).await.unwrap();
            assert!(decision.is_allowed() && !decision.is_degraded());
            sleep(Duration::from_millis(1)).await;
        }
        world
    }

    pub(crate) async fn create(&self, key: &KeyId, kind: KeyKind) {
        let limits = Limits::builder().requests_per_day(1_000_000).build().unwrap();
        let key = NewRecord {
            id: key.clone(),
            workspace: "home".parse().unwrap(),
            kind,
            config: KeyConfig::named(key.as_str())
                .unwrap()
                .with_global(limits)
                .with_budget(Credits::whole(1).unwrap()),
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        };
        self.store.create(key).await.unwrap();
    }

    pub(crate) async fn call(&self, key: &KeyId) -> Result<Decision, StoreError> {
        self.store.check_and_consume(key, None, &charge()).await
    }

    pub(crate) async fn reserve(
        &self,
        key: &KeyId,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.store.reserve(key, None, &charge(), id, HOUR).await
    }

    pub(crate) async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<(), ReservationError> {
        self.store.settle(key, id, actual).await.map(drop)
    }

    pub(crate) async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<(), ReservationError> {
        self.store.cancel(key, id).await.map(drop)
    }

    /// Makes the store go away, and calls it until it is given up.
    pub(crate) async fn give_up(&self) {
        self.flaky.goes_away();
        while self.store.breaker() == BreakerState::Closed {
            let _ = self.store.peek(&self.keys[0], None, &charge()).await;
        }
    }

    /// Makes the store go away, then makes one call for each key.
    pub(crate) async fn owe_one_each(&self) {
        self.give_up().await;
        for key in &self.keys {
            let decision = self.call(key).await.unwrap();
            assert!(decision.is_allowed() && decision.is_degraded());
        }
    }

    /// The requests of the day that the store has counted.
    pub(crate) fn used(&self, key: &KeyId) -> u64 {
        used(&self.flaky.inner.usage(key).unwrap(), "global/day/requests")
    }

    /// The value of the metric of late operations, with these labels.
    pub(crate) fn metric(&self, labels: &str) -> u64 {
        self.metrics.value(&format!("limiter_reconciliations_total{{{labels}}}"))
    }

    /// Advances both clocks.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        sleep(time).await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..MOST_WAITS {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("it is not true that {what}");
    }
}

/// Settings for a process that may use all of each limit.
pub(crate) fn share() -> GuardedStoreBuilder {
    GuardedStoreBuilder::new(FailurePolicy::LocalShare { share: Share::one_in(NonZeroU32::MIN) })
}

/// A request of 3 tokens in, 4 out, and a millionth of a credit.
fn charge() -> Charge {
    tokens(3, 4).with_credits(millionths(1))
}

pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
/// Ten minutes of the paused clock: longer than any pause.
const MOST_WAITS: u32 = 6_000;
