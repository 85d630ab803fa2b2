//! How a call ended, in a word of a short list: no word comes from outside.

use limiter_core::{
    Decision, DenialReason, KeysError, RateLimited, ReservationError, Rule, StoreError,
};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allowed,
    /// Allowed before under the same id, and not charged again.
    Replayed,
    KeyUnknown,
    KeyExpired,
    AdminKey,
    BudgetExhausted,
    RateLimited,
    /// Let through in shadow mode: it would have been denied.
    Shadowed,
    /// For a reason that this version has no word for.
    Denied,
    /// What was asked for is done.
    Done,
    /// What was asked for cannot be: a reservation that is unknown or settled, a key that is taken, too many ids.
    Refused,
    /// The store gave no answer, or one that cannot be.
    Error,
}

/// What is told of a call that has ended.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) outcome: Outcome,
    /// Whether a policy answered in place of the store.
    pub(crate) degraded: bool,
    /// The rule that binds, where a limit was the reason to deny.
    pub(crate) rule: Option<Rule>,
    pub(crate) error: Option<&'a StoreError>,
}

/// The error of an operation, which may be the store's.
pub(crate) trait CallError: Send {
    fn of_store(&self) -> Option<&StoreError>;
}

impl Outcome {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; 12] = [
        Self::Allowed,
        Self::Replayed,
        Self::KeyUnknown,
        Self::KeyExpired,
        Self::AdminKey,
        Self::BudgetExhausted,
        Self::RateLimited,
        Self::Shadowed,
        Self::Denied,
        Self::Done,
        Self::Refused,
        Self::Error,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Replayed => "replayed",
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired => "key_expired",
            Self::AdminKey => "admin_key",
            Self::BudgetExhausted => "budget_exhausted",
            Self::RateLimited => "rate_limited",
            Self::Shadowed => "shadowed",
            Self::Denied => "denied",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }

    fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Allowed(allowed) if allowed.replayed() => Self::Replayed,
            Decision::Allowed(allowed) if allowed.shadowed().is_some() => Self::Shadowed,
            Decision::Allowed(_) => Self::Allowed,
            Decision::Denied(denied) => match denied.reason() {
                DenialReason::KeyUnknown => Self::KeyUnknown,
                DenialReason::KeyExpired { .. } => Self::KeyExpired,
                DenialReason::AdminKey => Self::AdminKey,
                DenialReason::BudgetExhausted { .. } => Self::BudgetExhausted,
                DenialReason::RateLimited(_) => Self::RateLimited,
                _ => Self::Denied,
            },
        }
    }
}

pub(crate) fn of_decision<E: CallError>(answer: &Result<Decision, E>) -> Told<'_> {
    match answer {
        Ok(decision) => Told {
            outcome: Outcome::of(decision),
            degraded: decision.is_degraded(),
            rule: binding(decision),
            error: None,
        },
        Err(error) => of_error(error),
    }
}

pub(crate) fn of_answer<T, E: CallError>(answer: &Result<T, E>) -> Told<'_> {
    match answer {
        Ok(_) => Told { outcome: Outcome::Done, degraded: false, rule: None, error: None },
        Err(error) => of_error(error),
    }
}

fn of_error(error: &impl CallError) -> Told<'_> {
    let error = error.of_store();
    let outcome = if error.is_some() { Outcome::Error } else { Outcome::Refused };
    Told { outcome, degraded: false, rule: None, error }
}

fn binding(decision: &Decision) -> Option<Rule> {
    let denied = decision.denied().or_else(|| decision.shadowed())?;
    let limited = denied.rate_limited().and_then(RateLimited::binding)?;
    Some(limited.rule)
}

impl CallError for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl CallError for ReservationError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl CallError for KeysError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
