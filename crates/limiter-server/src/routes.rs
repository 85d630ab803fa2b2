//! The paths of the service.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use limiter::stream::Api;

use crate::admission::admit;
use crate::app::App;
use crate::config::Origin;
use crate::engine_api::{
    check, key as engine_key, keys as engine_keys, plans, reservations, usage as engine_usage,
};
use crate::gateway;
use crate::guard::{catching_panics, guarded};
use crate::refusal::Refusal;
use crate::wire::{keys, models, runs, usage};
use crate::{console, cors, health, openapi};

/// The whole service.
pub(crate) fn service(app: Arc<App>, cors_origins: &[Origin]) -> Router {
    let admitted = |routes: Vec<Route>| {
        together(routes).route_layer(from_fn_with_state(Arc::clone(&app), admit)).method_not_allowed_fallback(
            || async {
                let message = "this path does not support this method: /openapi.json lists the methods of each path";
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
            },
        )
    };
    let limited = admitted(wire().into_iter().chain(engine()).collect())
        .route(OPENAPI, get(openapi::document))
        .fallback(|| async {
            Refusal::not_found("unknown path: /openapi.json lists the paths of this server")
        })
        .with_state(Arc::clone(&app));
    let gateway = admitted(providers()).with_state(Arc::clone(&app));
    // Monitoring is answered even if the server is full.
    let monitoring = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&app));
    let console = Router::new()
        .merge(
            together(console::paths())
                .route_layer(from_fn_with_state(Arc::clone(&app), console::admit)),
        )
        .merge(together(console::open_paths()))
        .with_state(Arc::clone(&app));
    let limited = cors::allow(guarded(limited, &app.bounds), cors_origins, &app.dialects);
    let dialects = [Api::OpenAiChat, Api::AnthropicMessages].map(|api| app.dialects_of(api));
    let gateway = cors::allow(guarded(gateway, &app.bounds), cors_origins, &dialects.concat());
    // Pages of other origins may not call the console.
    let console = guarded(console, &app.bounds);
    limited.merge(gateway).merge(console).merge(catching_panics(monitoring))
}

/// Returns the route if it is one of this service, so that labels come from a fixed list.
pub(crate) fn known(route: &str) -> Option<&'static str> {
    static PATHS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        let pages = console::paths().into_iter().chain(console::open_paths());
        let routes = wire().into_iter().chain(engine()).chain(providers()).chain(pages);
        routes.map(|(path, _)| path).chain([OPENAPI]).collect()
    });
    PATHS.get(route).copied()
}

fn together(routes: Vec<Route>) -> Router<Arc<App>> {
    routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

type Route = (&'static str, MethodRouter<Arc<App>>);

/// The paths that the aiXplain SDK calls.
fn wire() -> Vec<Route> {
    vec![
        ("/sdk/api-keys", get(keys::list).post(keys::create)),
        ("/sdk/api-keys/usage-limits", get(usage::own)),
        ("/sdk/api-keys/{id}", get(keys::get).put(keys::update).delete(keys::delete)),
        ("/sdk/api-keys/{id}/usage-limits", get(usage::of_key)),
        ("/v2/models/{id}", get(models::get)),
        ("/sdk/models/{id}", get(models::get)),
        ("/api/v2/execute/{id}", post(runs::run)),
        ("/api/v1/execute/{id}", post(runs::run)),
    ]
}

/// The engine as JSON.
fn engine() -> Vec<Route> {
    vec![
        ("/v1/check", post(check::check)),
        ("/v1/peek", post(check::peek)),
        ("/v1/reserve", post(reservations::reserve)),
        ("/v1/reservations/{id}/amend", post(reservations::amend)),
        ("/v1/reservations/{id}/settle", post(reservations::settle)),
        ("/v1/reservations/{id}/cancel", post(reservations::cancel)),
        ("/v1/keys", get(engine_keys::list).post(engine_keys::create).put(engine_key::upsert)),
        ("/v1/keys/{id}", get(engine_key::get).put(engine_key::update).delete(engine_key::delete)),
        ("/v1/keys/{id}/reset", post(engine_key::reset)),
        ("/v1/keys/{id}/rotate", post(engine_key::rotate)),
        ("/v1/plans", get(plans::list)),
        ("/v1/plans/{name}", get(plans::get).put(plans::save).delete(plans::delete)),
        ("/v1/usage", get(engine_usage::usage)),
        ("/v1/history", get(engine_usage::history)),
    ]
}

/// The APIs of OpenAI and Anthropic.
fn providers() -> Vec<Route> {
    let calls = gateway::PATHS.map(|path| (path, post(gateway::call)));
    calls.into_iter().chain([(gateway::MODELS, get(gateway::list))]).collect()
}

async fn metrics() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], crate::metrics::render())
}

const OPENAPI: &str = "/openapi.json";
