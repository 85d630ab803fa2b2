//! Why a request is not answered with what it asked for, and how that looks on the wire and in the engine's API.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use limiter::{DenialReason, Denied, InvalidValue, KeysError, ReservationError, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

/// A refused request. Handlers return it bare; the [guard](crate::guard) renders it in the style of its path.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// A word for programs.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

/// An error of the engine's API, as RFC 9457 has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A word for programs, such as `unknown_key`.
    code: &'static str,
    /// What happened, to what, and what to do.
    detail: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireError {
    status_code: u16,
    message: String,
    error: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// What came in cannot be read or is out of bounds.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(crate) fn unknown_key() -> Self {
        let message = "the access key is missing or not known: send that of a living key as x-api-key: KEY, or as \
                       Authorization: Token KEY";
        Self::new(StatusCode::UNAUTHORIZED, UNKNOWN_KEY, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// As the aiXplain SDK expects it. Who is not allowed is told "Forbidden" and no more: the SDK looks for that word.
    pub(crate) fn on_the_wire(self) -> Response {
        let message =
            if self.status == StatusCode::FORBIDDEN { "Forbidden".into() } else { self.message };
        let body = WireError {
            status_code: self.status.as_u16(),
            message,
            error: format!("err.{}", self.code),
        };
        with_headers(self.status, self.retry_after, (self.status, Json(body)).into_response())
    }

    /// As `application/problem+json`.
    pub(crate) fn into_problem(self) -> Response {
        let body = Problem {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.message,
        };
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        with_headers(self.status, self.retry_after, response)
    }
}

/// Whole seconds, rounded up and at least one: who comes back a moment too early is refused again.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX).max(1)
}

fn with_headers(
    status: StatusCode,
    retry_after: Option<Duration>,
    mut response: Response,
) -> Response {
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
    }
    if let Some(wait) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<InvalidValue> for Refusal {
    fn from(error: InvalidValue) -> Self {
        Self::malformed(error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store gave no answer");
        let code = match error {
            StoreError::OutcomeUnknown(_) => "outcome_unknown",
            _ => "store",
        };
        Self::unavailable(code, error.to_string())
    }
}

impl From<KeysError> for Refusal {
    fn from(error: KeysError) -> Self {
        let message = error.to_string();
        match error {
            KeysError::UnknownCaller => Self::unknown_key(),
            KeysError::ExpiredCaller => Self::new(StatusCode::UNAUTHORIZED, "expired_key", message),
            KeysError::Forbidden => Self::forbidden(message),
            KeysError::NotFound(_) => Self::not_found(message),
            KeysError::NameTaken(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "name_taken", message)
            }
            KeysError::Invalid(error) => error.into(),
            KeysError::Store(error) => error.into(),
            KeysError::Entropy(_) => Self::unavailable("entropy", message),
            // Taken ids and access keys, the last admin, a version that is not that of now.
            _ => Self::conflict(message),
        }
    }
}

impl From<ReservationError> for Refusal {
    fn from(error: ReservationError) -> Self {
        let message = error.to_string();
        match error {
            ReservationError::KeyUnknown => Self::unknown_key(),
            ReservationError::Unknown(_) => Self::not_found(message),
            ReservationError::Shrinks => Self::malformed(message),
            ReservationError::TooMany { .. } => Self::unavailable("too_many_reservations", message),
            ReservationError::Invalid(error) => error.into(),
            ReservationError::Store(error) => error.into(),
            // Another reservation has the id, or this one is settled.
            _ => Self::conflict(message),
        }
    }
}

impl Refusal {
    /// A denial that is about the caller and not about how much it has used: the same for every call of its key.
    pub(crate) fn of_caller(denied: &Denied) -> Option<Self> {
        match denied.reason() {
            DenialReason::KeyUnknown => Some(Self::unknown_key()),
            DenialReason::KeyExpired { .. } => {
                Some(Self::new(StatusCode::UNAUTHORIZED, "expired_key", denied.to_string()))
            }
            DenialReason::AdminKey => Some(Self::forbidden(denied.to_string())),
            _ => None,
        }
    }
}

/// The code of the refusals that are counted, since somebody may be guessing keys.
pub(crate) const UNKNOWN_KEY: &str = "unknown_key";
const PROBLEM_JSON: &str = "application/problem+json";
