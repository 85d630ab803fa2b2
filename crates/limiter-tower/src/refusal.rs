//! Refused calls: the reason and the response.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, Response};
use limiter::__private::Throttle;
use limiter::store::BoxError;
use limiter::{Denied, InvalidValue, ReservationError, StoreError};

use crate::dialect::Dialect;
use crate::error_format::ErrorFormat;
use crate::grpc;
use crate::kind::Kind;
use crate::problem::Problem;
use crate::retry::{OUTAGE_SECONDS, Retry};
use crate::standing::Standing;
use crate::status::StatusMap;

/// Why a call does not reach the service.
///
/// Only [`Denied`](Self::Denied) is a decision. None of the others is ever an allow: what cannot be decided is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The access key is missing or malformed.
    NoAccessKey,
    /// The limiter decided against it.
    Denied(Denied),
    /// Too many calls of the key are remembered; nothing was charged. This is a bound of the service and not a limit of
    /// the caller. So the response is that of an outage, with the time at which there is room.
    TooManyReservations(ReservationError),
    /// The asset or the charge of the call is invalid.
    Invalid(InvalidValue),
    /// The path, a header or the body of the call is malformed, for this reason.
    Malformed(Cow<'static, str>),
    /// The request body is larger than the layer reads.
    TooLarge {
        /// The largest size that the layer reads.
        max_bytes: usize,
    },
    /// The store could not answer.
    Store(StoreError),
    /// The function that identifies the caller failed.
    Identify(BoxError),
    /// A function of the service that reads calls has panicked. The value is its name in
    /// [`RateLimitLayerBuilder`](crate::RateLimitLayerBuilder). Nothing was charged.
    Panicked(&'static str),
}

impl Refusal {
    /// Returns the HTTP response: a status, headers of these dialects, `Retry-After` and `x-should-retry` by this
    /// [bound](Retry::write), and the [`Problem`] as `application/problem+json`.
    #[must_use]
    pub fn to_response(
        &self,
        statuses: &StatusMap,
        dialects: &[Dialect],
        retry_bound: Duration,
    ) -> Response<Bytes> {
        let mut response = Problem::of(self, statuses.of(self)).to_response();
        self.write_headers(dialects, retry_bound, response.headers_mut());
        response
    }

    /// Returns the response in the format of an LLM provider's API, with the same headers. The provider's SDKs show
    /// message and code.
    ///
    /// ```
    /// use limiter_tower::{ErrorFormat, Refusal, Retry};
    ///
    /// let format = ErrorFormat::Anthropic;
    /// let response = Refusal::NoAccessKey.to_api_response(format, &format.statuses(), &[], Retry::BOUND);
    /// assert_eq!(response.status(), 401);
    /// let error: serde_json::Value = serde_json::from_slice(response.body())?;
    /// assert_eq!(error["error"]["type"], "authentication_error");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn to_api_response(
        &self,
        format: ErrorFormat,
        statuses: &StatusMap,
        dialects: &[Dialect],
        retry_bound: Duration,
    ) -> Response<Bytes> {
        let mut response = Problem::of(self, statuses.of(self)).to_api_response(format);
        self.write_headers(dialects, retry_bound, response.headers_mut());
        response
    }

    /// The answer over gRPC: a status in a response without a body (*trailers-only*), with the same headers.
    #[must_use]
    pub fn to_grpc_response(&self, dialects: &[Dialect], retry_bound: Duration) -> Response<Bytes> {
        let mut response = grpc::response(Kind::of(self), &self.to_string());
        self.write_headers(dialects, retry_bound, response.headers_mut());
        response
    }

    /// Returns whether a retry can succeed, and when. `None` if that is unknown: the client decides by the status.
    ///
    /// A call denied by limits may be repeated at its [`retry_at`](Denied::retry_at), if it has one, and a call that found
    /// no room at [its own](ReservationError::retry_at). A store that cannot be reached may be back in a second. A call
    /// whose outcome is unknown may have been charged, and must not be retried blindly. Waiting does not help if the key,
    /// the budget or the request is the problem.
    #[must_use]
    pub fn retry(&self) -> Option<Retry> {
        match self {
            Self::Denied(denied) => Standing::from(denied).retry(),
            Self::NoAccessKey | Self::Invalid(_) | Self::Malformed(_) | Self::TooLarge { .. } => {
                Some(Retry::Never)
            }
            Self::Store(error) => Some(error.into()),
            Self::Identify(_) => Some(Retry::After { seconds: OUTAGE_SECONDS }),
            Self::TooManyReservations(error) => error.retry_after().map(Retry::after),
            Self::Panicked(_) => None,
        }
    }

    /// Returns the value of `Retry-After` in whole seconds, rounded up; `None` if no wait is known to help: see
    /// [`retry`](Self::retry).
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry().and_then(Retry::seconds)
    }

    pub(crate) fn malformed(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(why.into())
    }

    fn write_headers(&self, dialects: &[Dialect], retry_bound: Duration, headers: &mut HeaderMap) {
        if let Some(retry) = self.retry() {
            retry.write(retry_bound, headers);
        }
        if Kind::of(self) == Kind::Key {
            headers.insert(WWW_AUTHENTICATE, BEARER);
        }
        if let Self::Denied(denied) = self {
            Dialect::write_all(dialects, Standing::from(denied), headers);
        }
    }

    /// Warns the operator, with causes that the client does not see.
    pub(crate) fn log(&self, warnings: &Throttle) {
        let cause: &dyn std::error::Error = match self {
            Self::Store(error) => error,
            Self::TooManyReservations(error) => error,
            Self::Identify(error) => &**error,
            // A panic is logged where it is caught.
            _ => return,
        };
        if let Some(suppressed) = warnings.admit(Instant::now()) {
            let reason = cause.source().map(ToString::to_string);
            tracing::warn!(
                error = %cause, reason, suppressed,
                "a call was refused because it could not be decided"
            );
        }
    }
}

/// A sentence for the client. It shows no cause from inside the service, and never an access key.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAccessKey => f.write_str("missing or malformed access key: send the access key of a living key"),
            Self::Denied(denied) => denied.fmt(f),
            Self::TooManyReservations(error) => error.fmt(f),
            Self::Invalid(error) => error.fmt(f),
            Self::Malformed(why) => f.write_str(why),
            Self::TooLarge { max_bytes } => {
                write!(f, "the request body is larger than {max_bytes} bytes: shorten it")
            }
            Self::Store(StoreError::Unavailable(_)) => {
                f.write_str("the limits cannot be checked right now; nothing was charged: try again in a moment")
            }
            Self::Store(_) => f.write_str(
                "the limits could not be checked; the call was not made, but may have been charged: check the usage before repeating it",
            ),
            Self::Identify(_) => f.write_str("the caller cannot be authenticated right now: try again in a moment"),
            Self::Panicked(_) => {
                f.write_str("the service failed to read the call because of a bug; nothing was charged: ask its operator")
            }
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<InvalidValue> for Refusal {
    fn from(error: InvalidValue) -> Self {
        Self::Invalid(error)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<ReservationError> for Refusal {
    fn from(error: ReservationError) -> Self {
        match error {
            ReservationError::Store(error) => Self::Store(error),
            ReservationError::Invalid(error) => Self::Invalid(error),
            other => Self::TooManyReservations(other),
        }
    }
}

/// A 401 has to name a scheme, and there is no registered one for `x-api-key`.
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
