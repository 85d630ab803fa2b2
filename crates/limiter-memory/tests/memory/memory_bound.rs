//! The configuration bounds the memory of the store: nothing stays of keys, assets and windows that are over.

use crate::common::{admit, create, home, requests, store_at, update, update_of};
use limiter_conformance::fixtures::{DAY, MIDNIGHT, MINUTE, NOON, asset, named};
use limiter_core::{
    Charge, InvalidValue, KeyConfig, KeyId, KeyKind, KeyState, KeysError, ManualClock, NewRecord,
    Thresholds,
};
use limiter_memory::MemoryStore;
use serde_json::Value;

#[test]
fn a_removed_asset_is_gone_after_both_windows_and_a_call_of_it() {
    let (store, clock) = store_at(NOON);
    let both = requests(Some(5), Some(50));
    let key = create(&store, "ci", named("ci").with_asset(asset("removed-model"), both));
    admit(&store, &key, Some(&asset("removed-model")), 3);
    update(&store, &key, |config| config.assets.clear());
    assert!(saved(&store).contains("removed-model"), "its limits are in force to midnight");
    clock.set(NOON.after(MINUTE));
    admit(&store, &key, Some(&asset("removed-model")), 1);
    assert!(saved(&store).contains("removed-model"), "its day is not over");
    clock.set(MIDNIGHT);
    admit(&store, &key, Some(&asset("removed-model")), 1);
    assert!(!saved(&store).contains("removed-model"));
}

/// The store once took them, and could no longer read its own snapshot.
#[test]
fn the_store_itself_refuses_more_assets_than_a_key_may_have() {
    let (store, _clock) = store_at(NOON);
    let too_many = (0..=KeyConfig::MAX_ASSETS).fold(named("ci"), |config, number| {
        config.with_asset(asset(&number.to_string()), requests(Some(1), None))
    });
    let record = NewRecord {
        id: "ci".parse().expect("an id"),
        workspace: home(),
        kind: KeyKind::Member,
        config: too_many.clone(),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    let created = store.create(record);
    assert!(matches!(created, Err(KeysError::Invalid(InvalidValue::TooManyAssets { .. }))));
    let key = create(&store, "ci", named("ci"));
    let updated = store.update(&home(), &update_of(&key, 1, &too_many));
    assert!(matches!(updated, Err(KeysError::Invalid(InvalidValue::TooManyAssets { .. }))));
}

#[test]
fn cleared_global_limits_are_gone_after_both_windows_and_a_call() {
    let (store, clock) = store_at(NOON);
    let key = create(&store, "ci", named("ci").with_global(requests(Some(5), Some(50))));
    update(&store, &key, |config| config.global = requests(None, None));
    assert!(saved(&store).contains("\"minute\"") && saved(&store).contains("\"limit\":50"));
    clock.set(MIDNIGHT);
    admit(&store, &key, None, 1);
    assert!(!saved(&store).contains("\"minute\"") && !saved(&store).contains("\"limit\":50"));
}

#[test]
fn a_call_of_another_asset_leaves_what_is_over_where_it_is() {
    let (store, clock) = store_at(NOON);
    let config = named("ci").with_asset(asset("m1"), requests(None, Some(5)));
    let key = create(&store, "ci", config);
    update(&store, &key, |config| config.assets.clear());
    clock.set(MIDNIGHT);
    admit(&store, &key, Some(&asset("m2")), 1);
    assert!(store.usage(&key).is_some_and(|usage| usage.scopes.len() == 1), "it is not shown");
    assert!(saved(&store).contains("\"m1\""), "no operation has written it");
}

#[test]
fn an_asset_that_was_added_and_removed_again_is_gone_after_its_day() {
    let (store, clock) = store_at(NOON);
    let key = create(&store, "ci", named("ci"));
    let added = [(asset("short-lived-model"), requests(None, Some(5)))];
    update(&store, &key, |config| config.assets = added.into());
    assert!(saved(&store).contains("short-lived-model"));
    update(&store, &key, |config| config.assets.clear());
    assert!(saved(&store).contains("short-lived-model"), "its day is not over");
    clock.set(MIDNIGHT);
    update(&store, &key, |config| config.shadow = true);
    assert!(!saved(&store).contains("short-lived-model"));
}

#[test]
fn a_flood_of_made_up_assets_leaves_no_state() {
    let (store, _) = store_at(NOON);
    let config = named("ci").with_global(requests(None, Some(1_000_000)));
    let key = create(&store, "ci", config.with_asset(asset("m1"), requests(None, Some(5))));
    admit(&store, &key, None, 1);
    let before = saved(&store).len();
    for number in 0..20_000 {
        let made_up = asset(&format!("made up {number}"));
        admit(&store, &key, Some(&made_up), 1);
        store.handle(&key, Some(&made_up)).expect("the key is known");
    }
    let after = saved(&store);
    assert!(!after.contains("made up"));
    // The count of the global scope has more digits.
    assert!(after.len() < before + 50, "{before} bytes became {}", after.len());
}

#[test]
fn assets_that_are_never_called_again_do_not_pile_up() {
    let (store, clock) = store_at(NOON);
    let key = create(&store, "ci", named("ci"));
    for round in 0..8 {
        exchange_all_assets(&store, &key, round);
        clock.advance(DAY);
    }
    assert!(counted_scopes(&store) <= 1 + KeyState::MAX_COUNTED_ASSETS);
}

/// Each is counted until its day is over.
#[test]
fn assets_that_are_exchanged_every_minute_are_refused_until_the_next_day() {
    let (store, clock) = store_at(NOON);
    let key = create(&store, "ci", named("ci"));
    for round in 0..4 {
        exchange_all_assets(&store, &key, round);
        clock.advance(MINUTE);
    }
    assert_eq!(counted_scopes(&store), 1 + KeyState::MAX_COUNTED_ASSETS);
    let config = named("ci").with_asset(asset("one more"), requests(Some(1), None));
    let refused = store.update(&home(), &update_of(&key, 5, &config));
    assert!(
        matches!(refused, Err(KeysError::Invalid(InvalidValue::TooManyAssets { .. }))),
        "{refused:?}"
    );
    clock.set(MIDNIGHT);
    exchange_all_assets(&store, &key, 5);
    assert!(counted_scopes(&store) <= 1 + 2 * KeyConfig::MAX_ASSETS, "{}", counted_scopes(&store));
}

#[test]
fn a_deleted_key_leaves_nothing() {
    let (store, _) = store_at(NOON);
    let empty = saved(&store);
    let key = create(&store, "ci", named("ci").with_global(requests(Some(5), None)));
    admit(&store, &key, None, 3);
    store.delete(&home(), &key).expect("the key lives");
    assert_eq!(saved(&store), empty);
}

#[test]
fn a_deleted_key_leaves_nothing_while_its_handle_is_held() {
    let (store, _) = store_at(NOON);
    let empty = saved(&store);
    let key = create(&store, "ci", named("ci").with_global(requests(Some(5), None)));
    let handle = store.handle(&key, None).expect("the key is known");
    store.delete(&home(), &key).expect("the key lives");
    assert!(!handle.check_and_consume(&Charge::request()).is_allowed());
    assert_eq!(saved(&store), empty);
}

#[test]
fn calls_of_keys_that_do_not_exist_leave_nothing() {
    let (store, _) = store_at(NOON);
    let empty = saved(&store);
    for number in 0..1_000 {
        let key = KeyId::new(format!("made up {number}")).expect("an id");
        assert!(!store.check_and_consume(&key, None, &Charge::request()).is_allowed());
        assert!(store.handle(&key, None).is_none());
        assert!(store.usage(&key).is_none());
    }
    assert_eq!(saved(&store), empty);
}

/// Gives a key limits for as many other assets as it may have.
fn exchange_all_assets(store: &MemoryStore, key: &KeyId, round: u32) {
    let assets = (0..KeyConfig::MAX_ASSETS)
        .map(|number| (asset(&format!("{round}/{number}")), requests(Some(1), Some(1))));
    update(store, key, |config| config.assets = assets.collect());
}

fn counted_scopes(store: &MemoryStore) -> usize {
    saved(store).matches("\"window\":\"day\"").count()
}

/// Returns all data of the store as text, without the number of the last change, whose size in memory is constant, and without
/// the days that have ended.
fn saved(store: &MemoryStore) -> String {
    let mut saved = serde_json::to_value(store.snapshot()).expect("a snapshot is JSON");
    saved["last_change"] = 0.into();
    for key in saved["keys"].as_array_mut().expect("a list of keys") {
        key["state"]["history"] = Value::Null;
    }
    saved.to_string()
}

#[test]
fn days_that_have_ended_are_kept_for_as_long_as_the_history_goes_back() {
    let clock = ManualClock::at(NOON);
    let store = MemoryStore::builder().clock(clock.clone()).history_days(3).build();
    let key = create(&store, "ci", named("ci").with_asset(asset("m1"), requests(None, Some(9))));
    for _ in 0..100 {
        admit(&store, &key, Some(&asset("m1")), 1);
        clock.advance(DAY);
    }
    let saved = serde_json::to_value(store.snapshot()).expect("a snapshot is JSON");
    let rows = saved["keys"][0]["state"]["history"][1].as_array().map(Vec::len);
    // Of each day one for all calls and one for the asset; a day more than are kept, since days have up to 25 hours.
    assert!(rows.is_some_and(|rows| (2 * 2..=2 * 5).contains(&rows)), "{rows:?}");
    assert_eq!(store.history(&key, 400).map(|days| days.len()), Some(2), "today counted nothing");
}
