//! Refusals over gRPC: a status in the headers of a response without a body.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::kind::Kind;

/// The status codes of gRPC that a refusal can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl From<Kind> for Code {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Key => Self::Unauthenticated,
            Kind::Permission => Self::PermissionDenied,
            Kind::Budget | Kind::Limit | Kind::TooLarge => Self::ResourceExhausted,
            Kind::NotFound | Kind::Invalid => Self::InvalidArgument,
            Kind::Failure => Self::Internal,
            Kind::Unavailable => Self::Unavailable,
        }
    }
}

/// Whether a call expects an answer over gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| value.starts_with(GRPC.as_bytes()))
}

pub(crate) fn response(code: Code, message: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
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
