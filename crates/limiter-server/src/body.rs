//! The parts of a request: its body, its path and its query, each refused with a sentence if it cannot be read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use limiter::__private::Object;
use limiter::stream::{Api, ApiRequest};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::admission::Admission;
use crate::app::App;
use crate::refusal::Refusal;

/// A JSON object as the body, whatever its content type.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

/// A body that was read before the handler runs, by [`admit`](crate::admission::admit).
#[derive(Clone, Debug)]
pub(crate) struct Whole(pub(crate) Bytes);

/// One segment of the path, decoded after routing: it may have slashes in it.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

/// The query of the URL.
#[derive(Debug)]
pub(crate) struct Queried<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Refusal> {
        object(&whole(request.extensions())?).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Whole {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        whole(&parts.extensions).map(Self)
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

/// Reads the whole body and takes room for it, unless it is too long or too slow.
pub(crate) async fn read(body: Body, app: &App) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    read_up_to(app.bounds.max_body_bytes, body, app).await
}

/// Reads a body of at most `max` bytes in the same way.
pub(crate) async fn read_up_to(
    max: usize,
    body: Body,
    app: &App,
) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    let collected = collect(body, max, &app.admission);
    let collected =
        tokio::time::timeout(Duration::from_secs(app.bounds.read_timeout_s), collected).await;
    collected.unwrap_or_else(|_| {
        let message = "the request body did not arrive in time: send it again, faster or shorter";
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message))
    })
}

async fn collect(
    mut body: Body,
    max: usize,
    admission: &Admission,
) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
    if body.size_hint().lower() > max as u64 {
        return Err(too_long(max));
    }
    let mut room = admission.room_for(0)?;
    // Most bodies come in one piece; such a piece is not copied.
    let (mut only, mut joined) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Refusal::malformed("the request body broke off: send it again"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if piece.len() > max - room.num_permits() {
            return Err(too_long(max));
        }
        let is_first = room.num_permits() == 0;
        room.merge(admission.room_for(piece.len())?);
        if is_first {
            only = piece;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut only));
            joined.extend_from_slice(&piece);
        }
    }
    let whole = if joined.is_empty() { only } else { joined.freeze() };
    Ok((whole, room))
}

/// Reads a JSON object.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Object(value)) => Ok(value),
        Err(error) => Err(not_readable("body", error)),
    }
}

/// Reads a request of a provider's API.
pub(crate) fn api_request(api: Api, body: &[u8]) -> Result<ApiRequest, Refusal> {
    ApiRequest::read(api, body).map_err(|error| Refusal::malformed(error.to_string()))
}

fn whole(extensions: &Extensions) -> Result<Bytes, Refusal> {
    // A bug in the routes, not a fault of the client: `admit` precedes every route that takes a body.
    let missing = "the server has a bug: the body was not read";
    let whole = extensions.get::<Whole>();
    whole
        .map(|whole| whole.0.clone())
        .ok_or_else(|| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", missing))
}

fn too_long(max: usize) -> Refusal {
    let message = format!("the request body is longer than {max} bytes: shorten it");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

fn not_readable(what: &str, error: impl fmt::Display) -> Refusal {
    Refusal::malformed(format!("the {what} of the request cannot be read: {error}"))
}
