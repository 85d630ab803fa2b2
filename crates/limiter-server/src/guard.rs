//! The guard around every request: its deadline, its count, its log line, and the form of refusals.

use std::mem;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, Response as HttpResponse, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use limiter::DenialReason;
use limiter_tower::Retry;
use tower_http::catch_panic::CatchPanicLayer;

use crate::bounds::Bounds;
use crate::console;
use crate::gateway;
use crate::metrics;
use crate::refusal::Refusal;
use crate::routes;

/// Answers each request in time, counts and logs it, and hides panics from the client.
///
/// Benches use it too, to compare one service with another behind the same guard.
pub fn guarded(routes: Router, bounds: &Bounds) -> Router {
    metrics::install();
    catching_panics(routes)
        .layer(from_fn_with_state(Duration::from_secs(bounds.request_timeout_s), stand_guard))
}

/// Limits a panic to the request that caused it.
pub(crate) fn catching_panics(routes: Router) -> Router {
    routes.layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| panicked()))
}

async fn stand_guard(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    // The template of the route, never the path: client input stays out of logs and labels.
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = route.and_then(routes::known).unwrap_or("other");
    let uri = request.uri().clone();
    let method = request.method().clone();

    let mut response = answer(limit, request, next).await;
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        if refusal.code == DenialReason::KeyUnknown.as_str() {
            metrics::unknown_key();
        }
        let headers = mem::take(response.headers_mut());
        response = render(&refusal, &method, &uri);
        response.headers_mut().extend(headers);
    }
    let status = response.status().as_u16();
    metrics::answered(route, status);
    tracing::info!(%method, route, status, elapsed_us = started.elapsed().as_micros(), "answered");
    response
}

/// Renders a refusal in the format of its path: the aiXplain SDK's, that of a provider's API, a problem of the engine's API, or a
/// page.
fn render(refusal: &Refusal, method: &Method, uri: &Uri) -> Response {
    let path = uri.path();
    match gateway::error_format(path) {
        None if console::is_of(path) => console::refused(refusal, method, uri),
        None if !path.starts_with("/v1/") => refusal.to_wire(),
        format => refusal.to_problem(format),
    }
}

async fn answer(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = "the request timed out; the call may have been charged: check the usage before repeating it";
            Refusal::unavailable("timeout", message).with_retry(Retry::Never).into_response()
        }
    }
}

/// The response after a panic. Rust's own hook has written the panic to standard error.
fn panicked() -> HttpResponse<Body> {
    let message = "the server failed because of a bug; the call may have been charged: check the usage before repeating it";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).into_response()
}
