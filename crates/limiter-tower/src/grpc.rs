//! Refusals over gRPC: a status in the headers of a response without a body.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::kind::Kind;

/// Returns the status code of gRPC for a kind of refusal.
const fn code(kind: Kind) -> u16 {
    match kind {
        Kind::NotFound | Kind::Invalid => 3, // INVALID_ARGUMENT
        Kind::Permission => 7,               // PERMISSION_DENIED
        Kind::Budget | Kind::Limit | Kind::TooLarge => 8, // RESOURCE_EXHAUSTED
        Kind::Failure => 13,                 // INTERNAL
        Kind::Unavailable => 14,             // UNAVAILABLE
        Kind::Key => 16,                     // UNAUTHENTICATED
    }
}

/// Whether a call expects an answer over gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| value.starts_with(GRPC.as_bytes()))
}

pub(crate) fn response(kind: Kind, message: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(GRPC_STATUS, HeaderValue::from(code(kind)));
    let message = utf8_percent_encode(message, OUTSIDE_OF_MESSAGES).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The characters that gRPC over HTTP/2 encodes: all but visible ASCII and the space, and the percent sign itself.
const OUTSIDE_OF_MESSAGES: &AsciiSet = &CONTROLS.add(b'%');
