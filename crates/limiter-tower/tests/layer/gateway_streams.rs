//! Streamed answers through a gateway.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use limiter::stream::tokens_of_text;
use limiter_test_servers::until_async;
use limiter_tower::{GatewayLayerBuilder, RateLimitLayer};
use serde_json::{Value, json};

use crate::gateway_world::{MODEL, Provider, member, member_with, post, used};
use crate::world::{Member, World};

const WORDS: &str = "Some words of text";
const CHAT: &str = "/v1/chat/completions";

fn request() -> String {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    json!({"model": MODEL, "max_tokens": 50, "stream": true, "messages": messages}).to_string()
}

fn event(data: Value) -> String {
    format!("data: {data}\n\n")
}

/// A chunk of this many tokens.
fn tokens() -> u64 {
    tokens_of_text(WORDS)
}

fn text() -> String {
    event(json!({"choices": [{"index": 0, "delta": {"content": WORDS}}]}))
}

fn usage(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output});
    event(json!({"choices": [], "usage": usage}))
}

const DONE: &str = "data: [DONE]\n\n";

fn layer(world: &World) -> GatewayLayerBuilder {
    RateLimitLayer::for_openai(world.limiter.clone())
}

#[tokio::test]
async fn usage_is_asked_for_and_its_chunk_taken_out_unless_the_caller_asked() {
    for world in World::on_each_store().await {
        let whole = [text(), usage(5, 3), DONE.to_owned()];
        let asking = request().replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
        let declining = request().replacen('{', r#"{"stream_options":{"include_usage":false},"#, 1);
        for path in [CHAT, "/v1/completions"] {
            let provider = Provider::of_events(whole.clone()).behind(layer(&world).build());
            for (sent, is_changed) in [(&request(), true), (&asking, false), (&declining, true)] {
                let ci = member(&world).await;
                let answer = provider.post(&ci, path, sent.clone()).await;
                let expected = if is_changed { text() + DONE } else { whole.concat() };
                assert_eq!(answer.text(), expected, "{sent}");
                let (parts, body) = provider.requests().pop().unwrap();
                assert_eq!(body != sent.as_bytes(), is_changed);
                let asked: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(asked["stream_options"], json!({"include_usage": true}));
                assert_eq!(parts.headers["content-length"], body.len().to_string().as_str());
                assert_eq!(used(&world, &ci).await, (1, 8));
            }
            let provider = Provider::of_events(whole.clone());
            let provider = provider.behind(layer(&world).without_asking_for_usage().build());
            let answer = provider.post(&member(&world).await, path, request()).await;
            assert_eq!(
                (answer.text(), &*provider.last_body()),
                (&*whole.concat(), request().as_bytes())
            );
        }
    }
}

#[tokio::test]
async fn the_streams_of_other_apis_are_passed_on_and_charged_as_reported() {
    let world = World::new().await;
    let started = json!({"message": {"usage": {"input_tokens": 5, "output_tokens": 1}}});
    let anthropic = [
        format!("event: message_start\n{}", event(started)),
        format!(
            "event: message_delta\n{}",
            event(json!({"type": "message_delta", "usage": {"output_tokens": 3}}))
        ),
    ];
    let completed = json!({"response": {"usage": {"input_tokens": 5, "output_tokens": 3}}});
    let responses = [format!("event: response.completed\n{}", event(completed))];
    let gemini_usage = json!({"promptTokenCount": 5, "candidatesTokenCount": 3});
    let gemini = [event(json!({"candidates": [], "usageMetadata": gemini_usage}))];
    for (path, events) in [
        ("/v1/messages", &anthropic[..]),
        ("/v1/responses", &responses),
        ("/v1beta/models/m-1:streamGenerateContent?alt=sse", &gemini),
    ] {
        for ends in [false, true] {
            let layer = if ends { layer(&world).ending_at_limit() } else { layer(&world) };
            let provider = Provider::of_events(events.to_vec()).behind(layer.build());
            let ci = member(&world).await;
            let answer = provider.post(&ci, path, request()).await;
            assert_eq!(answer.text(), events.concat(), "{path}");
            assert_eq!(provider.last_body(), request(), "{path}");
            assert_eq!(used(&world, &ci).await, (1, 8), "{path}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_reports_nothing_is_counted() {
    let world = World::new().await;
    let provider = Provider::of_events([text(), text(), DONE.to_owned()]);
    let provider = provider.behind(layer(&world).counting_by(|text| text.len() as u64).build());
    let ci = member(&world).await;
    assert_eq!(provider.post(&ci, CHAT, request()).await.text(), text() + &text() + DONE);
    let tokens = used(&world, &ci).await.1;
    let output = 2 * WORDS.len() as u64;
    assert!((output..output + 20).contains(&tokens), "{tokens}");
}

#[tokio::test]
async fn a_stream_ends_at_its_limit_with_an_error_of_its_api() {
    for world in World::on_each_store().await {
        let delta =
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": WORDS}});
        let output = json!({"type": "response.output_text.delta", "delta": WORDS});
        let named = |name: &str, data: Value| format!("event: {name}\n{}", event(data));
        for (path, chunk, r#type, last) in [
            (CHAT, text(), "tokens", format!("}}\n\n{DONE}")),
            (
                "/v1/completions",
                event(json!({"choices": [{"text": WORDS}]})),
                "tokens",
                format!("}}\n\n{DONE}"),
            ),
            (
                "/v1/responses",
                named("response.output_text.delta", output),
                "tokens",
                "}\n\n".to_owned(),
            ),
            (
                "/v1/messages",
                named("content_block_delta", delta),
                "rate_limit_error",
                "}\n\n".to_owned(),
            ),
        ] {
            let chunks = vec![chunk.clone(); 40];
            let bytes = chunks.concat().into_bytes();
            for length in [5, chunk.len(), 3 * chunk.len() + 7] {
                let pieces: Vec<_> = bytes
                    .chunks(length)
                    .map(|piece| String::from_utf8(piece.to_vec()).unwrap())
                    .collect();
                let layer = layer(&world).capping_estimates().ending_at_limit().build();
                let provider = Provider::of_events(pieces).behind(layer);
                let ci = member_with(&world, 60).await;
                let sent =
                    json!({"model": MODEL, "max_tokens": 10, "stream": true, "messages": []});
                let answer = provider.post(&ci, path, sent.to_string()).await;
                let told = answer.text();
                assert!(told.ends_with(&last), "{path}: {told}");
                let data: Vec<Value> = told
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "))
                    .filter(|data| *data != "[DONE]")
                    .map(|data| serde_json::from_str(data).unwrap())
                    .collect();
                let (error, texts) = data.split_last().unwrap();
                assert_eq!(error["error"]["type"], r#type, "{path}: {error}");
                assert!(error["error"]["message"].as_str().unwrap().contains("60"), "{error}");
                assert!(!texts.is_empty() && texts.iter().all(|text| text.get("error").is_none()));
                let (_, charged) = used(&world, &ci).await;
                assert!(
                    charged <= 60 && charged >= tokens() * texts.len() as u64,
                    "{path}: {charged} of {}",
                    texts.len()
                );
            }
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_past_its_limit_unless_it_is_to_end_there() {
    let world = World::new().await;
    let provider = Provider::of_events(vec![text(); 40]).behind(layer(&world).build());
    let ci = member_with(&world, 60).await;
    let sent = json!({"model": MODEL, "max_tokens": 10, "stream": true, "messages": []});
    assert_eq!(provider.post(&ci, CHAT, sent.to_string()).await.text(), text().repeat(40));
    assert!(used(&world, &ci).await.1 >= 40 * tokens());
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_it_got() {
    for world in World::on_each_store().await {
        let upstream = Arc::new(());
        let alive = Arc::downgrade(&upstream);
        let provider = Provider::answering(move || {
            let upstream = Arc::clone(&upstream);
            let chunks = stream::iter(vec![text(); 3]).chain(stream::pending());
            let chunks = chunks.map(move |chunk| {
                let _ = &upstream;
                Ok::<_, Infallible>(chunk)
            });
            ([("content-type", "text/event-stream")], Body::from_stream(chunks)).into_response()
        });
        let provider = provider.behind(layer(&world).build());
        let ci = member(&world).await;
        let idle = alive.strong_count();
        let mut response = provider.response(post(&ci, CHAT, request())).await;
        assert!(alive.strong_count() > idle);
        for _ in 0..3 {
            let frame = response.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), Bytes::from(text()));
        }
        let estimated = used(&world, &ci).await.1;
        assert!(estimated > 50);
        drop(response);
        assert_eq!(alive.strong_count(), idle, "upstream is let go of");
        let (requests, charged) = used_below(&world, &ci, estimated).await;
        assert!(requests == 1 && (3 * tokens()..40).contains(&charged), "{charged}");
    }
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_paid_for_what_it_sent() {
    let world = World::new().await;
    for ends in [false, true] {
        let provider = Provider::answering(|| {
            let chunks =
                [Ok(text()), Ok(text() + "data: {\"cho"), Err(std::io::Error::other("gone"))];
            let body = Body::from_stream(stream::iter(chunks));
            ([("content-type", "text/event-stream")], body).into_response()
        });
        let layer = if ends { layer(&world).ending_at_limit() } else { layer(&world) };
        let provider = provider.behind(layer.without_asking_for_usage().build());
        let ci = member(&world).await;
        let mut body = provider.response(post(&ci, CHAT, request())).await.into_body();
        let mut got = Vec::new();
        let error = loop {
            match body.frame().await.expect("an error comes") {
                Ok(frame) => got.extend(frame.into_data().unwrap()),
                Err(error) => break error,
            }
        };
        assert_eq!(got, (text() + &text() + "data: {\"cho").into_bytes());
        assert!(error.to_string().contains("upstream"), "{error}");
        drop(body);
        let (_, charged) = used_below(&world, &ci, 50).await;
        assert!((2 * tokens()..40).contains(&charged), "{charged}");
    }
}

/// Waits until a task has settled the call below its estimate, and returns requests and tokens.
async fn used_below(world: &World, member: &Member, estimate: u64) -> (u64, u64) {
    let mut last = (0, 0);
    until_async("the call is settled", async || {
        last = used(world, member).await;
        last.1 < estimate
    })
    .await;
    last
}
