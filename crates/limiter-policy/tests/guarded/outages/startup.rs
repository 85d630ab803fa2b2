//! A process that starts while its store is away.

use std::time::Duration;

use limiter_core::{
    AccessKey, KeyConfig, KeyKind, KeyRotation, NewRecord, Store, StoreError, StoredSecret,
    Thresholds, WorkspaceId,
};
use limiter_policy::{BreakerState, FailurePolicy};
use limiter_test_servers::{RedisServer, until_async};

use super::world::{connect, create, one_credit, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_without_its_store_follows_the_policy_and_then_finds_the_store() {
    for policy in [FailurePolicy::FailClosed, FailurePolicy::FailOpen] {
        let server = RedisServer::run();
        server.kill();
        let url = server.url();
        let store = settings(policy).connect(move || connect(url.clone())).await;
        // It is half open while a probe is under way.
        assert_ne!(store.breaker(), BreakerState::Closed);
        let key = "busy".parse().unwrap();
        let started = store.check_and_consume(&key, None, &one_credit()).await;
        if policy == FailurePolicy::FailClosed {
            assert!(matches!(&started, Err(StoreError::Unavailable(_))), "{started:?}");
        } else {
            assert!(started.is_ok_and(|decision| decision.is_allowed() && decision.is_degraded()));
        }

        server.start();
        until_async("the store is there", async || store.breaker() == BreakerState::Closed).await;
        create(&store, KeyConfig::named("busy").unwrap()).await;
        let decision = store.check_and_consume(&key, None, &one_credit()).await.unwrap();
        assert!(decision.is_allowed() && !decision.is_degraded());
    }
}

#[tokio::test]
async fn a_store_that_is_there_is_asked_from_the_start() {
    let server = RedisServer::run();
    let url = server.url();
    let store = settings(FailurePolicy::FailOpen).connect(move || connect(url.clone())).await;
    assert_eq!(store.breaker(), BreakerState::Closed);
    let key = create(&store, KeyConfig::named("busy").unwrap()).await;
    let decision = store.check_and_consume(&key, None, &one_credit()).await.unwrap();
    assert!(!decision.is_degraded());
    server.kill();
    let created = store.read(&key).await;
    assert!(created.is_err(), "what reads and changes keys is an error in an outage: {created:?}");
}

/// It was replaced because it had leaked, and would have worked in the next outage.
#[tokio::test]
async fn an_access_key_that_was_replaced_is_not_found_in_an_outage() {
    let [old, new] = ["old", "new"]
        .map(|name| AccessKey::new(format!("the-{name}-access-key-of-somebody")).unwrap());
    let server = RedisServer::run();
    let store = settings(FailurePolicy::FailOpen).guard(connect(server.url()).await.unwrap());
    let workspace: WorkspaceId = "home".parse().unwrap();
    let key = NewRecord {
        id: "ci".parse().unwrap(),
        workspace: workspace.clone(),
        kind: KeyKind::Member,
        config: KeyConfig::named("ci").unwrap(),
        thresholds: Thresholds::DEFAULT,
        secret: Some(StoredSecret::from(&old)),
        bootstraps: false,
    };
    let id = store.create(key).await.unwrap().id;
    assert_eq!(store.resolve(&old.digest()).await.unwrap(), Some(id.clone()));
    let secret = StoredSecret::from(&new);
    let rotation = KeyRotation { id: id.clone(), secret, grace: Duration::ZERO };
    store.rotate(&workspace, &rotation).await.unwrap();
    assert_eq!(store.resolve(&new.digest()).await.unwrap(), Some(id.clone()));
    server.freeze();
    let found = [store.resolve(&old.digest()).await, store.resolve(&new.digest()).await];
    server.thaw();
    assert!(matches!(&found, [Err(_), Ok(Some(found))] if *found == id), "{found:?}");
}

#[tokio::test]
async fn an_access_key_that_was_found_before_is_found_in_an_outage_unless_the_limiter_fails_closed()
{
    let secret = AccessKey::new("an-access-key-of-more-than-32-characters").unwrap();
    let server = RedisServer::run();
    for (policy, workspace) in
        [(FailurePolicy::FailClosed, "one"), (FailurePolicy::FailOpen, "two")]
    {
        let secret = AccessKey::new(format!("{}-{workspace}", secret.expose())).unwrap();
        let store = settings(policy).guard(connect(server.url()).await.unwrap());
        let key = NewRecord {
            id: workspace.parse().unwrap(),
            workspace: workspace.parse().unwrap(),
            kind: KeyKind::Member,
            config: KeyConfig::named("ci").unwrap(),
            thresholds: Thresholds::DEFAULT,
            secret: Some(StoredSecret::from(&secret)),
            bootstraps: false,
        };
        let id = store.create(key).await.unwrap().id;
        assert_eq!(store.resolve(&secret.digest()).await.unwrap(), Some(id.clone()));
        server.freeze();
        let found = store.resolve(&secret.digest()).await;
        server.thaw();
        match policy {
            FailurePolicy::FailClosed => assert!(found.is_err(), "{found:?}"),
            _ => assert_eq!(found.unwrap(), Some(id)),
        }
    }
}
