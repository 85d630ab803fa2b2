//! Calls that a gateway refuses, in the format of the called API.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use limiter::{NewKey, Price, PriceTable};
use limiter_tower::{GatewayLayerBuilder, RateLimitLayer, StatusMap};
use serde_json::{Value, json};

use crate::gateway_world::{MODEL, Provider, member, member_with, post, used};
use crate::world::{World, at, named, requests_per_minute, tokens_per_minute};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const GEMINI: &str = "/v1beta/models/m-1:generateContent";

fn request() -> String {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    json!({"model": MODEL, "max_tokens": 50, "messages": messages}).to_string()
}

fn provider(layer: GatewayLayerBuilder) -> Provider {
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 2});
    Provider::of_json(json!({"choices": [], "usage": usage})).behind(layer.build())
}

#[tokio::test]
async fn a_denial_has_the_status_body_and_headers_of_the_api() {
    for world in World::on_each_store().await {
        let dear = Price::per_million_tokens("1000".parse().unwrap(), "1000".parse().unwrap());
        let prices = || PriceTable::new([("*", dear)]).unwrap();
        let gateway = provider(RateLimitLayer::for_openai(world.limiter.clone()).prices(prices()));
        let one = requests_per_minute(0);
        let limited = world.member(named("limited").with_global(one)).await;
        let small = world.member(named("small").with_global(tokens_per_minute(20))).await;
        let poor = world.member(named("poor").with_budget("0.001".parse().unwrap())).await;
        let expiry = at("2025-12-31T00:00:00Z");
        let expired = world.member(named("expired").with_expiry(expiry)).await;
        let admin = world.create(NewKey::admin(named("admin"))).await;
        let quota = "insufficient_quota";
        for (member, open_ai, anthropic, gemini) in [
            (
                &limited,
                (429, "requests", "rate_limit_exceeded"),
                (429, "rate_limit_error"),
                "RESOURCE_EXHAUSTED",
            ),
            (
                &small,
                (429, "tokens", "rate_limit_exceeded"),
                (429, "rate_limit_error"),
                "RESOURCE_EXHAUSTED",
            ),
            (&poor, (429, quota, quota), (402, "billing_error"), "RESOURCE_EXHAUSTED"),
            (
                &expired,
                (401, "invalid_request_error", "invalid_api_key"),
                (401, "authentication_error"),
                "UNAUTHENTICATED",
            ),
            (
                &admin,
                (403, "request_forbidden", "admin_key"),
                (403, "permission_error"),
                "PERMISSION_DENIED",
            ),
        ] {
            let answer = gateway.post(member, CHAT, request()).await;
            let error = answer.error();
            let (status, r#type, code) = open_ai;
            assert_eq!(answer.status.as_u16(), status, "{error}");
            assert_eq!((&error["type"], &error["code"]), (&json!(r#type), &json!(code)), "{error}");
            assert_eq!(error["param"], Value::Null);
            let is_limit = status == 429 && code != quota;
            assert_eq!(answer.header("ratelimit").is_some(), is_limit);
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
            // These never fit, or waiting does not help.
            assert_eq!(answer.header("x-should-retry"), Some("false"));

            let answer = gateway.post(member, MESSAGES, request()).await;
            let (status, r#type) = anthropic;
            assert_eq!((answer.status.as_u16(), &answer.error()["type"]), (status, &json!(r#type)));
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &Value::Null));

            let answer = gateway.post(member, GEMINI, r#"{"contents": []}"#).await;
            let error = answer.error();
            assert_eq!(error["code"], answer.status.as_u16());
            assert_eq!(error["status"], gemini, "{error}");
        }
        assert!(gateway.requests().is_empty());
    }
}

#[tokio::test]
async fn a_limit_is_shown_with_its_wait() {
    let world = World::new().await;
    let gateway = provider(RateLimitLayer::for_openai(world.limiter.clone()));
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    assert_eq!(gateway.post(&ci, CHAT, request()).await.status, 200);
    let answer = gateway.post(&ci, CHAT, request()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("31")));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(answer.header("x-should-retry"), None);
}

#[tokio::test]
async fn other_paths_have_the_words_of_the_preset() {
    let world = World::new().await;
    let limiter = || world.limiter.clone();
    let nobody = post(&member(&world).await, "/v1/files", "");
    for (layer, path, r#type) in [
        (RateLimitLayer::for_openai(limiter()), "/v1/files", "invalid_request_error"),
        (RateLimitLayer::for_anthropic(limiter()), "/v1/files", "authentication_error"),
        (RateLimitLayer::for_openai(limiter()), MESSAGES, "authentication_error"),
        (RateLimitLayer::for_anthropic(limiter()), CHAT, "invalid_request_error"),
    ] {
        let mut request = post(&member(&world).await, path, "");
        assert_eq!(request.method(), nobody.method());
        request.headers_mut().remove("authorization");
        let answer = provider(layer).send(request).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.error()["type"]),
            (401, &json!(r#type)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn statuses_can_be_others() {
    let world = World::new().await;
    let statuses = StatusMap::new().with_unauthenticated(StatusCode::NOT_FOUND);
    let gateway = provider(RateLimitLayer::for_openai(world.limiter.clone()).statuses(statuses));
    let mut request = post(&member(&world).await, CHAT, request());
    request.headers_mut().remove("authorization");
    let answer = gateway.send(request).await;
    assert_eq!((answer.status.as_u16(), &answer.error()["code"]), (404, &json!("invalid_api_key")));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_costs_nothing() {
    let world = World::new().await;
    let gateway = provider(RateLimitLayer::for_openai(world.limiter.clone()));
    let ci = member(&world).await;
    for (path, body, why) in [
        (CHAT, "", "JSON"),
        (CHAT, "model=m-1", "JSON"),
        (CHAT, "{\"model\": \"m-1\"", "JSON"),
        (CHAT, "[]", "object"),
        (CHAT, "{}", "model"),
        (CHAT, r#"{"model": null}"#, "model"),
        (CHAT, r#"{"model": 5}"#, "model"),
        (CHAT, r#"{"model": ""}"#, "model"),
        (CHAT, r#"{"model": "a", "model": "b"}"#, "more than once"),
        (MESSAGES, r#"{"max_tokens": 5}"#, "model"),
        ("/v1beta/models/:generateContent", "{}", "asset"),
        ("/openai/deployments/%zz/chat/completions", "{}", "%"),
        ("/v1/../chat/completions", "{}", "."),
    ] {
        let answer = gateway.post(&ci, path, body.to_owned()).await;
        let error = answer.error();
        assert_eq!(answer.status, 400, "{path} {body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{path} {body}: {error}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    let mut compressed = post(&ci, CHAT, request());
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let answer = gateway.send(compressed).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("gzip"), "{}", answer.text());
    let broken = Body::from_stream(stream::iter([
        Ok(Bytes::from_static(b"{")),
        Err(io::Error::other("the client has gone")),
    ]));
    assert_eq!(gateway.post(&ci, CHAT, broken).await.status, 400);
    assert!(gateway.requests().is_empty());
    assert_eq!(world.requests_used(&ci).await, 0);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused() {
    let world = World::new().await;
    let ci = member(&world).await;
    let body = request();
    let unknown_length = |text: &str| {
        let pieces = [text[..9].to_owned(), text[9..].to_owned()];
        Body::from_stream(stream::iter(pieces.map(Ok::<_, io::Error>)))
    };
    for (bound, status) in [(body.len(), 200), (body.len() - 1, 413), (0, 413)] {
        for declared in [true, false] {
            let layer = RateLimitLayer::for_openai(world.limiter.clone()).max_body_bytes(bound);
            let gateway = provider(layer);
            let sent = if declared { Body::from(body.clone()) } else { unknown_length(&body) };
            let answer = gateway.post(&ci, CHAT, sent).await;
            assert_eq!(answer.status.as_u16(), status, "{bound} {declared}");
            if status == 413 {
                assert_eq!(answer.error()["code"], "request_too_large");
                let sent = unknown_length(&body);
                let answer = gateway.post(&ci, MESSAGES, sent).await;
                assert_eq!(answer.error()["type"], "request_too_large");
                assert!(gateway.requests().is_empty());
            }
        }
    }
    assert_eq!(used(&world, &ci).await.0, 2);
}

#[tokio::test]
async fn a_store_that_cannot_answer_refuses_the_call() {
    let world = World::new().await;
    let layer = RateLimitLayer::for_anthropic(world.limiter.clone());
    let layer = layer.caller_async(|_| async { Err("the directory is down".into()) });
    let gateway = provider(layer);
    let answer = gateway.post(&member_with(&world, 1).await, MESSAGES, request()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.error()["type"]),
        (503, &json!("overloaded_error"))
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(gateway.requests().is_empty());
}
