//! A store that grows many times by its number of keys: none is lost, moved or confused with another.

use crate::common::{admit, home, requests, store_at};
use limiter_conformance::fixtures::{NOON, asset, named};
use limiter_core::{Charge, DenialReason, KeyId, KeyKind, NewRecord, Thresholds};
use limiter_memory::{MemoryHandle, MemoryStore};

#[test]
fn every_key_of_many_counts_for_itself_by_key_and_by_handle() {
    let (store, _) = store_at(NOON);
    let keys = create_all(&store, "key");
    let handles: Vec<_> = keys.iter().map(|key| handle(&store, key)).collect();
    for (handle, key) in handles.iter().zip(&keys) {
        admit(&store, key, Some(&asset("m1")), 1);
        assert!(handle.check_and_consume(&Charge::request()).is_allowed());
    }
    for key in &keys {
        let usage = store.usage(key).expect("the key lives");
        assert_eq!(usage.scopes[1].account.requests(), 2, "{key}");
    }
}

#[test]
fn handles_stay_true_while_keys_come_and_go() {
    let (store, _) = store_at(NOON);
    let staying = create_all(&store, "staying");
    let handles: Vec<_> = staying.iter().map(|key| handle(&store, key)).collect();
    let mut gone = Vec::new();
    for round in 0..3 {
        let passing = create_all(&store, &format!("passing {round}"));
        gone.extend(passing.iter().map(|key| handle(&store, key)));
        for key in &passing {
            store.delete(&home(), key).expect("the key lives");
        }
    }
    for handle in &gone {
        let decision = handle.check_and_consume(&Charge::request());
        assert_eq!(
            decision.denied().map(|denied| denied.reason()),
            Some(&DenialReason::KeyUnknown)
        );
    }
    for (handle, key) in handles.iter().zip(&staying) {
        assert!(handle.check_and_consume(&Charge::request()).is_allowed());
        let usage = store.usage(key).expect("the key lives");
        assert_eq!(usage.scopes[1].account.requests(), 1, "{key}");
    }
}

fn create_all(store: &MemoryStore, prefix: &str) -> Vec<KeyId> {
    (0..KEYS).map(|number| create(store, &format!("{prefix} {number}"))).collect()
}

fn create(store: &MemoryStore, id: &str) -> KeyId {
    let record = NewRecord {
        id: id.parse().expect("an id"),
        workspace: home(),
        kind: KeyKind::Member,
        config: named(id).with_asset(asset("m1"), requests(None, Some(9))),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(record).expect("the key is new").id
}

fn handle(store: &MemoryStore, key: &KeyId) -> MemoryHandle {
    store.handle(key, Some(&asset("m1"))).expect("the key is known")
}

/// Many times what a shard of the store begins with.
const KEYS: usize = 10_000;
