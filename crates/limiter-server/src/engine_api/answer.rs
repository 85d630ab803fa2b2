//! Responses with a decision.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use limiter::{Allowed, Decision, Denied, RequestId};
use limiter_tower::{Dialect, Retry, Standing};
use serde::Serialize;
use utoipa::ToSchema;

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

/// A decision, and the id to settle by.
#[derive(Serialize, ToSchema)]
#[schema(as = Reserved)]
pub(super) struct ReservedAnswer<'a> {
    /// The id of the reservation; null if it was denied, or shadow mode alone let it through: then there is nothing to settle.
    #[schema(required = true)]
    reservation: Option<&'a RequestId>,
    /// The decision.
    decision: DecisionAnswer<'a>,
}

/// Allowed and charged, or denied and not charged.
#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum DecisionAnswer<'a> {
    /// The call may go on; it is charged.
    Allowed(&'a Allowed),
    /// The call may not go on; nothing is charged.
    Denied {
        #[serde(flatten)]
        denied: &'a Denied,
        /// The denial in a sentence.
        message: String,
    },
}

impl<'a> DecisionAnswer<'a> {
    fn of(decision: &'a Decision) -> Result<Self, Refusal> {
        match decision {
            Decision::Allowed(allowed) => Ok(Self::Allowed(allowed)),
            Decision::Denied(denied) => match Refusal::of_caller(denied) {
                Some(refusal) => Err(refusal),
                None => Ok(Self::Denied { denied, message: denied.to_string() }),
            },
        }
    }
}

/// Writes the text into one buffer that need not grow, since every call waits for this.
fn respond(
    answer: &impl Serialize,
    decision: &Decision,
    dialects: &[Dialect],
) -> Result<Response, Refusal> {
    let mut text = Vec::with_capacity(TYPICAL_BYTES);
    serde_json::to_writer(&mut text, answer).map_err(|error| {
        let message = format!("the decision was made and charged, but cannot be rendered: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })?;
    let mut response = Response::new(Body::from(text));
    *response.headers_mut() = headers(decision, dialects);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

/// The state of the limits and the retry advice, which a service may pass on to its own client.
fn headers(decision: &Decision, dialects: &[Dialect]) -> HeaderMap {
    let standing = Standing::from(decision);
    let mut headers = HeaderMap::new();
    Dialect::write_all(dialects, standing, &mut headers);
    if let Some(retry) = standing.retry() {
        retry.write(Retry::BOUND, &mut headers);
    }
    headers
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// A decision with all eight rules, and half of that again.
const TYPICAL_BYTES: usize = 2_048;
