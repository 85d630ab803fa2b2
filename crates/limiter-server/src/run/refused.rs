//! Answers of a provider that does not run a model, and the client's answer for each.
//!
//! | the provider answers | the client gets |
//! |---|---|
//! | 401, 402, 403, 407 | 502: the provider refuses this server; 401 or 403 would blame the client's key |
//! | another 4xx | the same status, `Retry-After`, `x-should-retry`, content type and body |
//! | anything else | 502, with `Retry-After` |

use std::time::Duration;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Response as HttpResponse, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use limiter_tower::Retry;

use super::upstream::{Stopped, broken};
use crate::models::Model;
use crate::refusal::Refusal;

/// Translates the provider's refusal into the answer for the client.
pub(super) async fn pass_on(model: &Model, answer: HttpResponse<Incoming>) -> Stopped {
    let (head, body) = answer.into_parts();
    let (status, headers) = (head.status, head.headers);
    if matches!(status.as_u16(), 401 | 402 | 403 | 407) {
        // The body may contain a part of the server's credentials.
        tracing::error!(
            model = model.path,
            status = status.as_u16(),
            "the provider refuses the credentials of this server, or its account"
        );
        let message = "the model's provider refuses this server, not the calling key: ask the operator of the server";
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "upstream_credentials", message);
        return refusal.with_retry(Retry::Never).into();
    }
    let message = format!("the model's provider answered {}", status.as_u16());
    if !status.is_client_error() {
        let retry = seconds(&headers).map(|seconds| Retry::After { seconds });
        return broken(message).with_retry(retry).into();
    }
    // Only the provider knows whether a retry helps.
    let retry = [RETRY_AFTER, Retry::SHOULD_RETRY];
    let retry = retry.map(|name| headers.get(&name).cloned().map(|value| (name, value)));
    let mut response = match readable(&headers, body).await {
        Some(body) => {
            let content_type = headers.get(CONTENT_TYPE).cloned();
            let content_type = content_type.unwrap_or(HeaderValue::from_static(UNKNOWN_TYPE));
            (status, [(CONTENT_TYPE, content_type)], body).into_response()
        }
        None => Refusal::new(status, "upstream", message).with_retry(None).into_response(),
    };
    response.headers_mut().extend(retry.into_iter().flatten());
    Stopped::ByProvider(Box::new(response))
}

/// Returns whether a body must be decoded: it has an encoding other than `identity`.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|value| {
        let names = value.to_str().ok().map(|value| value.split(','));
        names.is_none_or(|mut names| {
            names.any(|name| !matches!(&*name.trim().to_ascii_lowercase(), "" | "identity"))
        })
    })
}

/// Returns a body that can be passed on: not empty, not compressed, complete, within its bound and in time.
async fn readable(headers: &HeaderMap, body: Incoming) -> Option<Bytes> {
    if is_encoded(headers) {
        return None;
    }
    let collected = Limited::new(body, MAX_REFUSAL).collect();
    let collected = tokio::time::timeout(REFUSAL_TIMEOUT, collected).await.ok()?.ok()?;
    Some(collected.to_bytes()).filter(|body| !body.is_empty())
}

/// Returns `Retry-After` in seconds, or none if it is a date.
fn seconds(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// Bytes of a refusal's body: an explanation, perhaps with the request in question.
const MAX_REFUSAL: usize = 64 << 10;
/// Deadline for that body, which normally comes with its head. Past it, the client is answered without the body.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Content type of a body that came without one.
const UNKNOWN_TYPE: &str = "application/octet-stream";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_found_in_every_form() {
        let plain = ["", "identity", "Identity"].map(|value| (value, false));
        let encoded = ["gzip", "GZIP", "identity, br", "\u{ff}"].map(|value| (value, true));
        for (value, encoded) in plain.into_iter().chain(encoded) {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, value.clone())]);
            assert_eq!(is_encoded(&headers), encoded, "{value:?}");
        }
        assert!(!is_encoded(&HeaderMap::new()));
    }
}
