//! Many keys at once: each has a result of its own, as if they were created one by one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::engine::Engine;
use limiter_core::{
    BoxError, Charge, CreatedKey, InvalidValue, KeyConfig, KeyKind, Keys, KeysError, ManualClock,
    NewKey, NewRecord, Search, Store,
};

use super::StoreUnderTest;
use super::world::{
    NOON, World, access_key, assert_refused, asset, key_id, named, requests_per_day, workspace,
};

/// More than a store is asked for at a time: results come in the order of the keys, limits are in force at once, and each
/// access key belongs to its key.
pub async fn many_keys_are_created_in_order(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let count = many(&store);
    let new = |number: usize| {
        let config = named(&format!("key {number}")).with_global(requests_per_day(number as u64));
        NewKey::member(config)
    };
    let created = world.keys().create_many((0..count).map(new).collect()).await;
    let created: Vec<_> = created.expect("an admin creates keys").into_iter().collect();
    assert_eq!(created.len(), count);
    let mut ids = BTreeSet::new();
    for (number, created) in created.iter().enumerate() {
        let CreatedKey { record, access_key, .. } = created.as_ref().expect("the name is free");
        assert_eq!(record.name.as_str(), format!("key {number}"));
        assert_eq!(record.global.configured, requests_per_day(number as u64));
        let access_key = access_key.as_ref().expect("it was drawn");
        assert_eq!(record.access_key, Some(access_key.masked()));
        let found = world.engine.authenticate(access_key).await.expect("the store answers");
        assert_eq!(found.as_ref(), Some(&record.id));
        ids.insert(record.id.clone());
        // 0 allows nothing, from the first call on.
        let allowed = world.peek(&record.id, None, Charge::request()).await.is_allowed();
        assert_eq!(allowed, number > 0, "{number}");
    }
    assert_eq!(ids.len(), count);
    assert_eq!(names(&world).await.len(), count + 1);
}

/// Names, ids, access keys and configurations that cannot be: the others are created, and each refusal is that of a key
/// that is created alone.
pub async fn one_that_is_refused_does_not_stop_the_others(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let taken = NewKey::member(named("taken")).with_id(key_id("taken"));
    world.create(taken.with_access_key(access_key("abcd-the-first-one-wxyz"))).await;
    let created = world
        .keys()
        .create_many(vec![
            NewKey::member(named("a")),
            NewKey::member(named("taken")),
            NewKey::member(named("taken")).with_id(key_id("taken")),
            NewKey::admin(named("b")).without_access_key(),
            NewKey::member(named("c")).with_access_key(access_key("abcd-the-first-one-wxyz")),
            NewKey::member(named("d")).with_access_key(access_key("abcd-of-same-ends-wxyz")),
            NewKey::member(with_too_many_assets("e")),
            NewKey::member(named("f")).with_id(key_id("chosen")),
        ])
        .await
        .expect("an admin creates keys");
    let outcomes: Vec<_> = created.iter().map(outcome).collect();
    let expected = ["a", "name", "id", "b", "access key", "access key", "invalid", "f"];
    assert_eq!(outcomes, expected);
    assert_eq!(names(&world).await, ["a", "b", "f", "first admin", "taken"]);
    let kind = created[3].as_ref().map(|created| created.record.kind);
    assert_eq!(kind.ok(), Some(KeyKind::Admin));
    assert_eq!(world.record(&key_id("chosen")).await.name.as_str(), "f");
}

/// A name, id or access key that two keys of a batch ask for goes to the first, unless that key is refused.
pub async fn what_a_batch_takes_is_taken_within_it(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let secret = || access_key("abcd-brought-with-two-wxyz");
    let created = world
        .keys()
        .create_many(vec![
            NewKey::member(named("a")).with_id(key_id("1")),
            NewKey::member(named("a")).with_id(key_id("2")),
            NewKey::member(named("b")).with_id(key_id("1")),
            NewKey::member(named("b")).with_id(key_id("2")).with_access_key(secret()),
            NewKey::member(named("c")).with_id(key_id("3")).with_access_key(secret()),
            NewKey::member(named("c")).with_id(key_id("3")),
        ])
        .await
        .expect("an admin creates keys");
    let outcomes: Vec<_> = created.iter().map(outcome).collect();
    assert_eq!(outcomes, ["a", "name", "id", "b", "access key", "c"]);
    assert_eq!(names(&world).await, ["a", "b", "c", "first admin"]);
}

/// A member, a stranger and an expired admin create nothing, and an admin creates in its own workspace alone.
pub async fn only_an_admin_creates_many_keys(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("member")).await;
    let expired = world.another_admin(named("expired").with_expiry(NOON)).await;
    let new = || vec![NewKey::member(named("a")), NewKey::member(named("b"))];
    let refused = world.engine.keys_as(&member).create_many(new()).await;
    assert_refused!(refused, KeysError::Forbidden);
    let refused = world.engine.keys_as(&expired).create_many(new()).await;
    assert_refused!(refused, KeysError::ExpiredCaller);
    let refused = world.engine.keys_as(&key_id("nobody")).create_many(new()).await;
    assert_refused!(refused, KeysError::UnknownCaller);
    assert_eq!(names(&world).await, ["expired", "first admin", "member"]);
    let elsewhere = world.admin_of("elsewhere").await;
    let created = world.engine.keys_as(&elsewhere).create_many(new()).await;
    for created in created.expect("an admin creates keys") {
        assert_eq!(created.expect("the name is free").record.workspace, workspace("elsewhere"));
    }
    assert_eq!(names(&world).await, ["expired", "first admin", "member"]);
}

/// One key more than a call takes is an error, and nothing is created. No key at all is none.
pub async fn a_call_creates_a_bounded_number_of_keys(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let max = Keys::MAX_CREATED_AT_ONCE;
    let keys = (0..=max).map(|number| NewKey::member(named(&format!("{number}"))));
    let refused = world.keys().create_many(keys.collect()).await;
    assert_refused!(
        refused,
        KeysError::Invalid(InvalidValue::TooManyKeys { count, .. }) if count == max + 1
    );
    assert!(world.keys().create_many(Vec::new()).await.expect("an admin creates keys").is_empty());
    assert_eq!(names(&world).await, ["first admin"]);
}

/// A record that must be the first of its workspace is refused among others.
pub async fn a_batch_bootstraps_no_second_time(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let record = |name: &str, bootstraps| NewRecord {
        id: key_id(name),
        workspace: workspace("home"),
        kind: KeyKind::Admin,
        config: named(name),
        secret: None,
        bootstraps,
    };
    let records = vec![record("a", false), record("b", true), record("c", false)];
    let created = world.engine.store().create_many(records).await.expect("the store answers");
    assert!(
        matches!(created.as_slice(), [Ok(_), Err(KeysError::AlreadyBootstrapped), Ok(_)]),
        "{created:?}"
    );
    assert_eq!(names(&world).await, ["a", "c", "first admin"]);
}

/// Tasks create keys with the same names at once. Each name is given once, and a batch that loses a name still gets its others.
pub async fn batches_that_race_give_each_name_once(store: impl StoreUnderTest) {
    let world = Arc::new(World::at_noon(&store).await);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let shared = (0..NAMES).map(|number| format!("shared {number}"));
                let own = (0..NAMES).map(|number| format!("of {task} {number}"));
                let keys = shared.chain(own).map(|name| NewKey::member(named(&name)));
                world.keys().create_many(keys.collect()).await.expect("an admin creates keys")
            })
        })
        .collect();
    let mut shared = 0;
    for task in tasks {
        for (place, created) in task.await.expect("no panic").iter().enumerate() {
            match created {
                Ok(_) if place < NAMES => shared += 1,
                Ok(_) => {}
                Err(KeysError::NameTaken(_)) if place < NAMES => {}
                Err(error) => panic!("{place}: {error:?}"),
            }
        }
    }
    assert_eq!(shared, NAMES);
    assert_eq!(names(&world).await.len(), 1 + NAMES + TASKS * NAMES);
}

/// A generated access key with the ends of another one of the batch is made again.
pub async fn generated_keys_that_collide_within_a_batch_are_made_again(store: impl StoreUnderTest) {
    let store = store.fresh(ManualClock::at(NOON)).await;
    // Each buffer is filled with the next byte, and then with the last for ever.
    let script = Mutex::new(vec![1, 1, 2]);
    let engine = Engine::new(store, move |bytes: &mut [u8]| {
        let mut script = script.lock().map_err(|_| BoxError::from("a test panicked"))?;
        bytes.fill(if script.len() > 1 { script.remove(0) } else { script[0] });
        Ok(())
    });
    let admin = NewKey::admin(named("admin")).with_id(key_id("admin")).without_access_key();
    engine.bootstrap(workspace("home"), admin).await.expect("an empty workspace");
    let new = |name: &str| NewKey::member(named(name)).with_id(key_id(name));
    let created = engine.keys_as(&key_id("admin")).create_many(vec![new("a"), new("b")]).await;
    let access_keys: Vec<_> = created
        .expect("an admin creates keys")
        .into_iter()
        .map(|created| created.expect("the name is free").access_key.expect("it was drawn"))
        .collect();
    assert_eq!(
        access_keys.iter().map(|key| key.expose()).collect::<Vec<_>>(),
        ["1".repeat(36), "2".repeat(36)]
    );
}

fn outcome(created: &Result<CreatedKey, KeysError>) -> &str {
    match created {
        Ok(created) => created.record.name.as_str(),
        Err(KeysError::NameTaken(_)) => "name",
        Err(KeysError::IdTaken(_)) => "id",
        Err(KeysError::AccessKeyTaken) => "access key",
        Err(KeysError::Invalid(_)) => "invalid",
        Err(error) => panic!("{error:?}"),
    }
}

fn with_too_many_assets(name: &str) -> KeyConfig {
    let assets = (0..=KeyConfig::MAX_ASSETS).map(|number| asset(&format!("asset {number}")));
    assets.fold(named(name), |config, asset| config.with_asset(asset, requests_per_day(1)))
}

async fn names<S: Store>(world: &World<S>) -> Vec<String> {
    let page = world.keys().search(&Search::all().page_size(1_000)).await;
    let page = page.expect("an admin lists keys");
    page.keys.iter().map(|key| key.name.to_string()).collect()
}

/// More than a store is asked for at a time, which is 100; fewer where a store is slow.
fn many<T: StoreUnderTest>(_: &T) -> usize {
    if T::SLOWNESS >= 100 { 120 } else { 250 }
}

const TASKS: usize = 4;
const NAMES: usize = 30;
