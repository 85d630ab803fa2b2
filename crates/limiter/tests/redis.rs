//! A limiter on Redis gives the answers of its store, and its futures are what services need.

use std::time::Duration;

use limiter::redis::{RedisError, RedisStore};
use limiter::{
    AssetId, Charge, DenialReason, KeyConfig, Limiter, Limits, ManualClock, NewKey, Timestamp,
};
use limiter_test_servers::{fresh_name, shared};

use crate::used;

/// The whole way of a key through a limiter on Redis.
#[tokio::test]
async fn a_limiter_on_redis_manages_keys_and_decides() {
    let limiter = fresh("redis-life").await;
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin =
        limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().access_key.unwrap();

    let gpt5: AssetId = "gpt-5".parse().unwrap();
    let limits = Limits::builder().requests_per_day(2).build().unwrap();
    let config = KeyConfig::named("ci").unwrap().with_asset(gpt5.clone(), limits);
    let created = limiter.keys(&admin).create(NewKey::member(config)).await.unwrap();
    let key = limiter.authenticate(&created.access_key.unwrap()).await.unwrap().unwrap();
    assert_eq!(key, created.record.id);

    let charge = Charge::request();
    assert!(limiter.peek(&key, &gpt5, &charge).await.unwrap().is_allowed());
    assert!(limiter.check_and_consume(&key, &gpt5, &charge).await.unwrap().is_allowed());
    let handle = limiter.handle(&key, &gpt5).await.unwrap().unwrap();
    assert!(handle.peek(&charge).await.unwrap().is_allowed());
    assert!(handle.check_and_consume(&charge).await.unwrap().is_allowed());
    let decision = handle.check_and_consume(&charge).await.unwrap();
    let denied = decision.denied().expect("the day's two requests are used");
    assert!(matches!(denied.reason(), DenialReason::RateLimited(_)));
    let usage = limiter.usage(&key).await.unwrap().unwrap();
    assert_eq!(used(&usage, "asset/day/requests"), 2);

    limiter.keys(&admin).delete(&key).await.unwrap();
    let decision = handle.check_and_consume(&charge).await.unwrap();
    assert_eq!(decision.denied().map(|denied| denied.reason()), Some(&DenialReason::KeyUnknown));
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_an_error_that_says_so() {
    let error = Limiter::redis("http://localhost").await.unwrap_err();
    assert!(matches!(error, RedisError::InvalidUrl { .. }), "{error:?}");
    let limiter = Limiter::redis(shared().url()).await.unwrap();
    let nobody = "nobody under the default prefix".parse().unwrap();
    let decision = limiter.peek(&nobody, None, &Charge::request()).await.unwrap();
    assert!(!decision.is_allowed());
}

/// A service keeps one such future for each request that it serves.
#[tokio::test]
async fn futures_are_small_and_may_go_to_other_threads() {
    fn size<F: Future + Send>(_: &F) -> usize {
        size_of::<F>()
    }
    let limiter = fresh("redis-sizes").await;
    let (key, charge) = ("ci".parse().unwrap(), Charge::request());
    let check = size(&limiter.check_and_consume(&key, None, &charge));
    let connect = size(&Limiter::redis("redis://localhost"));
    println!("check_and_consume: {check} bytes, connect: {connect} bytes");
    assert!(check <= LARGEST, "check_and_consume: {check} bytes");
    assert!(connect <= LARGEST, "connect: {connect} bytes");
}

async fn fresh(name: &str) -> Limiter {
    let store = RedisStore::builder(shared().url())
        .key_prefix(fresh_name(name))
        .command_deadline(PATIENCE)
        .clock(ManualClock::at(NOON));
    Limiter::from(store.connect().await.unwrap())
}

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
/// The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes: as much as a read buffer of the request that the future decides.
const LARGEST: usize = 1_024;
