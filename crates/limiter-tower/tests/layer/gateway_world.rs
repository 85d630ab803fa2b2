//! A provider behind a gateway's layer, in process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures_util::stream;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use limiter::{Limits, Unit, Usage};
use limiter_tower::GatewayLayer;
use parking_lot::Mutex;
use serde_json::Value;
use tower::ServiceExt;

use crate::world::{Member, World, asset, bearer, named};

/// A provider that records each request, and gives all the same answer.
#[derive(Clone)]
pub(crate) struct Provider {
    router: Router,
    requests: Arc<Mutex<Vec<(Parts, Bytes)>>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Provider {
    pub(crate) fn answering(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Self {
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&requests);
        let router = Router::new().fallback(any(move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            kept.lock().push((parts, body));
            answer()
        }));
        Self { router, requests }
    }

    /// Answers with this JSON.
    pub(crate) fn of_json(answer: Value) -> Self {
        let text = answer.to_string();
        Self::answering(move || {
            ([("content-type", "application/json")], text.clone()).into_response()
        })
    }

    /// Answers with these pieces of an event stream.
    pub(crate) fn of_events(pieces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let pieces: Vec<String> = pieces.into_iter().map(Into::into).collect();
        Self::answering(move || {
            let pieces = pieces.clone().into_iter().map(Ok::<_, std::io::Error>);
            let body = Body::from_stream(stream::iter(pieces));
            ([("content-type", "text/event-stream; charset=utf-8")], body).into_response()
        })
    }

    pub(crate) fn behind(self, layer: GatewayLayer) -> Self {
        Self { router: self.router.layer(layer), ..self }
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// Returns the requests so far.
    pub(crate) fn requests(&self) -> Vec<(Parts, Bytes)> {
        self.requests.lock().clone()
    }

    /// Returns the body of the last request.
    pub(crate) fn last_body(&self) -> Bytes {
        self.requests.lock().last().expect("a request came").1.clone()
    }

    pub(crate) async fn response(&self, request: http::Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: http::Request<Body>) -> Answer {
        let (parts, body) = self.response(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn post(&self, member: &Member, path: &str, body: impl Into<Body>) -> Answer {
        self.send(post(member, path, body)).await
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// Returns the error, in the format of any API.
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.text());
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert!(body["error"]["message"].as_str().unwrap().len() > 10, "{body}");
        body["error"].clone()
    }
}

pub(crate) fn post(member: &Member, path: &str, body: impl Into<Body>) -> http::Request<Body> {
    let body = body.into();
    let length = http_body::Body::size_hint(&body).exact();
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("authorization", bearer(&member.access_key))
        .header("content-type", "application/json");
    if let Some(length) = length {
        request = request.header("content-length", length);
    }
    request.body(body).unwrap()
}

/// A member whose tokens are counted for the model, with room for many calls.
pub(crate) async fn member(world: &World) -> Member {
    member_with(world, 1_000_000).await
}

/// A member with this limit of tokens a minute for the model.
pub(crate) async fn member_with(world: &World, tokens: u64) -> Member {
    static MEMBERS: AtomicUsize = AtomicUsize::new(0);
    let name = format!("member {}", MEMBERS.fetch_add(1, Ordering::Relaxed));
    let config = named(&name).with_global(limits(1_000_000));
    world.member(config.with_asset(asset(MODEL), limits(tokens))).await
}

fn limits(tokens: u64) -> Limits {
    Limits::builder().requests_per_minute(1_000).tokens_per_minute(tokens).build().unwrap()
}

/// Requests and tokens of the model today.
pub(crate) async fn used(world: &World, member: &Member) -> (u64, u64) {
    let usage: Usage = world.usage(member).await;
    let account = usage.scopes[1].account;
    (account.requests(), account.amount(Unit::Tokens))
}

pub(crate) const MODEL: &str = "m-1";
