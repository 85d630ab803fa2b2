//! The gateway itself. Its callers have keys of the gateway; the provider has its own key.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::post;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use limiter::Limiter;
use limiter_tower::{Dialect, RateLimitLayer};

/// Builds the gateway: it limits a call by its estimate, forwards it, counts the answer, and settles the call.
pub(crate) fn gateway(limiter: Limiter, upstream: &'static str) -> Router {
    let limits = RateLimitLayer::for_openai(limiter)
        .dialects([Dialect::Ietf, Dialect::OpenAi, Dialect::Anthropic])
        .ending_at_limit()
        .build();
    let paths = ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"];
    let router =
        paths.into_iter().fold(Router::new(), |router, path| router.route(path, post(forward)));
    let client = Client::builder(TokioExecutor::new()).build_http();
    router.with_state((client, upstream)).layer(limits)
}

type Upstream = (Client<HttpConnector, Body>, &'static str);

async fn forward(
    State((client, upstream)): State<Upstream>,
    mut call: Request,
) -> Result<Response, StatusCode> {
    let uri = format!("{upstream}{}", call.uri().path());
    *call.uri_mut() = Uri::try_from(uri).map_err(|_| StatusCode::BAD_REQUEST)?;
    // The access key belongs to the gateway. A real gateway replaces it with the provider's key.
    for name in [header::AUTHORIZATION.as_str(), "x-api-key", "host"] {
        call.headers_mut().remove(name);
    }
    let answer = client.request(call).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(answer.map(Body::new))
}
