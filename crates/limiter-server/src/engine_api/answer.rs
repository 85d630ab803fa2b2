//! How a decision is answered.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use limiter::{Decision, Denied, RequestId};
use limiter_tower::{Dialect, Standing};
use serde::Serialize;

use crate::refusal::Refusal;

/// A decision, unless the caller's key may make no calls at all.
pub(super) fn decided(decision: &Decision, dialects: &[Dialect]) -> Result<Response, Refusal> {
    let answer = DecisionAnswer::of(decision)?;
    Ok((headers(decision, dialects), Json(answer)).into_response())
}

/// The same with the id to settle by, if there is one.
pub(super) fn reserved(
    reservation: Option<&RequestId>,
    decision: &Decision,
    dialects: &[Dialect],
) -> Result<Response, Refusal> {
    let answer = ReservedAnswer { reservation, decision: DecisionAnswer::of(decision)? };
    Ok((headers(decision, dialects), Json(answer)).into_response())
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

/// How the limits stand, and when to come back.
fn headers(decision: &Decision, dialects: &[Dialect]) -> HeaderMap {
    let standing = Standing::from(decision);
    let mut headers = HeaderMap::new();
    for dialect in dialects {
        dialect.write(standing, &mut headers);
    }
    if let Some(seconds) = standing.retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    headers
}
