//! The layer over limits that are on Redis, and over a Redis that cannot answer. Reservations there are among `settling`.

use http::StatusCode;
use limiter::AccessKey;
use limiter_test_servers::{Log, Proxy, RedisServer, shared};
use limiter_tower::Dialect;
use tokio::task::JoinSet;
use tracing::Level;

use crate::world::{World, bearer, hello, named, requests_per_minute};

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_too_exactly_the_limit_is_admitted() {
    let world = World::on_redis(shared().url()).await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(20))).await;
    let authorization = bearer(&ci.access_key);
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let (service, authorization) = (service.clone(), authorization.clone());
        calls.spawn(
            async move { service.send("/", &[("authorization", &authorization)]).await.status },
        );
    }
    let statuses = calls.join_all().await;
    let admitted = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    let denied = statuses.iter().filter(|status| status.as_u16() == 429).count();
    assert_eq!((admitted, denied), (20, 44));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_allows_nothing() {
    let server = RedisServer::run();
    let world = World::on_redis(&server.url()).await;
    let layer = world.layer().dialects([Dialect::Ietf, Dialect::OpenAi]);
    let service = hello(layer.build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(20))).await;
    assert_eq!(service.call(&ci).await.status, 200);

    server.kill();
    // The first call may still be sent on the old connection; then its outcome is unknown.
    assert_eq!(service.call(&ci).await.status, 503);
    let answer = service.call(&ci).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("ratelimit"), None);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("x-should-retry"), None);
    let problem = answer.problem();
    assert_eq!(problem["reason"], "unavailable");
    let detail = problem["detail"].as_str().unwrap();
    assert!(!detail.contains("127.0.0.1"), "the cause is for the log: {detail}");

    // Refused before the store is asked.
    let long = "x".repeat(AccessKey::MAX_LENGTH + 1);
    assert_eq!(service.send("/", &[("x-api-key", &long)]).await.status, 401);
}

/// Runs on one thread, so that the log of the test has all lines.
#[tokio::test(flavor = "current_thread")]
async fn a_store_that_is_gone_is_warned_of_once_and_not_with_each_call() {
    let log = Log::listen(Level::TRACE);
    let server = RedisServer::run();
    let world = World::on_redis(&server.url()).await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(20))).await;
    server.kill();
    for _ in 0..50 {
        assert_eq!(service.call(&ci).await.status, 503);
    }
    let text = log.text();
    assert_eq!(text.matches("could not be decided").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_is_lost_is_refused_without_a_retry_time() {
    let server = RedisServer::run();
    let proxy = Proxy::to(&server.address());
    let world = World::on_redis(&proxy.url()).await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(20))).await;
    assert_eq!(service.call(&ci).await.status, 200);

    proxy.lose_next_reply();
    let answer = service.call(&ci).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (StatusCode::SERVICE_UNAVAILABLE, None)
    );
    // An SDK would retry a 503 automatically, and be charged twice.
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let detail = answer.problem()["detail"].to_string();
    assert!(detail.contains("may have been charged"), "{detail}");
    proxy.forward();
    assert_eq!(world.requests_used(&ci).await, 2);
}
