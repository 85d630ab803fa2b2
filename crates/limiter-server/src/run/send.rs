//! A request to the provider of a model, with this server's own credentials.

use axum::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use limiter::stream::Api;

use crate::models::Model;
use crate::refusal::Refusal;
use crate::upstream::Upstream;

/// Builds the request. Of the client it has only the body, and the headers of its API that change the answer.
pub(super) fn request(
    model: &Model,
    upstream: &Upstream,
    client: &HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Refusal> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = axum::http::Method::POST;
    *request.uri_mut() = upstream.uri.clone();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if upstream.api == Some(Api::AnthropicMessages) {
        let version = client.get(&ANTHROPIC_VERSION).cloned();
        headers.insert(ANTHROPIC_VERSION, version.unwrap_or(DEFAULT_ANTHROPIC_VERSION));
        for beta in client.get_all(&ANTHROPIC_BETA) {
            headers.append(ANTHROPIC_BETA, beta.clone());
        }
    }
    if let Some(name) = &model.upstream_authorization_env {
        let value = std::env::var(name).ok().and_then(|value| HeaderValue::try_from(value).ok());
        let mut value = value.ok_or_else(|| {
            let what = "the variable of upstream_authorization_env is not set";
            tracing::error!(model = model.path, what, "a model cannot be run as it is configured");
            let message = "the credentials of the model's provider are not configured: ask the operator of the server";
            Refusal::new(StatusCode::BAD_GATEWAY, "upstream", message)
        })?;
        value.set_sensitive(true);
        headers.insert(credentials(upstream, &value), value);
    }
    Ok(request)
}

/// Returns `x-api-key` for a bare key of Anthropic's API, or else `Authorization`.
fn credentials(upstream: &Upstream, value: &HeaderValue) -> HeaderName {
    let has_scheme = value.as_bytes().contains(&b' ');
    match upstream.configured {
        Some(Api::AnthropicMessages) if !has_scheme => X_API_KEY,
        _ => AUTHORIZATION,
    }
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
/// For clients that send no version: Anthropic refuses a call without one. Its SDKs always send one.
const DEFAULT_ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
