//! The kinds of refusals that statuses, error formats and gRPC codes distinguish.

use http::StatusCode;
use limiter::{DenialReason, Denied};

use crate::refusal::Refusal;

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The access key is missing, unknown or expired: another one may help.
    Key,
    Permission,
    Budget,
    Limit,
    NotFound,
    Invalid,
    TooLarge,
    Unavailable,
    Failure,
}

impl Kind {
    pub(crate) fn of(refusal: &Refusal) -> Self {
        Self::and_reason_of(refusal).0
    }

    /// Returns the kind of a refusal, and its name for programs.
    pub(crate) fn and_reason_of(refusal: &Refusal) -> (Self, &'static str) {
        match refusal {
            Refusal::NoAccessKey => (Self::Key, "no_access_key"),
            Refusal::Denied(denied) => (Self::of_denied(denied), denied.reason().as_str()),
            Refusal::Invalid(_) | Refusal::Malformed(_) => (Self::Invalid, "invalid"),
            Refusal::TooLarge { .. } => (Self::TooLarge, "too_large"),
            Refusal::Store(_) | Refusal::Identify(_) => (Self::Unavailable, "unavailable"),
            Refusal::TooManyReservations(_) => (Self::Unavailable, "too_many_reservations"),
            Refusal::Panicked(_) => (Self::Failure, "internal"),
        }
    }

    pub(crate) const fn of_denied(denied: &Denied) -> Self {
        match denied.reason() {
            DenialReason::KeyUnknown | DenialReason::KeyExpired { .. } => Self::Key,
            DenialReason::BudgetExhausted(_) => Self::Budget,
            DenialReason::RateLimited(_) => Self::Limit,
            DenialReason::TooManyKeys { .. } => Self::Unavailable,
            // `AdminKey`, `AssetDenied`, or a reason that this version does not know.
            _ => Self::Permission,
        }
    }

    /// The kind of a service's own problem.
    pub(crate) const fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::Key,
            402 => Self::Budget,
            403 => Self::Permission,
            404 => Self::NotFound,
            413 => Self::TooLarge,
            429 => Self::Limit,
            400..=499 => Self::Invalid,
            503 | 529 => Self::Unavailable,
            _ => Self::Failure,
        }
    }
}
