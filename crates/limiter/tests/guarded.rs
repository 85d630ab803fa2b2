//! A limiter with a failure policy, on a real server that dies.

use std::num::NonZeroU32;
use std::time::Duration;

use limiter::policy::{FailurePolicy, GuardedStoreBuilder, Share};
use limiter::redis::RedisStore;
use limiter::{
    Charge, Credits, KeyConfig, KeyId, Limiter, Limits, NewKey, Reserved, StoreError, Totals,
};
use limiter_test_servers::{RedisServer, until_async};

use crate::used;

#[tokio::test]
async fn a_limiter_that_fails_open_goes_on_when_its_server_dies_and_says_so() {
    let server = RedisServer::run();
    let store = RedisStore::connect(server.url()).await.unwrap();
    let limiter = Limiter::guarded(store, FailurePolicy::FailOpen);
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let ci = NewKey::member(KeyConfig::named("ci").unwrap());
    let ci = limiter.keys_as(&admin).create(ci).await.unwrap();
    let (key, access_key) = (ci.record.id, ci.access_key.unwrap());
    assert_eq!(limiter.authenticate(&access_key).await.unwrap(), Some(key.clone()));
    let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
    assert!(decision.is_allowed() && !decision.is_degraded());
    server.kill();

    assert_eq!(limiter.authenticate(&access_key).await.unwrap(), Some(key.clone()));
    let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
    assert!(decision.is_allowed() && decision.is_degraded());
    let mut call = match limiter.reserve(&key, None, &Charge::request()).await.unwrap() {
        Reserved::Allowed(call) => call,
        Reserved::Denied(denied) => panic!("{denied}"),
    };
    assert!(call.decision().degraded());
    call.settle(&Totals::unchanged().with_output_tokens(87).unwrap()).await.unwrap();
    let another = NewKey::member(KeyConfig::named("another").unwrap());
    let created = limiter.keys_as(&admin).create(another).await;
    assert!(created.is_err(), "keys are not managed without the store");
}

#[tokio::test]
async fn a_limiter_is_flushed_before_its_process_ends() {
    let server = RedisServer::durable();
    let share = Share::one_in(NonZeroU32::MIN);
    let store = GuardedStoreBuilder::new(FailurePolicy::LocalShare { share })
        .guard(RedisStore::connect(server.url()).await.unwrap());
    let limiter = Limiter::from(store.clone());
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let ci = KeyConfig::named("ci").unwrap().with_budget(Credits::whole(9).unwrap());
    let key = limiter.keys_as(&admin).create(NewKey::member(ci)).await.unwrap().record.id;
    let one_credit = Charge::request().with_credits(Credits::whole(1).unwrap());
    assert!(limiter.check_and_consume(&key, None, &one_credit).await.unwrap().is_allowed());
    until_async("the key is known", async || store.knows(&key)).await;
    drop(store);
    assert!(limiter.flush(Duration::ZERO).await.is_nothing());
    server.kill();
    while !limiter.peek(&key, None, &one_credit).await.unwrap().is_degraded() {}
    assert!(limiter.check_and_consume(&key, None, &one_credit).await.unwrap().is_degraded());
    let unpaid = limiter.flush(Duration::from_millis(50)).await;
    assert_eq!((unpaid.requests, unpaid.credits), (1, Credits::whole(1).unwrap()));
    server.start();
    assert!(limiter.flush(Duration::from_secs(30)).await.is_nothing());
    let usage = limiter.usage(&key).await.unwrap().unwrap();
    assert_eq!(usage.credits.spent, Credits::whole(2).unwrap());
}

#[tokio::test]
async fn a_limiter_that_fails_closed_starts_without_its_server_and_allows_nothing() {
    let server = RedisServer::run();
    server.kill();
    let url = server.url();
    let store = GuardedStoreBuilder::new(FailurePolicy::FailClosed)
        .connect(move || RedisStore::connect(url.clone()))
        .await;
    let limiter = Limiter::from(store);
    let started = limiter.check_and_consume(&"ci".parse().unwrap(), None, &Charge::request()).await;
    assert!(matches!(started, Err(StoreError::Unavailable(_))), "{started:?}");
}

/// The task that pays the debts of an outage calls `on_threshold`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_that_panics_keeps_no_debt_of_an_outage_from_being_paid() {
    let server = RedisServer::durable();
    let share = Share::one_in(NonZeroU32::MIN);
    let store = GuardedStoreBuilder::new(FailurePolicy::LocalShare { share })
        .probe_every(Duration::from_millis(100))
        .guard(RedisStore::connect(server.url()).await.unwrap());
    let limiter = Limiter::builder(store.clone()).on_threshold(|_| panic!("no")).build();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let mut keys = Vec::new();
    for number in 0..20 {
        let limits = Limits::builder().requests_per_day(10).build().unwrap();
        let config = KeyConfig::named(format!("key {number}")).unwrap().with_global(limits);
        let key = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id;
        call(&limiter, &key).await;
        keys.push(key);
    }
    until_async("all keys are known", async || keys.iter().all(|key| store.knows(key))).await;
    server.kill();
    for key in &keys {
        for _ in 0..8 {
            call(&limiter, key).await;
        }
    }
    server.start();
    until_async("all is paid", async || store.is_well()).await;
    for key in &keys {
        let usage = limiter.usage(key).await.unwrap().unwrap();
        assert_eq!(used(&usage, "global/day/requests"), 9, "{key}");
    }
}

async fn call(limiter: &Limiter, key: &KeyId) {
    let decision = limiter.check_and_consume(key, None, &Charge::request()).await.unwrap();
    assert!(decision.is_allowed(), "{decision:?}");
}
