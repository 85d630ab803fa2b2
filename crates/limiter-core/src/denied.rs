//! A denial: why, which rules, and when a retry would pass.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::names::AssetId;
use crate::rule::{Rule, Scope};
use crate::rules::{RuleState, Rules, Violation};
use crate::state::CreditUsage;

/// A denied call: the first reason that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Denied {
    /// The asset that was called, if any.
    asset: Option<AssetId>,
    /// When the store decided, by its clock.
    decided_at: Option<Timestamp>,
    /// Whether the store could not answer, and a policy denied the call without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
    #[serde(flatten)]
    reason: DenialReason,
}

/// Why a call was denied. Reasons are looked for in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum DenialReason {
    /// The key never existed, or was deleted.
    KeyUnknown,
    /// The key has expired.
    KeyExpired {
        /// The instant of the expiry.
        expired_at: Timestamp,
    },
    /// An admin key manages keys and makes no calls.
    AdminKey,
    /// The charge does not fit into what is left of the budget, or nothing is left: a new call is denied
    /// then even if it costs nothing.
    BudgetExhausted {
        /// Credits spent without this charge, and the budget.
        credits: CreditUsage,
        /// The credits that the charge asked for.
        asked: Credits,
    },
    /// At least one rule would have been broken.
    RateLimited(Box<RateLimited>),
}

/// All rules that a denied call met, and those that it would have broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawRateLimited", into = "RawRateLimited")]
pub struct RateLimited {
    pub(crate) rules: Rules,
    charge: Charge,
    retry_at: Option<Timestamp>,
}

impl DenialReason {
    /// The name for programs, as in `key_unknown`: the same in JSON, problem details and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired { .. } => "key_expired",
            Self::AdminKey => "admin_key",
            Self::BudgetExhausted { .. } => "budget_exhausted",
            Self::RateLimited(_) => "rate_limited",
        }
    }
}

impl Denied {
    pub(crate) const fn new(
        asset: Option<AssetId>,
        decided_at: Option<Timestamp>,
        reason: DenialReason,
    ) -> Self {
        Self { asset, decided_at, degraded: false, reason }
    }

    /// Whether a limit or the budget is the reason: all that shadow mode is about.
    pub(crate) const fn is_about_limits(&self) -> bool {
        matches!(self.reason, DenialReason::RateLimited(_) | DenialReason::BudgetExhausted { .. })
    }

    /// The same denial, by a policy of the caller's.
    pub(crate) fn degrade(self) -> Self {
        Self { degraded: true, ..self }
    }

    /// Whether the store could not answer, and a policy of the caller's denied the call without it.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.degraded
    }

    /// When the store decided this, by its clock; `None` for a key that is not known.
    #[must_use]
    pub const fn decided_at(&self) -> Option<Timestamp> {
        self.decided_at
    }

    /// The asset that was called, if any.
    #[must_use]
    pub const fn asset(&self) -> Option<&AssetId> {
        self.asset.as_ref()
    }

    /// The first reason that holds.
    #[must_use]
    pub const fn reason(&self) -> &DenialReason {
        &self.reason
    }

    /// The rules, if the reason is a rule.
    #[must_use]
    pub fn rate_limited(&self) -> Option<&RateLimited> {
        match &self.reason {
            DenialReason::RateLimited(limited) => Some(limited),
            _ => None,
        }
    }

    /// The first instant at which the same charge would be allowed if nothing else were consumed.
    ///
    /// `None` if there is none: the reason is no rule, or the charge asks for more than a limit.
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.rate_limited()?.retry_at()
    }

    /// Whether a limit shuts the charge out for good, and not only for now: it is rate limited, and there is no
    /// [`retry_at`](Self::retry_at). Waiting does not help then; asking for less may.
    #[must_use]
    pub fn never_fits(&self) -> bool {
        self.rate_limited().is_some_and(RateLimited::never_fits)
    }

    /// How long to wait for [`retry_at`](Self::retry_at), from the moment of the decision.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_at()?.since(self.decided_at?))
    }
}

impl RateLimited {
    pub(crate) const fn new(rules: Rules, charge: Charge, retry_at: Option<Timestamp>) -> Self {
        Self { rules, charge, retry_at }
    }

    /// How each rule stands, broken or not, without the charge.
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.iter()
    }

    /// Every rule that the charge would have broken, in the order of [`Rule`].
    pub fn violations(&self) -> impl Iterator<Item = Violation> {
        self.rules.violated_by(&self.charge)
    }

    /// The violated rule that resets last: the one to wait for.
    ///
    /// Ties go to the smaller limit, then global before asset, tokens before requests, minute before day.
    #[must_use]
    pub fn binding(&self) -> Option<Violation> {
        self.violations().min_by_key(|violation| violation.binding_order())
    }

    /// The charge that was denied.
    #[must_use]
    pub const fn charge(&self) -> &Charge {
        &self.charge
    }

    /// The first instant at which the same charge would be allowed if nothing else were consumed.
    ///
    /// `None` if it never fits: it asks for more than a limit, or the key expires before.
    #[must_use]
    pub const fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Whether the charge fits at no time that can be foreseen: there is no [`retry_at`](Self::retry_at).
    #[must_use]
    pub const fn never_fits(&self) -> bool {
        self.retry_at.is_none()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            DenialReason::KeyUnknown => {
                f.write_str("the key is not known: it never existed or was deleted")
            }
            DenialReason::KeyExpired { expired_at } => write!(f, "the key expired at {expired_at}"),
            DenialReason::AdminKey => {
                f.write_str("an admin key manages keys and makes no calls: use a member key")
            }
            DenialReason::BudgetExhausted { credits, asked } => {
                let budget = credits.budget.unwrap_or(Credits::MAX);
                let spent = credits.spent;
                write!(
                    f,
                    "the budget is exhausted: {spent} of {budget} credits are spent, this call asks for {asked}"
                )
            }
            DenialReason::RateLimited(limited) => self.fmt_rate_limited(limited, f),
        }
    }
}

impl Denied {
    fn fmt_rate_limited(&self, limited: &RateLimited, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rate limited: ")?;
        for (position, violation) in limited.violations().enumerate() {
            let Violation { rule, used, limit, asked, resets_at, .. } = violation;
            let separator = if position == 0 { "" } else { "; " };
            let (unit, window) = (violation.unit_name(), rule.window);
            write!(f, "{separator}{used} of {limit} {unit} per {window} are used")?;
            match (rule.scope, &self.asset) {
                (Scope::Asset, Some(asset)) => write!(f, " for asset {asset:?}")?,
                _ => f.write_str(" for all calls")?,
            }
            write!(f, ", this call asks for {asked}, reset at {resets_at}")?;
        }
        match limited.retry_at {
            Some(retry_at) => write!(f, ". Retry at {retry_at}"),
            None => f.write_str(". The call exceeds the limit itself: retrying will not help"),
        }
    }
}

/// The rules that a denied call met, and those that it would have broken.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawRateLimited {
    /// The state of each rule, without the charge.
    rules: Vec<RuleState>,
    /// Every rule that would have been broken.
    #[serde(default)]
    violated: Vec<Violation>,
    /// The violated rule that resets last.
    #[serde(default)]
    binding: Option<Rule>,
    /// The charge that was denied.
    charge: Charge,
    /// The first instant at which the same charge would be allowed, if there is one.
    retry_at: Option<Timestamp>,
}

#[cfg(feature = "utoipa")]
crate::openapi::schema_of!(RateLimited, RawRateLimited);

impl From<RateLimited> for RawRateLimited {
    fn from(limited: RateLimited) -> Self {
        Self {
            rules: limited.rules.iter().collect(),
            violated: limited.violations().collect(),
            binding: limited.binding().map(|violation| violation.rule),
            charge: limited.charge,
            retry_at: limited.retry_at,
        }
    }
}

impl From<RawRateLimited> for RateLimited {
    fn from(raw: RawRateLimited) -> Self {
        Self::new(raw.rules.into_iter().collect(), raw.charge, raw.retry_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_name_in_json_and_in_code() {
        let credits = CreditUsage { spent: Credits::ZERO, budget: None };
        let limited = RateLimited::new(Rules::NONE, Charge::request(), None);
        for reason in [
            DenialReason::KeyUnknown,
            DenialReason::KeyExpired { expired_at: Timestamp::START_OF_1970 },
            DenialReason::AdminKey,
            DenialReason::BudgetExhausted { credits, asked: Credits::ZERO },
            DenialReason::RateLimited(Box::new(limited)),
        ] {
            let json = serde_json::to_value(&reason).unwrap();
            assert_eq!(json["reason"], reason.as_str());
        }
    }
}
