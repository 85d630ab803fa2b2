//! A check that allows allocates nothing, with any limits: nearly every call is of this kind.

use allocation_counter::measure;
use limiter_conformance::fixtures::{DAY, MINUTE, NOON, millionths, tokens};
use limiter_core::{
    AssetId, Charge, Credits, KeyConfig, KeyId, KeyKind, Limits, ManualClock, NewRecord, Thresholds,
};
use limiter_memory::MemoryStore;

#[test]
fn an_allowed_check_by_key_allocates_nothing() {
    let (store, key, asset) = store_with_eight_rules(ManualClock::at(NOON));
    let charge = charge();
    let measured = measure(|| {
        for _ in 0..CALLS {
            assert!(store.check_and_consume(&key, Some(&asset), &charge).is_allowed());
        }
    });
    assert_eq!((measured.count_total, measured.bytes_total), (0, 0));
}

#[test]
fn an_allowed_check_through_a_handle_allocates_nothing() {
    let (store, key, asset) = store_with_eight_rules(ManualClock::at(NOON));
    let handle = store.handle(&key, Some(&asset)).expect("the key is known");
    let charge = charge();
    let measured = measure(|| {
        for _ in 0..CALLS {
            assert!(handle.check_and_consume(&charge).is_allowed());
        }
    });
    assert_eq!((measured.count_total, measured.bytes_total), (0, 0));
}

#[test]
fn an_allowed_check_of_a_made_up_asset_allocates_nothing() {
    let (store, key, _) = store_with_eight_rules(ManualClock::at(NOON));
    let made_up: AssetId =
        "made up, and with a name that is too long to be stored in place".parse().expect("an id");
    let measured =
        measure(|| assert!(store.check_and_consume(&key, Some(&made_up), &charge()).is_allowed()));
    assert_eq!((measured.count_total, measured.bytes_total), (0, 0));
}

#[test]
fn an_allowed_check_on_the_systems_clock_allocates_nothing() {
    let store = MemoryStore::new();
    let key = create(&store, KeyConfig::named("ci").expect("a name"));
    let measured = measure(|| assert!(store.check_and_consume(&key, None, &charge()).is_allowed()));
    assert_eq!((measured.count_total, measured.bytes_total), (0, 0));
}

#[test]
fn an_allowed_check_in_a_new_window_allocates_nothing() {
    let clock = ManualClock::at(NOON);
    let (store, key, asset) = store_with_eight_rules(clock.clone());
    let charge = charge();
    assert!(store.check_and_consume(&key, Some(&asset), &charge).is_allowed());
    let measured = measure(|| {
        clock.set(NOON.after(MINUTE));
        assert!(store.check_and_consume(&key, Some(&asset), &charge).is_allowed());
    });
    assert_eq!((measured.count_total, measured.bytes_total), (0, 0));
}

/// A day that ends is kept for the history: a row for each scope.
#[test]
fn an_allowed_check_on_a_new_day_allocates_rows_of_the_history() {
    let clock = ManualClock::at(NOON);
    let (store, key, asset) = store_with_eight_rules(clock.clone());
    let charge = charge();
    let day = |number| {
        measure(|| {
            clock.set(NOON.after(DAY * number));
            assert!(store.check_and_consume(&key, Some(&asset), &charge).is_allowed());
        })
    };
    for number in 0..100 {
        day(number);
    }
    let kept: i64 = (100..200).map(|number| day(number).bytes_current).sum();
    assert!(kept <= 0, "{kept} bytes more than before, though no more days are kept");
}

/// The counter does count: a denied check allocates.
#[test]
fn a_denied_check_is_seen_to_allocate() {
    let (store, key, asset) = store_with_eight_rules(ManualClock::at(NOON));
    let too_much = Charge::request().with_requests(2_000_000).expect("within bounds");
    let measured =
        measure(|| assert!(!store.check_and_consume(&key, Some(&asset), &too_much).is_allowed()));
    assert!(measured.count_total > 0);
}

/// A key with eight rules that a call of the asset meets, and a budget.
fn store_with_eight_rules(clock: ManualClock) -> (MemoryStore, KeyId, AssetId) {
    let store = MemoryStore::builder().clock(clock).build();
    // Too long to be stored in place, so that a copy would be seen.
    let asset: AssetId = "a model with a name of more than two dozen bytes".parse().expect("an id");
    let config = KeyConfig::named("ci")
        .expect("a name")
        .with_global(limits())
        .with_asset(asset.clone(), limits())
        .with_budget(Credits::MAX);
    let key = create(&store, config);
    (store, key, asset)
}

fn create(store: &MemoryStore, config: KeyConfig) -> KeyId {
    let id: KeyId = "a key with an id of more than two dozen bytes".parse().expect("an id");
    let record = NewRecord {
        id: id.clone(),
        workspace: "home".parse().expect("an id"),
        kind: KeyKind::Member,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(record).expect("an empty store takes a key");
    id
}

fn limits() -> Limits {
    let limit = 1_000_000;
    let limits = Limits::builder().requests_per_minute(limit).requests_per_day(limit);
    limits.tokens_per_minute(limit).tokens_per_day(limit).build().expect("limits within bounds")
}

fn charge() -> Charge {
    tokens(30, 40).with_credits(millionths(42))
}

const CALLS: usize = 1_000;
