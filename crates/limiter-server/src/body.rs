//! What a request says: its body, its path and its query, each refused with a sentence if it cannot be read.

use std::fmt;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use limiter::Object;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::bounds::Bounds;
use crate::refusal::Refusal;

/// A body of JSON, an object, whatever its content type says.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

/// One segment of the path, decoded after routing: it may have slashes in it.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

/// The query of the URL.
#[derive(Debug)]
pub(crate) struct Queried<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let bytes = read(request, &app.bounds).await?;
        match serde_json::from_slice(&bytes) {
            Ok(Object(value)) => Ok(Self(value)),
            Err(error) => Err(not_readable("body", error)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let segment = Path::<String>::from_request_parts(parts, state).await;
        segment
            .map(|Path(text)| Self(text))
            .map_err(|error: PathRejection| not_readable("path", error.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Queried<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|error: QueryRejection| not_readable("query", error.body_text()))
    }
}

/// The whole body, if it is neither too long nor too slow.
pub(crate) async fn read(request: Request, bounds: &Bounds) -> Result<Bytes, Refusal> {
    let max = bounds.max_body_bytes;
    let collected = Limited::new(request.into_body(), max).collect();
    match tokio::time::timeout(bounds.read_timeout, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is longer than the {max} bytes that are accepted");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message))
        }
        Ok(Err(_)) => Err(Refusal::malformed("the body ended before it was complete")),
        Err(_) => {
            let message = "the body did not come in time";
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message))
        }
    }
}

fn not_readable(what: &str, error: impl fmt::Display) -> Refusal {
    Refusal::malformed(format!("the {what} is not what this call expects: {error}"))
}
