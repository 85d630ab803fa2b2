//! Calls that are polled where no tokio runtime is: answered by the policy, and no failure of the store.

use std::fmt::Debug;
use std::num::NonZeroU32;
use std::time::Duration;

use limiter_core::{
    AccessKey, Charge, Effective, KeyConfig, KeyId, KeyKind, KeyUpdate, NewRecord, RecordId,
    RequestId, Search, Store, Thresholds, Totals,
};
use limiter_memory::MemoryStore;
use limiter_policy::{BreakerState, FailurePolicy, GuardedStore, GuardedStoreBuilder, Share};
use limiter_test_servers::{at_once, until_async};
use tokio::runtime::Runtime;

#[test]
fn every_call_outside_of_a_runtime_is_an_error() {
    let runtime = Runtime::new().unwrap();
    let key: KeyId = "ci".parse().unwrap();
    let store = GuardedStoreBuilder::new(FailurePolicy::FailClosed).guard(MemoryStore::new());
    runtime.block_on(store.create(record("ci"))).unwrap();
    let (charge, workspace) = (Charge::request(), "home".parse().unwrap());
    let id: RequestId = "r".parse().unwrap();
    let digest = AccessKey::new("sk-0123456789abcdefghij-01").unwrap().digest();
    let update = KeyUpdate {
        id: key.clone(),
        version: 1,
        config: KeyConfig::named("other").unwrap(),
        effective: Effective::Next,
        thresholds: Thresholds::DEFAULT,
    };
    let day = Duration::from_secs(86_400);
    // More often than would open the breaker.
    for _ in 0..9 {
        refused(store.check_and_consume(&key, None, &charge));
        refused(store.peek(&key, None, &charge));
        refused(store.usage(&key));
        refused(store.history(&key, 7));
        refused(store.find(&workspace, &update.config.name));
        refused(store.check_once(&key, None, &charge, &id));
        refused(store.record(&key, None, &charge, &RecordId::new(&id, day)));
        refused(store.reserve(&key, None, &charge, &id, day));
        refused(store.amend(&key, &id, &Totals::unchanged()));
        refused(store.settle(&key, &id, &Totals::unchanged()));
        refused(store.cancel(&key, &id));
        refused(store.resolve(&digest));
        refused(store.read(&key));
        refused(store.create(record("other")));
        refused(store.update(&workspace, &update));
        refused(store.reset(&workspace, &key));
        refused(store.delete(&workspace, &key));
        refused(store.list(&workspace, &Search::all()));
        assert!(at_once(store.flush(day)).is_nothing());
    }
    assert_eq!(store.breaker(), BreakerState::Closed);
    assert!(runtime.block_on(store.check_and_consume(&key, None, &charge)).unwrap().is_charged());
}

#[test]
fn a_policy_that_goes_on_answers_outside_of_a_runtime_too() {
    let share = Share::one_in(NonZeroU32::MIN);
    for policy in [FailurePolicy::FailOpen, FailurePolicy::LocalShare { share }] {
        let runtime = Runtime::new().unwrap();
        let (key, charge) = ("ci".parse().unwrap(), Charge::request());
        let store = GuardedStoreBuilder::new(policy).guard(MemoryStore::new());
        runtime.block_on(async {
            store.create(record("ci")).await.unwrap();
            assert!(store.check_and_consume(&key, None, &charge).await.unwrap().is_charged());
            until_async("the key is known", async || {
                policy == FailurePolicy::FailOpen || store.knows(&key)
            })
            .await;
        });
        let decision = at_once(store.check_and_consume(&key, None, &charge)).unwrap();
        assert!(decision.is_allowed() && decision.is_degraded());
    }
}

/// Connecting outside of a runtime leaves the store given up, and harms no call that comes later.
#[test]
fn a_store_that_was_not_connected_to_is_connected_to_by_the_first_call_in_a_runtime() {
    let inner = MemoryStore::new();
    let connect = {
        let inner = inner.clone();
        move || {
            let inner = inner.clone();
            async move { Ok::<_, String>(inner) }
        }
    };
    let builder = GuardedStoreBuilder::new(FailurePolicy::FailClosed);
    let store: GuardedStore =
        at_once(builder.probe_every(Duration::from_millis(5)).connect(connect));
    let (key, charge) = ("ci".parse().unwrap(), Charge::request());
    refused(store.check_and_consume(&key, None, &charge));
    Runtime::new().unwrap().block_on(async {
        store.check_and_consume(&key, None, &charge).await.unwrap_err();
        until_async("the store comes back", async || {
            store.check_and_consume(&key, None, &charge).await.is_ok()
        })
        .await;
    });
}

fn record(id: &str) -> NewRecord {
    NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind: KeyKind::Member,
        config: KeyConfig::named(id).unwrap(),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}

/// Polls a call here, where no runtime is: it is refused at once.
fn refused<T: Debug, E: Debug>(call: impl Future<Output = Result<T, E>>) {
    let error = format!("{:?}", at_once(call).unwrap_err());
    assert!(error.contains("Unavailable(NoRuntime)"), "{error}");
}
