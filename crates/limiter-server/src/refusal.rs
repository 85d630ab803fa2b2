//! Refused requests, rendered on the wire, in the engine's API and in the APIs of providers.

use axum::Json;
use axum::body::Body;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use limiter::{DenialReason, Denied, InvalidValue, KeysError, ReservationError, StoreError};
use limiter_tower::{ErrorFormat, Problem, Retry};
use serde::Serialize;

/// A refused request. Handlers return it bare; the [guard](crate::guard) renders it in the style of its path.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// A word for programs.
    pub(crate) code: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
    /// The retry advice, if any is known.
    pub(crate) retry: Option<Retry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireError<'a> {
    status_code: u16,
    message: &'a str,
    error: String,
}

impl Refusal {
    /// Makes a refusal. One with a 4xx status but 408 advises against a retry.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let is_final = status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT;
        let retry = is_final.then_some(Retry::Never);
        Self { status, code, message: message.into(), retry }
    }

    /// Refuses a request that cannot be read, or has a value out of bounds.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(crate) fn unknown_key() -> Self {
        let message = "missing, malformed or unknown access key: send the access key of a living key as x-api-key: KEY, \
                       Authorization: Bearer KEY or Authorization: Token KEY";
        Self::new(StatusCode::UNAUTHORIZED, DenialReason::KeyUnknown.as_str(), message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Refuses a request for a model that cannot be called at this path.
    pub(crate) fn model_not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "model_not_found", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// Refuses a request beyond the server's capacity at once, so that the client can try elsewhere.
    pub(crate) fn busy(why: &str) -> Self {
        Self::unavailable("busy", format!("{why}: try again in a moment"))
            .with_retry(Retry::After { seconds: BUSY_SECONDS })
    }

    /// Replaces the retry advice.
    pub(crate) fn with_retry(self, retry: impl Into<Option<Retry>>) -> Self {
        Self { retry: retry.into(), ..self }
    }

    /// Renders the error that the aiXplain SDK expects. The message of a 403 is "Forbidden": the SDK looks for that word.
    pub(crate) fn to_wire(&self) -> Response {
        let is_forbidden = self.status == StatusCode::FORBIDDEN;
        let message = if is_forbidden { "Forbidden" } else { &self.message };
        let body = WireError {
            status_code: self.status.as_u16(),
            message,
            error: format!("err.{}", self.code),
        };
        self.with_headers((self.status, Json(body)).into_response())
    }

    /// Renders `application/problem+json`, or the error format of a provider's API, whose SDKs show message and code.
    pub(crate) fn to_problem(&self, format: Option<ErrorFormat>) -> Response {
        let problem = Problem::new(self.status, self.code, self.message.clone());
        let response = match format {
            None => problem.to_response(),
            Some(format) => problem.to_api_response(format),
        };
        self.with_headers(response.map(Body::from))
    }

    fn with_headers(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Token"));
        }
        if let Some(retry) = self.retry {
            retry.write(Retry::BOUND, headers);
        }
        response
    }
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

/// Logs nothing: the limiter has already warned, at a limited rate.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::OutcomeUnknown(_) => "outcome_unknown",
            _ => "store",
        };
        Self::unavailable(code, error.to_string()).with_retry(Retry::from(&error))
    }
}

impl From<KeysError> for Refusal {
    fn from(error: KeysError) -> Self {
        let message = error.to_string();
        match error {
            KeysError::UnknownCaller => Self::unknown_key(),
            KeysError::ExpiredCaller => Self::new(StatusCode::UNAUTHORIZED, "key_expired", message),
            KeysError::Forbidden => Self::new(StatusCode::FORBIDDEN, "forbidden", message),
            KeysError::NotFound(_) => Self::not_found(message),
            KeysError::NameTaken(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "name_taken", message)
            }
            KeysError::NoGroup(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no_group", message)
            }
            KeysError::NoPlan(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no_plan", message),
            KeysError::PlanInUse(_) => Self::new(StatusCode::CONFLICT, "plan_in_use", message),
            KeysError::NotEmpty(_) => Self::new(StatusCode::CONFLICT, "not_empty", message),
            // Only an operator can repair it.
            KeysError::Damaged { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged_key", message)
                    .with_retry(Retry::Never)
            }
            KeysError::Invalid(error) => error.into(),
            KeysError::Store(error) => error.into(),
            KeysError::Entropy(_) => Self::unavailable("entropy", message),
            // Taken ids and access keys, the last admin, a stale version.
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
            ReservationError::TooMany { .. } => Self::unavailable("too_many_reservations", message)
                .with_retry(error.retry_after().map(Retry::after)),
            ReservationError::Invalid(error) => error.into(),
            ReservationError::Store(error) => error.into(),
            // Another reservation has the id, or this one is settled.
            _ => Self::conflict(message),
        }
    }
}

impl Refusal {
    /// Refuses a denied call if the reason is the key itself: the same for every call of the key.
    pub(crate) fn of_caller(denied: &Denied) -> Option<Self> {
        let reason = denied.reason();
        let status = match reason {
            DenialReason::KeyUnknown => return Some(Self::unknown_key()),
            DenialReason::KeyExpired { .. } => StatusCode::UNAUTHORIZED,
            DenialReason::AdminKey => StatusCode::FORBIDDEN,
            _ => return None,
        };
        Some(Self::new(status, reason.as_str(), denied.to_string()))
    }
}

/// Shortens input for a message, so that a refusal never carries a megabyte of it.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

const SHOWN_CHARACTERS: usize = 256;

/// `Retry-After` of a busy server: its queues turn over many times a second.
const BUSY_SECONDS: u64 = 1;
