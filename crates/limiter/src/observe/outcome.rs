//! The outcome of a call, as one of a fixed set of words.

use limiter_core::{
    CallError, Decision, DenialReason, Denied, KeyId, LimitExceeded, Rule, StoreError,
};

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
        /// Nobody registered the key, and there is no room for another one of these.
        TooManyKeys = "too_many",
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
    pub(crate) binding: Option<Binding>,
    pub(crate) error: Option<&'a StoreError>,
}

/// The rule that binds, and its level. The name of the level is not shown: nothing bounds the number of names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) rule: Rule,
    /// The number of segments of the id of the group or key whose rule it is, from 1 to [`KeyId::MAX_SEGMENTS`].
    pub(crate) depth: usize,
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
                DenialReason::AssetDenied { .. } => Self::AssetDenied,
                DenialReason::TooManyKeys { .. } => Self::TooManyKeys,
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
        Self {
            outcome: Outcome::of(decision),
            degraded: decision.is_degraded(),
            binding: denied.and_then(Binding::of),
            error: None,
        }
    }

    pub(crate) const fn done() -> Self {
        Self { outcome: Outcome::Done, degraded: false, binding: None, error: None }
    }

    pub(crate) fn failed(error: &'a impl CallError) -> Self {
        let error = error.of_store();
        let outcome = if error.is_some() { Outcome::Error } else { Outcome::Refused };
        Self { outcome, error, ..Self::done() }
    }
}

impl Binding {
    fn of(denied: &Denied) -> Option<Self> {
        let violation = denied.exceeded().and_then(LimitExceeded::binding)?;
        let level = violation.group.as_ref().or_else(|| denied.key());
        Some(Self { rule: violation.rule, depth: level.map_or(1, KeyId::depth) })
    }
}
