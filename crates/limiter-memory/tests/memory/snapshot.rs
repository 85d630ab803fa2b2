//! A store continues from its snapshot without any difference, and refuses an invalid one.

use crate::common::{
    admit, counted, create, create_of_kind, home, requests, secret_of, store_at, update,
};
use limiter_conformance::fixtures::{DAY, MIDNIGHT, MINUTE, NOON, asset, named};
use limiter_core::{
    Charge, Credits, KeyConfig, KeyId, KeyKind, KeysError, Limits, ManualClock, ScopeId, Search,
    Timestamp, Totals, Unit, Window,
};
use limiter_memory::{MemoryStore, RestoreError, Snapshot};
use serde_json::Value;

#[test]
fn a_restored_store_has_the_same_keys_and_counts() {
    let (store, key) = store_in_use();
    let restored = restore_at(NOON, &json(&store));
    assert_eq!(restored.usage(&key), store.usage(&key));
    assert_eq!(restored.list(&home(), &Search::all()), store.list(&home(), &Search::all()));
}

#[test]
fn a_restored_store_has_the_same_history() {
    let (store, clock) = store_at(NOON);
    let key = create(&store, "ci", named("ci").with_asset(asset("m1"), Limits::NONE));
    for _ in 0..3 {
        admit(&store, &key, Some(&asset("m1")), 2);
        store.reset(&home(), &key).expect("the key lives");
        clock.advance(DAY);
    }
    admit(&store, &key, None, 1);
    let restored = restore_at(clock.now(), &json(&store));
    let history = restored.history(&key, 35);
    assert_eq!(history.as_ref().map(Vec::len), Some(4));
    assert_eq!(history, store.history(&key, 35));
}

/// The memory of the first 32 is given back, all at once. The walk through the rest once ended there.
#[test]
fn keys_that_came_after_many_that_are_gone_are_in_a_snapshot() {
    let (store, _) = store_at(NOON);
    create_of_kind(&store, KeyKind::Group, "g", named("g"));
    let keys: Vec<_> = (0..33).map(|number| format!("g/{number}")).collect();
    let keys: Vec<_> = keys.iter().map(|path| create(&store, path, named(path))).collect();
    for key in &keys[..32] {
        store.delete(&home(), key).expect("it is there");
    }
    let restored = restore_at(NOON, &json(&store));
    assert_eq!(restored.usage(&keys[32]), store.usage(&keys[32]));
    assert!(restored.usage(&keys[32]).is_some());
}

#[test]
fn a_snapshot_survives_json() {
    let (store, _) = store_in_use();
    let snapshot = store.snapshot();
    let again: Snapshot = serde_json::from_value(json(&store)).expect("what was written is read");
    assert_eq!((again.len(), again.taken_at()), (3, NOON));
    assert_eq!(sorted(again), sorted(snapshot));
}

#[test]
fn a_restored_key_is_found_by_its_access_key() {
    let (store, key) = store_in_use();
    let restored = restore_at(NOON, &json(&store));
    assert_eq!(restored.resolve(&secret_of("ci").digest()), Some(key));
}

#[test]
fn a_restored_store_goes_on_counting() {
    let (store, key) = store_in_use();
    let restored = restore_at(NOON, &json(&store));
    for _ in 0..12 {
        let m1 = asset("m1");
        let charge = Charge::request();
        let expected = store.check_and_consume(&key, Some(&m1), &charge);
        assert_eq!(restored.check_and_consume(&key, Some(&m1), &charge), expected);
    }
}

#[test]
fn a_restored_store_fires_no_threshold_again() {
    let (store, _) = store_at(NOON);
    let budget = Credits::from_millionths(10).expect("within bounds");
    let config = named("ci").with_global(requests(Some(10), None)).with_budget(budget);
    let key = create(&store, "ci", config.with_asset(asset("m1"), requests(None, Some(10))));
    let (m1, id) = (asset("m1"), "r1".parse().expect("an id"));
    let charge = |number| {
        let credits = Credits::from_millionths(number).expect("within bounds");
        Charge::request().with_requests(number).expect("within bounds").with_credits(credits)
    };
    let reserved = store.reserve(&key, Some(&m1), &charge(8), &id, DAY).expect("it is new");
    assert_eq!(reserved.allowed().map(|allowed| allowed.crossed().len()), Some(3));
    store.cancel(&key, &id).expect("the reservation is known");
    let restored = restore_at(NOON, &json(&store));
    for (number, fired) in [(9, vec![]), (1, vec![100; 3])] {
        let decision = restored.check_and_consume(&key, Some(&m1), &charge(number));
        let crossed = decision.allowed().expect("it fits").crossed().iter();
        assert_eq!(crossed.map(|it| it.percent).collect::<Vec<_>>(), fired);
    }
}

#[test]
fn a_snapshot_with_more_fired_thresholds_than_configured_is_refused() {
    let mut json = json(&store_in_use().0);
    let windows = json["keys"][0]["state"]["global"]["windows"].as_array_mut();
    let ever =
        windows.and_then(|windows| windows.last_mut()).expect("credits are counted for ever");
    ever["counts"][0]["mark"] = 3.into();
    let refused = serde_json::from_value::<Snapshot>(json).expect_err("a key has two thresholds");
    assert!(refused.to_string().contains("more thresholds have fired"), "{refused}");
}

/// A limit with a damaged field name must not vanish.
#[test]
fn a_field_that_is_missing_or_unknown_is_refused() {
    let (store, key) = store_in_use();
    let charge = Charge::request();
    let [open, settled] = ["open", "settled"].map(|id| id.parse().expect("an id"));
    for id in [&open, &settled] {
        let reserved = store.reserve(&key, Some(&asset("m1")), &charge, id, DAY);
        assert!(reserved.expect("it is new").is_allowed());
    }
    store.settle(&key, &settled, &Totals::unchanged()).expect("it is open");
    update(&store, &key, |config| config.global = requests(Some(20), None));
    let json = json(&store);
    let mut paths = Vec::new();
    fields(&json, "", &mut paths);
    assert!(paths.len() > 150, "{} fields", paths.len());
    for path in paths {
        for misspelled in [false, true] {
            let mut damaged = json.clone();
            let (object, name) = path.rsplit_once('/').expect("a field is in an object");
            let object = damaged.pointer_mut(object).and_then(Value::as_object_mut);
            let object = object.expect("the field is there");
            let value = object.remove(name).expect("the field is there");
            if misspelled {
                object.insert(format!("{name}s"), value);
            }
            let read = serde_json::from_value::<Snapshot>(damaged);
            assert!(read.is_err(), "{path}, misspelled: {misspelled}");
        }
    }
}

/// Finds the paths of all fields, except the names of assets and limits and the fields of charges, which are optional.
fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields_here) => {
            for (name, value) in fields_here {
                let inner = format!("{path}/{name}");
                if !path.ends_with("/assets") {
                    found.push(inner.clone());
                }
                if !["reserved", "estimate", "Settled", "account", "pending"]
                    .contains(&name.as_str())
                {
                    fields(value, &inner, found);
                }
            }
        }
        Value::Array(values) => {
            for (position, value) in values.iter().enumerate() {
                fields(value, &format!("{path}/{position}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn a_pending_change_of_the_minute_comes_while_the_store_is_down() {
    let (store, key) = store_in_use();
    update(&store, &key, |config| config.global = requests(Some(20), Some(200)));
    let restored = restore_at(NOON.after(MINUTE), &json(&store));
    assert_eq!(counted(&restored, &key), [(0, 20), (2, 100)]);
}

#[test]
fn a_pending_change_of_the_day_comes_while_the_store_is_down() {
    let (store, key) = store_in_use();
    update(&store, &key, |config| config.global = requests(Some(20), Some(200)));
    let restored = restore_at(MIDNIGHT, &json(&store));
    assert_eq!(counted(&restored, &key), [(0, 20), (0, 200)]);
}

#[test]
fn a_pending_change_waits_on_in_a_restored_store() {
    let (store, key) = store_in_use();
    update(&store, &key, |config| config.global = requests(Some(20), None));
    let restored = restore_at(NOON, &json(&store));
    assert_eq!(restored.read(&key), store.read(&key));
    let record = restored.read(&key).expect("the key lives");
    let global = record.limits_of(&ScopeId::GLOBAL).expect("it has limits");
    assert_eq!(global.in_force.get(Window::Minute, Unit::Requests), Some(10));
    let pending: Vec<_> = global.pending.iter().map(|of| (of.window, of.effective_at)).collect();
    assert_eq!(pending, [(Window::Minute, NOON.after(MINUTE)), (Window::Day, MIDNIGHT)]);
}

#[test]
fn a_restored_store_is_rebased_if_the_clock_was_far_ahead() {
    let (ahead, clock) = store_at(NOON.after(1_000 * DAY));
    let key = create(&ahead, "ci", named("ci").with_global(requests(Some(2), None)));
    admit(&ahead, &key, None, 2);
    clock.set(NOON);
    let restored = restore_at(NOON, &json(&ahead));
    let denied = restored.check_and_consume(&key, None, &Charge::request());
    assert_eq!(denied, ahead.check_and_consume(&key, None, &Charge::request()));
    assert_eq!(denied.denied().and_then(|denied| denied.retry_at()), Some(NOON.after(MINUTE)));
}

#[test]
fn a_restored_workspace_keeps_its_last_admin() {
    let (store, _) = store_in_use();
    let restored = restore_at(NOON, &json(&store));
    let admin: KeyId = "root".parse().expect("an id");
    assert!(matches!(restored.delete(&home(), &admin), Err(KeysError::LastAdmin)));
}

#[test]
fn a_snapshot_of_an_empty_store_is_empty() {
    let (store, _) = store_at(NOON);
    assert!(store.snapshot().is_empty());
    let restored = restore_at(NOON, &json(&store));
    assert!(restored.list(&home(), &Search::all()).keys.is_empty());
}

#[test]
fn a_snapshot_holds_no_access_key() {
    let (store, _) = store_in_use();
    let text = json(&store).to_string();
    for id in ["ci", "root", "spent"] {
        assert!(!text.contains(secret_of(id).expose()), "{text}");
    }
    assert!(!text.contains("secret-part"), "{text}");
}

#[test]
fn a_snapshot_of_another_format_is_refused() {
    let mut json = json(&store_in_use().0);
    json["format"] = 1.into();
    let refused = try_restore(json).expect_err("the format is unknown");
    assert!(matches!(refused, RestoreError::Format { found: 1, known: Snapshot::FORMAT }));
    let told = refused.to_string();
    assert!(told.contains("format 1") && told.contains("format 6"), "{told}");
}

#[test]
fn a_count_that_cannot_be_is_refused() {
    is_unreadable("\"used\":2", "\"used\":9007199254740992", "a count is out of bounds");
}

#[test]
fn a_limit_that_cannot_be_is_refused() {
    is_unreadable("\"limit\":100", "\"limit\":9007199254740992", "2^53");
}

#[test]
fn a_window_that_ends_where_none_ends_is_refused() {
    let [end, later] = ["2025-10-09T12:01:00Z", "2025-10-09T12:01:00.001Z"];
    is_unreadable(end, later, "a window ends at an impossible time");
}

#[test]
fn a_minute_that_ends_with_no_minute_of_the_clock_is_refused() {
    let [end, later] = ["2025-10-09T12:01:00Z", "2025-10-09T12:01:01Z"];
    is_unreadable(end, later, "a window ends at an impossible time");
}

#[test]
fn an_account_that_is_impossible_is_refused() {
    is_unreadable("\"account\":[2,", "\"account\":[9007199254740992,", "a count is out of bounds");
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let name = "n".repeat(257);
    is_unreadable("\"name\":\"spent\"", &format!("\"name\":{name:?}"), "a key name has 257 bytes");
}

#[test]
fn a_digest_that_is_none_is_refused() {
    let digest = String::from(secret_of("ci").digest());
    is_unreadable(&digest, &digest[1..], "64 hexadecimal digits");
}

#[test]
fn two_keys_of_one_name_are_refused() {
    let refused = try_restore(edited(|key| key["key"]["name"] = "same".into()));
    assert!(
        matches!(refused, Err(RestoreError::Inconsistent(KeysError::NameTaken(_)))),
        "{refused:?}"
    );
}

#[test]
fn two_keys_of_one_id_are_refused() {
    let refused = try_restore(edited(|key| key["key"]["id"] = "same".into()));
    assert!(
        matches!(refused, Err(RestoreError::Inconsistent(KeysError::IdTaken(_)))),
        "{refused:?}"
    );
}

#[test]
fn two_keys_of_one_access_key_are_refused() {
    let digest = String::from(secret_of("same").digest());
    let refused = try_restore(edited(|key| key["key"]["secret"]["digest"] = digest.clone().into()));
    assert!(
        matches!(refused, Err(RestoreError::Inconsistent(KeysError::AccessKeyTaken))),
        "{refused:?}"
    );
}

#[test]
fn two_keys_that_look_alike_are_refused() {
    let alike = |is_drawn: bool| {
        try_restore(edited(|key| {
            key["key"]["secret"]["masked"] = "abcd****wxyz".into();
            key["key"]["secret"]["is_drawn"] = is_drawn.into();
        }))
    };
    assert!(alike(false).is_ok(), "their callers brought them");
    let refused = alike(true).expect_err("two access keys that the engine drew look alike");
    let told = refused.to_string();
    assert!(told.starts_with("the snapshot is inconsistent"), "{told}");
}

/// Three keys at noon: one whose limits are used in part, one that has spent credits, and the admin.
fn store_in_use() -> (MemoryStore, KeyId) {
    let (store, _) = store_at(NOON);
    let global = named("ci").with_global(requests(Some(10), Some(100)));
    let key = create(&store, "ci", global.with_asset(asset("m1"), requests(None, Some(7))));
    admit(&store, &key, Some(&asset("m1")), 2);
    let budget = Credits::from_millionths(100).expect("within bounds");
    let spent =
        create(&store, "spent", named("spent").with_budget(budget).with_expiry(NOON.after(DAY)));
    let charge = Charge::request().with_credits(budget);
    assert!(store.check_and_consume(&spent, None, &charge).is_allowed());
    create_of_kind(&store, KeyKind::Admin, "root", KeyConfig::named("root").expect("a name"));
    (store, key)
}

fn json(store: &MemoryStore) -> Value {
    serde_json::to_value(store.snapshot()).expect("a snapshot is JSON")
}

/// The same keys in the order of their ids: a snapshot has them in any.
fn sorted(snapshot: Snapshot) -> Value {
    let mut json = serde_json::to_value(snapshot).expect("a snapshot is JSON");
    let keys = json["keys"].as_array_mut().expect("a list of keys");
    keys.sort_by_key(|key| key["key"]["id"].to_string());
    json
}

fn restore_at(now: Timestamp, json: &Value) -> MemoryStore {
    let snapshot: Snapshot =
        serde_json::from_value(json.clone()).expect("what was written is read");
    let builder = MemoryStore::builder().clock(ManualClock::at(now));
    builder.restore(snapshot).expect("the snapshot is whole")
}

fn try_restore(json: Value) -> Result<MemoryStore, RestoreError> {
    MemoryStore::restore(serde_json::from_value(json).expect("every key is readable"))
}

/// A snapshot in which each key was changed in the same way.
fn edited(edit: impl Fn(&mut Value)) -> Value {
    let mut json = json(&store_in_use().0);
    json["keys"].as_array_mut().expect("a list of keys").iter_mut().for_each(edit);
    json
}

/// A snapshot in which this text was replaced is not even read, and the error says why.
fn is_unreadable(text: &str, tampered: &str, why: &str) {
    let json = json(&store_in_use().0).to_string();
    assert!(json.contains(text), "{text} is not in {json}");
    let refused = serde_json::from_str::<Snapshot>(&json.replace(text, tampered));
    let refused = refused.expect_err("the snapshot was tampered with").to_string();
    assert!(refused.contains(why), "{refused}");
}

#[test]
fn a_version_that_cannot_be_counted_is_refused() {
    let (store, _clock) = store_at(NOON);
    create(&store, "ci", named("ci"));
    let json = serde_json::to_string(&store.snapshot()).expect("a snapshot is JSON");
    let tampered = json.replace("\"version\":1", "\"version\":18446744073709551615");
    assert_ne!(tampered, json);
    assert!(serde_json::from_str::<Snapshot>(&tampered).is_err());
}
