//! A limiter on a store of the application's own.

use limiter::memory::MemoryStore;
use limiter::store::{CallError, Store};
use limiter::{
    AccessKey, Charge, Decision, DenialReason, KeyConfig, Limiter, Limits, NewKey, StoreError,
};
use limiter_conformance::{Around, Called, Interpose};

use crate::used;

/// A store that passes each call on to another one.
#[derive(Debug)]
pub(crate) struct Custom(pub(crate) MemoryStore);

impl Interpose for Custom {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    fn call<T: Send, E: CallError>(
        &self,
        _: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> impl Future<Output = Result<T, E>> + Send {
        call
    }
}

/// The whole way of a key through a limiter on a store that is not known to be in memory.
#[tokio::test]
async fn a_limiter_on_a_custom_store_manages_keys_and_decides() {
    let limiter = Limiter::from(Around(Custom(MemoryStore::new())));
    assert!(!limiter.is_in_memory());
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin =
        limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().access_key.unwrap();

    let limits = Limits::builder().requests_per_day(2).build().unwrap();
    let config = KeyConfig::named("ci").unwrap().with_global(limits);
    let created = limiter.keys(&admin).create(NewKey::member(config)).await.unwrap();
    let access_key: AccessKey = created.access_key.unwrap();
    let key = limiter.authenticate(&access_key).await.unwrap().unwrap();
    assert_eq!(key, created.record.id);

    let charge = Charge::request();
    assert!(limiter.peek(&key, None, &charge).await.unwrap().is_allowed());
    assert!(limiter.check_and_consume(&key, None, &charge).await.unwrap().is_allowed());
    let handle = limiter.handle(&key, None).await.unwrap().unwrap();
    assert!(handle.peek(&charge).await.unwrap().is_allowed());
    assert!(handle.check_and_consume(&charge).await.unwrap().is_allowed());
    let now = limiter.check_and_consume(&key, None, &charge).now().unwrap_err();
    assert!(matches!(now, StoreError::Unavailable(_)), "{now}");
    let denied = match handle.check_and_consume(&charge).await.unwrap() {
        Decision::Denied(denied) => denied,
        Decision::Allowed(allowed) => panic!("the day's two requests are used, but {allowed:?}"),
    };
    assert!(matches!(denied.reason(), DenialReason::RateLimited(_)));
    let usage = limiter.keys(&access_key).own_usage().await.unwrap();
    assert_eq!(used(&usage, "global/day/requests"), 2);
}
