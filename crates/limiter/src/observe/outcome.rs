//! The outcome of a call, as one of a fixed set of words.

use limiter_core::{CallError, Decision, DenialReason, Denied, LimitExceeded, Rule, StoreError};

use super::words::words;

words! {
    /// The outcome of a call.
    Outcome {
        Allowed = "allowed",
        /// Allowed before under the same id, and not charged again.
        Replayed = "replayed",
        KeyUnknown = "key_unknown",
        KeyExpired = "key_expired",
        AdminKey = "admin_key",
        AssetDenied = "asset_denied",
        BudgetExhausted = "budget_exhausted",
        RateLimited = "rate_limited",
        /// Allowed in shadow mode; it would have been denied.
        Shadowed = "shadowed",
        /// Denied for a reason that this version does not know.
        Denied = "denied",
        /// The operation was done; it decides nothing.
        Done = "done",
        /// The operation was refused: an unknown reservation, a name that is taken, too many ids.
        Refused = "refused",
        /// The store gave no answer, or its data is corrupt.
        Error = "error",
    }
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
    fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Allowed(allowed) if allowed.replayed() => Self::Replayed,
            Decision::Allowed(allowed) if allowed.shadowed().is_some() => Self::Shadowed,
            Decision::Allowed(_) => Self::Allowed,
            Decision::Denied(denied) => match denied.reason() {
                DenialReason::KeyUnknown => Self::KeyUnknown,
                DenialReason::KeyExpired { .. } => Self::KeyExpired,
                DenialReason::AdminKey => Self::AdminKey,
                DenialReason::AssetDenied => Self::AssetDenied,
                DenialReason::BudgetExhausted(_) => Self::BudgetExhausted,
                DenialReason::RateLimited(_) => Self::RateLimited,
                _ => Self::Denied,
            },
        }
    }
}

impl<'a> Ended<'a> {
    pub(crate) fn decided(decision: &Decision) -> Self {
        let denied = decision.denied().or_else(|| decision.shadowed());
        let binding = denied.and_then(Denied::exceeded).and_then(LimitExceeded::binding);
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
