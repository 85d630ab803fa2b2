//! Advice on retries of refused calls, and its headers.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use limiter::StoreError;

use crate::standing::whole_seconds;

/// Advice on whether to retry a refused call, and when.
///
/// ```
/// use std::time::Duration;
///
/// use http::HeaderMap;
/// use limiter_tower::Retry;
///
/// let headers = |retry: Retry| {
///     let mut headers = HeaderMap::new();
///     retry.write(Duration::from_secs(60), &mut headers);
///     headers
/// };
/// // The client may sleep for half a minute and retry automatically.
/// let soon = headers(Retry::After { seconds: 31 });
/// assert!(soon["retry-after"] == "31" && !soon.contains_key("x-should-retry"));
/// // An error now is better than a call that sleeps for eight hours.
/// let tonight = headers(Retry::After { seconds: 28_149 });
/// assert!(tonight["retry-after"] == "28149" && tonight["x-should-retry"] == "false");
/// let never = headers(Retry::Never);
/// assert!(!never.contains_key("retry-after") && never["x-should-retry"] == "false");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call may pass after this wait.
    After {
        /// Whole seconds, rounded up.
        seconds: u64,
    },
    /// Waiting does not help, or the call may have been charged and must not be retried blindly.
    Never,
}

impl Retry {
    /// The default bound of [`write`](Self::write): one minute. The longest wait for a limit per minute is within it, and a
    /// client that sleeps for longer inside a call seems to hang.
    pub const BOUND: Duration = Duration::from_secs(60);

    /// The header that the SDKs of OpenAI, Anthropic and others read before status and `Retry-After`.
    pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

    /// A retry after this wait: whole seconds, rounded up, at least one.
    #[must_use]
    pub fn after(wait: Duration) -> Self {
        Self::After { seconds: whole_seconds(wait).max(1) }
    }

    /// Returns the wait in whole seconds; `None` for [`Never`](Self::Never).
    #[must_use]
    pub const fn seconds(self) -> Option<u64> {
        match self {
            Self::After { seconds } => Some(seconds),
            Self::Never => None,
        }
    }

    /// Writes `Retry-After`, and `x-should-retry: false` if no retry helps or the wait is longer than the bound.
    ///
    /// Without the second header, Anthropic's SDK sleeps inside the call for all of `Retry-After`, and OpenAI's SDK
    /// retries a call that cannot succeed. `Retry-After` is correct beyond the bound too, so it is sent.
    pub fn write(self, bound: Duration, headers: &mut HeaderMap) {
        let seconds = self.seconds();
        if let Some(seconds) = seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if seconds.is_none_or(|seconds| Duration::from_secs(seconds) > bound) {
            headers.insert(Self::SHOULD_RETRY, FALSE);
        }
    }
}

/// Advises a retry if the store cannot be reached. After other errors the call may have been charged, or the store
/// needs an operator.
impl From<&StoreError> for Retry {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::After { seconds: OUTAGE_SECONDS },
            _ => Self::Never,
        }
    }
}

const FALSE: HeaderValue = HeaderValue::from_static("false");

/// `Retry-After` of an outage: short, since most outages are failovers.
pub(crate) const OUTAGE_SECONDS: u64 = 1;
