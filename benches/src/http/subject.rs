//! The measured subjects: an axum handler, bare or behind a layer.

use std::hint::black_box;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::routing::{RouterIntoService, get, post};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt};

use super::{chat, governor, ours};

/// Every subject, in the order of the reports. The first one is the baseline.
///
/// The last two get a chat completion of 2 kB: one reads the body and passes it on, the other is the preset for gateways.
pub const SUBJECTS: [(&str, Layered); 9] = [
    ("bare", |router| router),
    ("layer", |router| ours::one_limit(router, true)),
    ("tower_governor", |router| governor::one_limit(router, true)),
    ("layer_8_rules", |router| ours::eight_rules(router, true)),
    ("layer_without_headers", |router| ours::one_limit(router, false)),
    ("tower_governor_without_headers", |router| governor::one_limit(router, false)),
    ("layer_8_rules_without_headers", |router| ours::eight_rules(router, false)),
    (READS_BODY, chat::reads_body),
    (GATEWAY, ours::gateway),
];

/// The layer that reads the body of a chat completion.
pub const READS_BODY: &str = "chat_reads_body";

/// The preset for gateways.
pub const GATEWAY: &str = "chat_gateway";

/// Puts a layer around a router.
type Layered = fn(Router) -> Router;

/// A router, and the runtime that its calls are polled on.
pub struct Subject {
    /// Its name in tables, JSON and arguments.
    pub name: &'static str,
    service: RouterIntoService<Body>,
    request: Request<Bytes>,
    runtime: Runtime,
}

impl Subject {
    /// Returns the subject of that name, called once, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (name, layered) = SUBJECTS.into_iter().find(|(other, _)| *other == name)?;
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route(chat::PATH, post(chat::answer));
        let router = layered(router);
        let request = match name {
            READS_BODY | GATEWAY => Request::post(chat::PATH).header("x-api-key", ours::ACCESS_KEY),
            _ => Request::get("/hello").header("x-api-key", ours::ACCESS_KEY),
        };
        let body =
            if matches!(name, READS_BODY | GATEWAY) { chat::request() } else { Bytes::new() };
        let request = request.body(body);
        let mut subject = Self {
            name,
            service: router.into_service(),
            request: request.expect("a request"),
            runtime: Builder::new_current_thread().build().expect("a runtime starts"),
        };
        subject.call(1);
        Some(subject)
    }

    /// Calls the subject this many times, one after the other.
    ///
    /// # Panics
    /// When a call is refused: a benchmark of refusals measures something else.
    pub fn call(&mut self, calls: usize) {
        let Self { service, request, runtime, .. } = self;
        runtime.block_on(async {
            for _ in 0..calls {
                let request = black_box(&*request).clone().map(Body::from);
                let service = service.ready().await.expect("a router is always ready");
                let response = service.call(request).await.expect("a router does not fail");
                assert_eq!(response.status(), StatusCode::OK);
                black_box(response.headers());
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    black_box(&frame.expect("the answer is whole"));
                }
            }
        });
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_allows_every_call() {
        for (name, _) in SUBJECTS {
            Subject::named(name).expect("it has this name").call(100);
        }
    }
}
