//! The HTTP statuses of refused calls.

use http::StatusCode;
use limiter::decision::LimitExceeded;
use limiter::{Denied, Rule, Window};

use crate::kind::Kind;
use crate::refusal::Refusal;

/// The HTTP statuses of refused calls.
///
/// ```
/// use http::StatusCode;
/// use limiter_tower::StatusMap;
///
/// // As aiXplain answers: 497 for limits per minute, 429 for limits per day and for the budget.
/// let statuses = StatusMap::new()
///     .with_minute_limits(StatusCode::from_u16(497)?)
///     .with_budget_exhausted(StatusCode::TOO_MANY_REQUESTS);
/// # Ok::<(), http::status::InvalidStatusCode>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct StatusMap {
    unauthenticated: StatusCode,
    forbidden: StatusCode,
    budget_exhausted: StatusCode,
    rate_limited: StatusCode,
    minute_limits: Option<StatusCode>,
    invalid: StatusCode,
    unavailable: StatusCode,
}

impl StatusMap {
    /// 429 for limits, 401 for keys that are missing, unknown or expired, 403 for admin keys and denied assets, 402 for budgets, 400 for an
    /// invalid asset, charge or request, 503 if the store cannot answer or remember the call. A panic in a function of
    /// the service is always 500, and a request body that is too large 413.
    pub const fn new() -> Self {
        Self {
            unauthenticated: StatusCode::UNAUTHORIZED,
            forbidden: StatusCode::FORBIDDEN,
            budget_exhausted: StatusCode::PAYMENT_REQUIRED,
            rate_limited: StatusCode::TOO_MANY_REQUESTS,
            minute_limits: None,
            invalid: StatusCode::BAD_REQUEST,
            unavailable: StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// For keys that are missing, unknown or expired; 401 by default.
    pub const fn with_unauthenticated(self, status: StatusCode) -> Self {
        Self { unauthenticated: status, ..self }
    }

    /// For calls that the key may not make: those of admin keys, and those of assets that the key denies; 403 by default.
    pub const fn with_forbidden(self, status: StatusCode) -> Self {
        Self { forbidden: status, ..self }
    }

    /// For a budget that is exhausted; 402 by default.
    pub const fn with_budget_exhausted(self, status: StatusCode) -> Self {
        Self { budget_exhausted: status, ..self }
    }

    /// For limits; 429 by default.
    pub const fn with_rate_limited(self, status: StatusCode) -> Self {
        Self { rate_limited: status, ..self }
    }

    /// For limits of which one per minute or a parallel one binds; by default as for all limits.
    pub const fn with_minute_limits(self, status: StatusCode) -> Self {
        Self { minute_limits: Some(status), ..self }
    }

    /// For an invalid asset, charge or request; 400 by default.
    pub const fn with_invalid(self, status: StatusCode) -> Self {
        Self { invalid: status, ..self }
    }

    /// For a store that cannot answer, and for a key of which no more calls can be remembered; 503 by default.
    pub const fn with_unavailable(self, status: StatusCode) -> Self {
        Self { unavailable: status, ..self }
    }

    /// The status of this refusal.
    #[must_use]
    pub fn of(&self, refusal: &Refusal) -> StatusCode {
        match refusal {
            Refusal::Denied(denied) => self.of_denied(denied),
            refusal => self.of_kind(Kind::of(refusal)),
        }
    }

    /// The status of this denial.
    #[must_use]
    pub fn of_denied(&self, denied: &Denied) -> StatusCode {
        let binding = denied.exceeded().and_then(LimitExceeded::binding);
        match (binding, self.minute_limits) {
            (Some(binding), Some(status)) if is_short(binding.rule) => status,
            _ => self.of_kind(Kind::of_denied(denied)),
        }
    }

    const fn of_kind(&self, kind: Kind) -> StatusCode {
        match kind {
            Kind::Key => self.unauthenticated,
            Kind::Permission => self.forbidden,
            Kind::Budget => self.budget_exhausted,
            Kind::Limit => self.rate_limited,
            Kind::NotFound | Kind::Invalid => self.invalid,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Unavailable => self.unavailable,
            Kind::Failure => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Default for StatusMap {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns whether a denial by this rule is soon over.
fn is_short(rule: Rule) -> bool {
    rule.is_parallel() || rule.window() == Some(Window::Minute)
}
