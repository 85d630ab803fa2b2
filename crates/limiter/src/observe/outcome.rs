//! The outcome of a call, as one of a fixed set of words.

use limiter_core::{CallError, Decision, DenialReason, RateLimited, Rule, StoreError};

/// The outcome of a call.
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
    /// Allowed in shadow mode; it would have been denied.
    Shadowed,
    /// Denied for a reason that this version does not know.
    Denied,
    /// The operation was done; it decides nothing.
    Done,
    /// The operation was refused: an unknown reservation, a name that is taken, too many ids.
    Refused,
    /// The store gave no answer, or its data is corrupt.
    Error,
}

/// The end of a call.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) outcome: Outcome,
    /// Whether a failure policy answered in place of the store.
    pub(crate) degraded: bool,
    /// The binding rule of a denial by limits.
    pub(crate) rule: Option<Rule>,
    pub(crate) error: Option<&'a StoreError>,
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

impl<'a> Ended<'a> {
    pub(crate) fn decided(decision: &Decision) -> Self {
        let denied = decision.denied().or_else(|| decision.shadowed());
        let binding =
            denied.and_then(|denied| denied.rate_limited()).and_then(RateLimited::binding);
        Self {
            outcome: Outcome::of(decision),
            degraded: decision.is_degraded(),
            rule: binding.map(|violation| violation.rule),
            error: None,
        }
    }

    pub(crate) const fn done() -> Self {
        Self { outcome: Outcome::Done, degraded: false, rule: None, error: None }
    }

    pub(crate) fn failed(error: &'a impl CallError) -> Self {
        let error = error.of_store();
        let outcome = if error.is_some() { Outcome::Error } else { Outcome::Refused };
        Self { outcome, error, ..Self::done() }
    }
}
