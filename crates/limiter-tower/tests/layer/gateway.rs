//! Calls through a gateway: the layer finds key, model, cost and usage, and forwards the request.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use limiter::{Price, PriceTable};
use limiter_tower::{Admitted, Dialect, RateLimitLayer, Settlement};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};

use crate::gateway_world::{MODEL, Provider, member, member_with, post, used};
use crate::world::{World, bearer, named, serve};

#[tokio::test]
async fn a_call_of_each_api_is_charged_what_its_answer_reports() {
    for world in World::on_each_store().await {
        for build in [RateLimitLayer::for_openai, RateLimitLayer::for_anthropic] {
            for (path, request, answer, tokens) in calls() {
                let ci = member(&world).await;
                let layer = build(world.limiter.clone()).build();
                let provider = Provider::of_json(answer.clone()).behind(layer);
                let sent = Bytes::from(request.to_string());
                let answered = provider.post(&ci, path, sent.clone()).await;
                assert_eq!(
                    (answered.status, answered.text()),
                    (StatusCode::OK, &*answer.to_string())
                );
                assert!(answered.header("ratelimit").is_some());
                assert_eq!(used(&world, &ci).await, (1, tokens), "{path}");
                // The bytes of the client are not copied.
                assert_eq!(provider.last_body().as_ptr(), sent.as_ptr(), "{path}");
            }
        }
    }
}

/// The path, the request and the answer of a call, and the tokens that the answer reports.
fn calls() -> Vec<(&'static str, Value, Value, u64)> {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    let chat = json!({"model": MODEL, "max_tokens": 50, "messages": messages});
    let nameless = json!({"max_tokens": 50, "messages": messages});
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 2});
    let chatted = json!({"choices": [{"message": {"content": "Hi there"}}], "usage": usage});
    let input = json!({"model": MODEL, "input": "Hello"});
    let embedded = json!({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 5}});
    let cached = json!({"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 2});
    let gemini = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    let gemini_usage = json!({"promptTokenCount": 5, "candidatesTokenCount": 2});
    vec![
        ("/v1/chat/completions", chat.clone(), chatted.clone(), 7),
        ("/v1/chat/completions/?a=b", chat.clone(), chatted.clone(), 7),
        ("/openai/v1/chat/completion%73", chat.clone(), chatted.clone(), 7),
        ("/openai/deployments/m%2D1/chat/completions?api-version=1", nameless, chatted.clone(), 7),
        ("/v1/completions", json!({"model": MODEL, "prompt": "Hello"}), chatted, 7),
        (
            "/v1/responses",
            input.clone(),
            json!({"output": [], "usage": {"input_tokens": 5, "output_tokens": 2}}),
            7,
        ),
        ("/v1/embeddings", input, embedded, 5),
        (
            "/v2/rerank",
            json!({"model": MODEL, "query": "a", "documents": ["b"]}),
            json!({"results": [], "usage": {"total_tokens": 5}}),
            5,
        ),
        (
            "/v1/messages",
            chat,
            json!({"content": [{"type": "text", "text": "Hi"}], "usage": cached}),
            7,
        ),
        (
            "/v1beta/models/m-1:generateContent",
            gemini,
            json!({"candidates": [], "usageMetadata": gemini_usage}),
            7,
        ),
    ]
}

fn chat(max_tokens: u64) -> String {
    let messages = json!([{"role": "user", "content": "Hello there"}]);
    json!({"model": MODEL, "max_tokens": max_tokens, "messages": messages}).to_string()
}

fn chatted(input: u64, output: u64) -> Value {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output});
    json!({"choices": [{"message": {"content": "Hi"}}], "usage": usage})
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn the_key_is_found_as_each_sdk_sends_it() {
    let world = World::new().await;
    let provider = Provider::of_json(chatted(5, 2));
    let provider = provider.behind(RateLimitLayer::for_anthropic(world.limiter.clone()).build());
    let ci = member(&world).await;
    let key = ci.access_key.expose();
    for (calls, (name, value)) in [
        ("authorization", bearer(&ci.access_key)),
        ("x-api-key", key.to_owned()),
        ("api-key", key.to_owned()),
        ("x-goog-api-key", key.to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = post(&ci, CHAT, chat(5));
        request.headers_mut().remove("authorization");
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(provider.send(request).await.status, 200, "{name}");
        assert_eq!(used(&world, &ci).await.0, calls as u64 + 1, "{name}");
    }
}

#[tokio::test]
async fn headers_show_the_limits_after_the_estimate_in_the_dialects_of_the_preset() {
    let world = World::new().await;
    let of = |layer| Provider::of_json(chatted(5, 2)).behind(layer);
    let (open_ai, anthropic) =
        ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining");
    let limiter = || world.limiter.clone();
    for (layer, shown) in [
        (RateLimitLayer::for_openai(limiter()), [true, true, false]),
        (RateLimitLayer::for_anthropic(limiter()), [true, false, true]),
        (
            RateLimitLayer::for_openai(limiter()).dialects([Dialect::Anthropic]),
            [false, false, true],
        ),
    ] {
        let ci = member_with(&world, 100).await;
        let answer = of(layer.build()).post(&ci, CHAT, chat(50)).await;
        assert_eq!(
            ["ratelimit", open_ai, anthropic].map(|name| answer.header(name).is_some()),
            shown
        );
        // 50 tokens out at most, and an estimate of those in.
        let left: u64 = [open_ai, anthropic]
            .iter()
            .find_map(|name| answer.header(name))
            .unwrap()
            .parse()
            .unwrap();
        assert!((30..50).contains(&left), "{left}");
        assert_eq!(used(&world, &ci).await, (1, 7));
    }
}

#[tokio::test]
async fn other_paths_and_methods_cost_one_request_without_an_asset() {
    let world = World::new().await;
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).tell_service().build();
    let provider = Provider::answering(|| "models".into_response()).behind(layer);
    let ci = member(&world).await;
    for (calls, (method, path)) in [
        (Method::GET, "/v1/models"),
        (Method::GET, CHAT),
        (Method::GET, "/v1/responses/resp_1"),
        (Method::POST, "/v1/messages/count_tokens"),
        (Method::POST, "/v1/files"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut request = post(&ci, path, "not JSON");
        *request.method_mut() = method;
        let answer = provider.send(request).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "models"), "{path}");
        assert!(answer.header("x-ratelimit-remaining-requests").is_some());
        assert_eq!(world.requests_used(&ci).await, calls as u64 + 1, "{path}");
        assert_eq!(world.tokens_used(&ci).await, 0);
        assert_eq!(used(&world, &ci).await, (0, 0));
        let admitted = provider.requests().pop().unwrap().0.extensions.get::<Admitted>().cloned();
        assert!(admitted.is_some_and(|admitted| admitted.reservation.is_none()));
    }
}

#[tokio::test]
async fn a_service_can_learn_of_its_reservation() {
    let world = World::new().await;
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).tell_service().build();
    let provider = Provider::of_json(chatted(5, 2)).behind(layer);
    let ci = member(&world).await;
    assert_eq!(provider.post(&ci, CHAT, chat(5)).await.status, 200);
    let admitted = provider.requests()[0].0.extensions.get::<Admitted>().cloned().unwrap();
    assert!(admitted.key == ci.id && admitted.reservation.is_some());
}

/// A preflight has no key, and a list of models may be open to all.
#[tokio::test]
async fn options_and_methods_that_are_not_chosen_need_no_key() {
    let world = World::new().await;
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).methods([Method::POST]).build();
    let provider = Provider::answering(|| "free".into_response()).behind(layer);
    let ci = member(&world).await;
    for (method, path) in [(Method::OPTIONS, CHAT), (Method::GET, "/v1/models")] {
        let mut request = post(&ci, path, "");
        request.headers_mut().remove("authorization");
        *request.method_mut() = method;
        let answer = provider.send(request).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "free"));
        assert!(!answer.headers.keys().any(|name| name.as_str().contains("ratelimit")));
    }
    assert_eq!(world.requests_used(&ci).await, 0);
}

#[tokio::test]
async fn a_body_in_many_frames_is_put_together() {
    let world = World::new().await;
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).build();
    let provider = Provider::of_json(chatted(5, 2)).behind(layer);
    let ci = member(&world).await;
    let text = chat(50);
    for length in [1, 2, 7, text.len()] {
        let pieces: Vec<_> = text.as_bytes().chunks(length).map(Bytes::copy_from_slice).collect();
        let with_empty = pieces.into_iter().flat_map(|piece| [Bytes::new(), piece]);
        let body = Body::from_stream(stream::iter(with_empty.map(Ok::<_, io::Error>)));
        assert_eq!(provider.post(&ci, CHAT, body).await.status, 200);
        assert_eq!(provider.last_body(), text);
    }
    assert_eq!(used(&world, &ci).await, (4, 28));
}

#[tokio::test]
async fn an_answer_that_is_no_success_costs_nothing() {
    for world in World::on_each_store().await {
        let ci = member(&world).await;
        for status in [302, 400, 404, 429, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            let layer = RateLimitLayer::for_openai(world.limiter.clone()).build();
            let answer = move || (status, "the provider's own words").into_response();
            let answer = Provider::answering(answer).behind(layer).post(&ci, CHAT, chat(50)).await;
            assert_eq!((answer.status, answer.text()), (status, "the provider's own words"));
            assert!(answer.header("ratelimit").is_some());
            assert_eq!(used(&world, &ci).await, (0, 0));
            assert_eq!(world.requests_used(&ci).await, 0);
        }
    }
}

#[tokio::test]
async fn a_failing_provider_keeps_the_estimate_by_default() {
    let world = World::new().await;
    for (settlement, charged) in [(None, true), (Some(Settlement::Cancel), false)] {
        let ci = member(&world).await;
        let mut layer = RateLimitLayer::for_openai(world.limiter.clone());
        if let Some(settlement) = settlement {
            layer = layer.on_service_error(settlement);
        }
        let service = layer.build().layer(service_fn(async |_: http::Request<Full<Bytes>>| {
            Err::<http::Response<Full<Bytes>>, _>(io::Error::other("refused"))
        }));
        let request = post(&ci, CHAT, "").map(|_| Full::from(chat(50)));
        let error = service.oneshot(request).await.map(drop).unwrap_err();
        assert_eq!(error.to_string(), "refused");
        let (requests, tokens) = used(&world, &ci).await;
        assert_eq!((requests == 1, tokens > 50), (charged, charged));
    }
}

#[tokio::test]
async fn a_compressed_answer_cannot_be_read_so_that_its_estimate_stands() {
    let world = World::new().await;
    for (encoding, is_read) in [("gzip", false), ("br", false), ("identity", true), ("", true)] {
        let answer = move || -> Response {
            ([("content-encoding", encoding)], chatted(5, 2).to_string()).into_response()
        };
        let layer = RateLimitLayer::for_openai(world.limiter.clone()).ending_at_limit().build();
        let provider = Provider::answering(answer).behind(layer);
        let ci = member(&world).await;
        let mut request = post(&ci, CHAT, chat(50));
        request.headers_mut().insert("accept-encoding", "gzip, br".parse().unwrap());
        let answer = provider.send(request).await;
        assert_eq!(answer.text(), chatted(5, 2).to_string());
        let tokens = used(&world, &ci).await.1;
        assert_eq!(tokens == 7, is_read, "{encoding:?}: {tokens}");
        assert!(is_read || tokens > 50, "{encoding:?}: {tokens}");
        // So that providers do not compress.
        assert!(!provider.requests()[0].0.headers.contains_key("accept-encoding"));
    }
}

#[tokio::test]
async fn a_call_costs_credits_by_the_price_of_its_model() {
    let world = World::new().await;
    let price = Price::per_million_tokens("2".parse().unwrap(), "8".parse().unwrap());
    let prices = PriceTable::new([("m-*", price)]).unwrap();
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).prices(prices).build();
    let provider = Provider::of_json(chatted(1_000, 500)).behind(layer);
    let ci = world.member(named("ci").with_budget("0.01".parse().unwrap())).await;
    assert_eq!(provider.post(&ci, CHAT, chat(500)).await.status, 200);
    assert_eq!(world.usage(&ci).await.credits.spent, "0.006".parse().unwrap());
    let answer = provider.post(&ci, CHAT, chat(1_000)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.error()["code"], "insufficient_quota");
    assert_eq!(world.usage(&ci).await.credits.spent, "0.006".parse().unwrap());
}

#[tokio::test]
async fn an_estimate_can_be_capped_and_sent_as_the_maximum() {
    let world = World::new().await;
    let build = || RateLimitLayer::for_openai(world.limiter.clone());
    let of = |layer| Provider::of_json(chatted(5, 2)).behind(layer);
    let ci = member_with(&world, 100).await;
    let answer = of(build().build()).post(&ci, CHAT, chat(500)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-should-retry")), (429, Some("false")));
    let provider = of(build().capping_estimates().build());
    assert_eq!(provider.post(&ci, CHAT, chat(500)).await.status, 200);
    assert_eq!(provider.last_body(), chat(500));
    assert_eq!(used(&world, &ci).await, (1, 7));

    let provider = of(build().capping_estimates().sending_bound().build());
    let ci = member_with(&world, 100).await;
    let four = chat(500).replacen('{', r#"{"n":4,"#, 1);
    for (request, answers) in [(chat(500), 1), (four, 4)] {
        assert_eq!(provider.post(&ci, CHAT, request).await.status, 200);
        let (parts, body) = provider.requests().pop().unwrap();
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let most = sent["max_tokens"].as_u64().unwrap() * answers;
        assert!((80..100).contains(&most), "{sent}");
        assert_eq!(parts.headers["content-length"], body.len().to_string().as_str());
        world.clock.advance(std::time::Duration::from_secs(60));
    }
    // A call that sends no maximum has one then.
    let body = json!({"model": MODEL, "messages": []}).to_string();
    assert_eq!(provider.post(&member(&world).await, CHAT, body).await.status, 200);
    let sent = String::from_utf8(provider.last_body().to_vec()).unwrap();
    assert!(sent.contains("1000"), "{sent}");
    // Embeddings have no output to bound.
    let body = json!({"model": MODEL, "input": "Hello"}).to_string();
    assert_eq!(provider.post(&ci, "/v1/embeddings", body.clone()).await.status, 200);
    assert_eq!(provider.last_body(), body);
}

#[tokio::test]
async fn text_is_counted_by_the_tokenizer_of_the_service() {
    let world = World::new().await;
    let words = |text: &str| text.split_whitespace().count() as u64;
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).counting_by(words).build();
    let answer = json!({"choices": [{"message": {"content": "one two three four five"}}]});
    let provider = Provider::of_json(answer).behind(layer);
    let ci = member(&world).await;
    assert_eq!(provider.post(&ci, CHAT, chat(50)).await.status, 200);
    let by_words = used(&world, &ci).await.1;
    // Two in the prompt, five in the answer, and the overhead of a message.
    assert!((7..15).contains(&by_words), "{by_words}");
}

#[tokio::test]
async fn a_tokenizer_that_panics_refuses_the_call() {
    let world = World::new().await;
    let layer = RateLimitLayer::for_openai(world.limiter.clone());
    let layer = layer.counting_by(|_| panic!("no vocabulary")).build();
    let provider = Provider::of_json(chatted(5, 2)).behind(layer);
    let ci = member(&world).await;
    let answer = provider.post(&ci, CHAT, chat(50)).await;
    assert_eq!((answer.status.as_u16(), &answer.error()["type"]), (500, &json!("server_error")));
    assert!(provider.requests().is_empty());
    assert_eq!(used(&world, &ci).await, (0, 0));
}

/// A body that records whether it was read.
struct Watched(Arc<AtomicBool>, Option<Bytes>);

impl From<Bytes> for Watched {
    fn from(bytes: Bytes) -> Self {
        Self(Arc::default(), Some(bytes))
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.store(true, Ordering::Relaxed);
        Poll::Ready(self.1.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn a_body_is_not_read_before_its_caller_is_known() {
    let world = World::new().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let served = Arc::clone(&calls);
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).build();
    let service = layer.layer(service_fn(move |_: http::Request<Watched>| {
        served.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::default())))
    }));
    let ci = member(&world).await;
    for (key, status) in
        [("a-key-that-nobody-has", 401), ("short", 401), (ci.access_key.expose(), 200)]
    {
        let was_read = Arc::new(AtomicBool::new(false));
        let body = Watched(Arc::clone(&was_read), Some(chat(5).into()));
        let request = http::Request::post(CHAT).header("x-api-key", key).body(body).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(was_read.load(Ordering::Relaxed), status == 200);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// Over a connection: the length of the changed body is correct.
#[tokio::test]
async fn a_changed_request_arrives_whole_over_a_connection() {
    let world = World::new().await;
    let provider = Provider::of_json(chatted(5, 2));
    let behind = serve(provider.router()).await.address;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Body>();
    let forward = axum::routing::any(move |request: axum::extract::Request| async move {
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("http://{behind}{}", parts.uri.path()).parse().unwrap();
        let request = http::Request::from_parts(parts, body);
        client
            .request(request)
            .await
            .map(|response| response.map(Body::new))
            .map_err(|error| error.to_string())
    });
    let layer = RateLimitLayer::for_openai(world.limiter.clone()).build();
    let gateway = serve(axum::Router::new().fallback(forward).layer(layer)).await.address;
    let ci = member(&world).await;
    let body = chat(50).replacen('{', r#"{"stream":true,"#, 1);
    let mut request = post(&ci, CHAT, body.clone());
    *request.uri_mut() = format!("http://{gateway}{CHAT}").parse().unwrap();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Body>();
    assert_eq!(client.request(request).await.unwrap().status(), 200);
    let (parts, sent) = provider.requests().pop().unwrap();
    assert_eq!(parts.headers["content-length"], sent.len().to_string().as_str());
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    assert_eq!(sent["messages"], serde_json::from_str::<Value>(&body).unwrap()["messages"]);
}

/// A server that knows the length of a body does not poll for its end.
#[tokio::test]
async fn an_answer_of_known_length_is_settled_before_its_last_bytes_are_sent() {
    for world in World::on_each_store().await {
        let layer = RateLimitLayer::for_openai(world.limiter.clone()).build();
        let provider = Provider::of_json(chatted(5, 2)).behind(layer);
        let ci = member(&world).await;
        let mut body = provider.response(post(&ci, CHAT, chat(50))).await.into_body();
        assert!(used(&world, &ci).await.1 > 50);
        let length = http_body::Body::size_hint(&body).exact().unwrap();
        let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(last.len() as u64, length);
        assert_eq!(used(&world, &ci).await, (1, 7));
        assert!(body.frame().await.is_none());
    }
}
