//! How a decision is answered.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use limiter::{Decision, Denied, RequestId};
use limiter_tower::{Dialect, Retry, Standing};
use serde::Serialize;

use crate::refusal::Refusal;

/// A decision, unless the caller's key may make no calls at all.
pub(super) fn decided(decision: &Decision, dialects: &[Dialect]) -> Result<Response, Refusal> {
    let answer = DecisionAnswer::of(decision)?;
    respond(&answer, decision, dialects)
}

/// The same with the id to settle by, if there is one.
pub(super) fn reserved(
    reservation: Option<&RequestId>,
    decision: &Decision,
    dialects: &[Dialect],
) -> Result<Response, Refusal> {
    let answer = ReservedAnswer { reservation, decision: DecisionAnswer::of(decision)? };
    respond(&answer, decision, dialects)
}

#[derive(Serialize)]
struct ReservedAnswer<'a> {
    reservation: Option<&'a RequestId>,
    decision: DecisionAnswer<'a>,
}

/// A denial comes with the sentence that explains it.
#[derive(Serialize)]
#[serde(untagged)]
enum DecisionAnswer<'a> {
    Allowed(&'a Decision),
    Denied {
        outcome: &'static str,
        #[serde(flatten)]
        denied: &'a Denied,
        message: String,
    },
}

impl<'a> DecisionAnswer<'a> {
    fn of(decision: &'a Decision) -> Result<Self, Refusal> {
        let Some(denied) = decision.denied() else { return Ok(Self::Allowed(decision)) };
        match Refusal::of_caller(denied) {
            Some(refusal) => Err(refusal),
            None => Ok(Self::Denied { outcome: "denied", denied, message: denied.to_string() }),
        }
    }
}

/// Every call waits for this: so the text is written into one buffer that need not grow.
fn respond(
    answer: &impl Serialize,
    decision: &Decision,
    dialects: &[Dialect],
) -> Result<Response, Refusal> {
    let mut text = Vec::with_capacity(TYPICAL_BYTES);
    serde_json::to_writer(&mut text, answer).map_err(|error| {
        let message = format!("the decision was made, but cannot be told: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })?;
    let mut response = Response::new(Body::from(text));
    *response.headers_mut() = headers(decision, dialects);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

/// How the limits stand, and when to come back: what a service may pass on to its own client.
fn headers(decision: &Decision, dialects: &[Dialect]) -> HeaderMap {
    let standing = Standing::from(decision);
    let mut headers = HeaderMap::new();
    for dialect in dialects {
        dialect.write(standing, &mut headers);
    }
    if let Some(retry) = standing.retry() {
        retry.write(Retry::BOUND, &mut headers);
    }
    headers
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// A decision with all eight rules, and half of that again.
const TYPICAL_BYTES: usize = 2_048;
