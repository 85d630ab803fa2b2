//! Which path leads where.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use limiter::Api;

use crate::admission::admit;
use crate::app::App;
use crate::config::Origin;
use crate::engine_api::{check, keys as engine_keys, reservations, usage as engine_usage};
use crate::gateway;
use crate::guard::{catching_panics, guarded};
use crate::refusal::Refusal;
use crate::wire::{keys, models, runs, usage};
use crate::{cors, health, openapi};

/// The whole service.
pub(crate) fn service(app: Arc<App>, cors_origins: &[Origin]) -> Router {
    let wire = Router::new()
        .route(KEYS, get(keys::list).post(keys::create))
        .route(OWN_USAGE, get(usage::own))
        .route(KEY, get(keys::get).put(keys::update).delete(keys::delete))
        .route(KEY_USAGE, get(usage::of_key))
        .route(MODEL, get(models::get))
        .route(MODEL_V1, get(models::get))
        .route(RUN, post(runs::run))
        .route(RUN_V1, post(runs::run));
    let engine = Router::new()
        .route(CHECK, post(check::check))
        .route(PEEK, post(check::peek))
        .route(RESERVE, post(reservations::reserve))
        .route(EXTEND, post(reservations::extend))
        .route(SETTLE, post(reservations::settle))
        .route(CANCEL, post(reservations::cancel))
        .route(ENGINE_KEYS, get(engine_keys::list).post(engine_keys::create))
        .route(USAGE, get(engine_usage::usage));
    let gateway = gateway::PATHS
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, post(gateway::call)))
        .route(gateway::MODELS, get(gateway::list));
    let admitted = |keyed: Router<Arc<App>>| {
        keyed.route_layer(from_fn_with_state(Arc::clone(&app), admit)).method_not_allowed_fallback(
            || async {
                let message = "this path does not answer to this method: see /openapi.json";
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
            },
        )
    };
    let limited = admitted(wire.merge(engine))
        .route(OPENAPI, get(openapi::document))
        .fallback(|| async {
            Refusal::not_found("there is nothing at this path: see /openapi.json")
        })
        .with_state(Arc::clone(&app));
    let gateway = admitted(gateway).with_state(Arc::clone(&app));
    // Whoever watches the server is answered also when it is full.
    let watching = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&app));
    let limited = cors::allow(guarded(limited, &app.bounds), cors_origins, &app.dialects);
    let dialects = [Api::OpenAiChat, Api::AnthropicMessages].map(|api| app.dialects_of(api));
    let gateway = cors::allow(guarded(gateway, &app.bounds), cors_origins, &dialects.concat());
    limited.merge(gateway).merge(catching_panics(watching))
}

/// The route, if it is one of those above: whatever becomes a label is of a list.
pub(crate) fn known(route: &str) -> Option<&'static str> {
    ROUTES.into_iter().chain(gateway::PATHS).find(|known| *known == route)
}

async fn metrics() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], crate::metrics::render())
}

const KEYS: &str = "/sdk/api-keys";
const KEY: &str = "/sdk/api-keys/{id}";
const OWN_USAGE: &str = "/sdk/api-keys/usage-limits";
const KEY_USAGE: &str = "/sdk/api-keys/{id}/usage-limits";
const MODEL: &str = "/v2/models/{id}";
const MODEL_V1: &str = "/sdk/models/{id}";
const RUN: &str = "/api/v2/execute/{id}";
const RUN_V1: &str = "/api/v1/execute/{id}";
const CHECK: &str = "/v1/check";
const PEEK: &str = "/v1/peek";
const RESERVE: &str = "/v1/reserve";
const EXTEND: &str = "/v1/reservations/{id}/extend";
const SETTLE: &str = "/v1/reservations/{id}/settle";
const CANCEL: &str = "/v1/reservations/{id}/cancel";
const ENGINE_KEYS: &str = "/v1/keys";
const USAGE: &str = "/v1/usage";
const OPENAPI: &str = "/openapi.json";

const ROUTES: [&str; 18] = [
    ENGINE_KEYS,
    CHECK,
    PEEK,
    RESERVE,
    SETTLE,
    EXTEND,
    CANCEL,
    RUN,
    RUN_V1,
    USAGE,
    OWN_USAGE,
    KEYS,
    KEY,
    KEY_USAGE,
    MODEL,
    MODEL_V1,
    OPENAPI,
    gateway::MODELS,
];
