//! The Redis store on a master that Sentinels name: what a service does with it, before and after a failover.
//!
//! The whole suite runs on one server; the scripts are the same here.

use std::sync::Arc;

use limiter_conformance::Managed;
use limiter_conformance::fixtures::{MINUTE, NOON, named, requests_per_minute};
use limiter_core::{BoxError, Charge, KeyId, KeysError, ManualClock, NewKey, Search};
use limiter_redis::RedisStore;
use limiter_test_servers::{RedisSentinel, RedisServer, until_async};

use crate::common;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_managed_and_calls_are_decided() {
    let servers = RedisSentinel::run();
    let clock = ManualClock::at(NOON);
    let store = common::empty(&servers.url()).clock(clock.clone()).connect().await.unwrap();
    store.health().await.unwrap();
    let store = managed(store);
    let admin = NewKey::admin(named("admin"));
    let admin = store.bootstrap("home".parse().unwrap(), admin).await.unwrap().record.id;

    life_of_a_key(&store, &clock, &admin, "before").await;
    let old = servers.master();
    servers.failover();
    assert_ne!(servers.master().port(), old.port());
    until_calls_go_to(servers.master(), &store, &admin).await;
    life_of_a_key(&store, &clock, &admin, "after").await;
}

/// For a second after a failover, calls still go to the old master, and what they write there is lost.
async fn until_calls_go_to(master: &RedisServer, store: &Managed, admin: &KeyId) {
    let scripts = || master.info("cmdstat_evalsha");
    let before = scripts();
    until_async("the new master is asked", async || {
        store.keys_as(admin).get(admin).await.unwrap();
        scripts() != before
    })
    .await;
}

async fn life_of_a_key(store: &Managed, clock: &ManualClock, admin: &KeyId, name: &str) {
    let keys = store.keys_as(admin);
    let config = named(name).with_global(requests_per_minute(2));
    let created = keys.create(NewKey::member(config)).await.unwrap();
    let (key, access_key) = (created.record.id, created.access_key.unwrap());
    assert_eq!(store.authenticate(&access_key).await.unwrap(), Some(key.clone()));
    for (call, allowed) in [true, true, false].into_iter().enumerate() {
        let decision = store.check_and_consume(&key, None, &Charge::request()).await.unwrap();
        assert_eq!(decision.is_allowed(), allowed, "{name}: call {call}: {decision:?}");
    }
    assert_eq!(keys.usage(&key).await.unwrap().scopes[0].rules[0].used, 2);

    let config = named(&format!("{name}, renamed")).with_global(requests_per_minute(3));
    let updated = keys.update(&key, 1, &config).await.unwrap().record;
    assert_eq!((updated.config.name.as_str(), updated.version), (config.name.as_str(), 2));
    let found = keys.search(&Search::all().name_contains("renamed")).await.unwrap();
    assert_eq!(found.keys.iter().map(|key| &key.id).collect::<Vec<_>>(), [&key]);
    clock.advance(MINUTE);
    for (call, allowed) in [true, true, true, false].into_iter().enumerate() {
        let decision = store.check_and_consume(&key, None, &Charge::request()).await.unwrap();
        assert_eq!(decision.is_allowed(), allowed, "{name}: call {call}: {decision:?}");
    }

    keys.delete(&key).await.unwrap();
    assert_eq!(store.authenticate(&access_key).await.unwrap(), None);
    let decision = store.check_and_consume(&key, None, &Charge::request()).await.unwrap();
    assert!(!decision.is_allowed());
    let gone = keys.get(&key).await;
    assert!(matches!(gone, Err(KeysError::NotFound(_))), "{gone:?}");
}

fn managed(store: RedisStore) -> Managed {
    Managed::new(Arc::new(store), |bytes| getrandom::fill(bytes).map_err(BoxError::from))
}
