//! The engine over HTTP, for services that are not written in Rust.
//!
//! The access key of a request is that of the key to be charged. A decision is an answer: 200, whether it allows or denies,
//! with the engine's own words. Only what is wrong with the request or its key is an error, as
//! `application/problem+json`.

pub(crate) mod check;
pub(crate) mod reservations;
pub(crate) mod schema;
pub(crate) mod usage;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use limiter::{Decision, Denied};
use serde::Serialize;

use crate::refusal::{Refusal, whole_seconds};

/// A denial, and the sentence that explains it.
#[derive(Serialize)]
struct DenialAnswer<'a> {
    outcome: &'static str,
    #[serde(flatten)]
    denied: &'a Denied,
    message: String,
}

/// A decision as it is answered, unless the caller's key may make no calls at all.
fn answer(decision: &Decision) -> Result<Response, Refusal> {
    match decision {
        Decision::Allowed(_) => Ok(Json(decision).into_response()),
        Decision::Denied(denied) => {
            let answer = denial(denied)?;
            Ok((retry_after(denied), Json(answer)).into_response())
        }
    }
}

fn denial(denied: &Denied) -> Result<DenialAnswer<'_>, Refusal> {
    match Refusal::of_caller(denied) {
        Some(refusal) => Err(refusal),
        None => Ok(DenialAnswer { outcome: "denied", denied, message: denied.to_string() }),
    }
}

fn retry_after(denied: &Denied) -> HeaderMap {
    let wait = denied.retry_after().map(whole_seconds);
    wait.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))).into_iter().collect()
}
