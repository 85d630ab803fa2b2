//! The example `gateway`, called by the official SDKs of OpenAI and Anthropic as they come from PyPI, in memory and on Redis.

#[path = "../gateway/gateway.rs"]
mod gateway;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as PathOf, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Json;
use axum::routing::{get, post};
use limiter::redis::RedisStore;
use limiter::{AccessKey, Credits, KeyConfig, Limiter, Limits, ManualClock, NewKey, Usage};
use limiter_test_servers::{fresh_name, provider, python, shared};
use serde_json::{Map, json};
use tokio::net::TcpListener;

#[tokio::test]
async fn the_unmodified_openai_sdk_makes_every_call_in_memory() {
    make_every_call("openai_calls.py", |clock| async move { Limiter::in_memory_on(&clock) }).await;
}

#[tokio::test]
async fn the_unmodified_openai_sdk_makes_every_call_on_redis() {
    make_every_call("openai_calls.py", on_redis).await;
}

#[tokio::test]
async fn the_unmodified_anthropic_sdk_makes_every_call_in_memory() {
    make_every_call("anthropic_calls.py", |clock| async move { Limiter::in_memory_on(&clock) })
        .await;
}

#[tokio::test]
async fn the_unmodified_anthropic_sdk_makes_every_call_on_redis() {
    make_every_call("anthropic_calls.py", on_redis).await;
}

async fn on_redis(clock: ManualClock) -> Limiter {
    let store = RedisStore::builder(shared().url()).key_prefix(fresh_name("sdks"));
    store.clock(clock).connect().await.unwrap().into()
}

/// Makes the calls of a script to a provider behind the gateway. The clock advances only when a client sleeps.
async fn make_every_call<F: Future<Output = Limiter>>(
    script: &'static str,
    limiter: impl FnOnce(ManualClock) -> F,
) {
    let clock = ManualClock::at("2026-01-01T12:00:29Z".parse().unwrap());
    let limiter = limiter(clock.clone()).await;
    let keys = json!(keys(&limiter).await).to_string();
    let router = gateway::gateway(limiter.clone(), provider::start().leak())
        .merge(Router::new().route("/v1/usage", get(usage)).with_state(limiter))
        .merge(Router::new().route("/clock/{seconds}", post(advance)).with_state(clock));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });

    let printed = tokio::task::spawn_blocking(move || {
        let scripts =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/limiter-server/tests/sdk");
        let clock = format!("{url}/clock");
        let variables =
            [("BASE_URL", url.as_str()), ("MODEL", "gpt-5"), ("KEYS", &keys), ("CLOCK", &clock)];
        python::run(&scripts.join(script), variables, &std::env::temp_dir())
    });
    println!("{}", printed.await.unwrap().unwrap_or_else(|output| panic!("{output}")));
}

/// The access keys that `trial.py` describes.
async fn keys(limiter: &Limiter) -> Map<String, serde_json::Value> {
    let admin = NewKey::admin(KeyConfig::named("ops").unwrap()).without_access_key();
    let admin = limiter.bootstrap("acme".parse().unwrap(), admin).await.unwrap().record.id;
    let keys = limiter.keys_as(&admin);
    let mut created = Map::new();
    let limits = Limits::builder;
    for (name, limits) in [
        ("ample", limits().requests_per_minute(1_000).tokens_per_day(1_000_000)),
        ("minute", limits().requests_per_minute(1)),
        ("day", limits().requests_per_day(1)),
        ("small", limits().tokens_per_day(200)),
        ("poor", limits()),
        ("cut1", limits().tokens_per_day(20)),
        ("cut2", limits().tokens_per_day(20)),
        ("cut3", limits().tokens_per_day(20)),
    ] {
        let mut config = KeyConfig::named(name).unwrap().with_global(limits.build().unwrap());
        if name == "poor" {
            config = config.with_budget(Credits::ZERO);
        }
        let key = keys.create(NewKey::member(config)).await.unwrap();
        created.insert(name.to_owned(), json!(key.access_key.unwrap().expose()));
    }
    created
}

/// Returns the usage of the calling key.
async fn usage(
    State(limiter): State<Limiter>,
    headers: HeaderMap,
) -> Result<Json<Usage>, StatusCode> {
    let value = headers["authorization"].to_str().unwrap();
    let access_key = value.strip_prefix("Bearer ").unwrap().parse::<AccessKey>().unwrap();
    let key = limiter.authenticate(&access_key).await.unwrap().ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Json(limiter.usage(&key).await.unwrap().unwrap()))
}

async fn advance(State(clock): State<ManualClock>, PathOf(seconds): PathOf<u64>) {
    clock.advance(Duration::from_secs(seconds));
}
