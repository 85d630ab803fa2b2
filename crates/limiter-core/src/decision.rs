//! The answer: allowed or denied, with everything needed to explain it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::counts::Meter;
use crate::credits::Credits;
use crate::names::AssetId;
use crate::rule::{Rule, RuleState, Rules, Scope, Violation};
use crate::state::CreditUsage;

/// What the engine answers to a call. A denial is an answer, not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[must_use = "a decision that nobody looks at limits nothing"]
pub enum Decision {
    /// The call may go on; its charge is counted. Not boxed: a check that allows must not allocate.
    Allowed(Allowed),
    /// The call may not go on; nothing was charged.
    Denied(Denied),
}

/// An allowed call: how its rules stand after the charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawAllowed", into = "RawAllowed")]
pub struct Allowed {
    rules: Rules,
    credits: Meter,
    decided_at: Timestamp,
    degraded: bool,
    replayed: bool,
    crossed: Vec<Crossing>,
}

/// A threshold that a call has crossed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Crossing {
    /// The rule that was crossed, or `None` for the budget.
    pub rule: Option<Rule>,
    /// The threshold, in percent of the limit.
    pub percent: u8,
}

/// A denied call: the first reason that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    asset: Option<AssetId>,
    decided_at: Option<Timestamp>,
    #[serde(flatten)]
    reason: DenialReason,
}

/// Why a call was denied. Reasons are looked for in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DenialReason {
    /// The key never existed, or was deleted.
    KeyUnknown,
    /// The key has expired.
    KeyExpired {
        /// Since when.
        expired_at: Timestamp,
    },
    /// An admin key manages keys and makes no calls.
    AdminKey,
    /// The charge does not fit into what is left of the budget.
    BudgetExhausted {
        /// What was spent without this charge, and the budget.
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
    rules: Rules,
    charge: Charge,
    retry_at: Option<Timestamp>,
}

impl Decision {
    /// Whether the call may go on.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// What is known of an allowed call.
    #[must_use]
    pub const fn allowed(&self) -> Option<&Allowed> {
        match self {
            Self::Allowed(allowed) => Some(allowed),
            Self::Denied(_) => None,
        }
    }

    /// What is known of a denied call.
    #[must_use]
    pub const fn denied(&self) -> Option<&Denied> {
        match self {
            Self::Denied(denied) => Some(denied),
            Self::Allowed(_) => None,
        }
    }

    /// How each rule that the call met stands, as for headers; none where the reason is no rule.
    ///
    /// In the order of [`Rule`]: global before asset, minute before day, requests before tokens.
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        let rules = match self {
            Self::Allowed(allowed) => Some(&allowed.rules),
            Self::Denied(denied) => denied.rate_limited().map(|limited| &limited.rules),
        };
        rules.into_iter().flat_map(Rules::iter)
    }

    /// The denial of a key that does not exist.
    #[cold]
    pub fn key_unknown(asset: Option<&AssetId>) -> Self {
        Self::Denied(Denied::new(asset.cloned(), None, DenialReason::KeyUnknown))
    }
}

impl Allowed {
    #[inline]
    pub(crate) const fn new(rules: Rules, credits: Meter, decided_at: Timestamp) -> Self {
        let crossed = Vec::new();
        Self { rules, credits, decided_at, degraded: false, replayed: false, crossed }
    }

    /// When the store decided this, by its clock.
    #[must_use]
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// How each rule stands after the charge: limit, used, remaining and reset time.
    ///
    /// In the order of [`Rule`]: global before asset, minute before day, requests before tokens.
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.iter()
    }

    /// The rule with the smallest share of its limit left, if there is any rule.
    ///
    /// Of equal shares it is the one that would bind (see [`RateLimited::binding`]).
    #[must_use]
    pub fn tightest(&self) -> Option<RuleState> {
        self.rules.iter().reduce(
            |tightest, other| {
                if other.is_tighter_than(&tightest) { other } else { tightest }
            },
        )
    }

    /// Credits spent after the charge, and the budget.
    #[must_use]
    pub fn credits(&self) -> CreditUsage {
        CreditUsage::of(&self.credits)
    }

    /// Whether the store could not answer and a policy of the caller's allowed the call.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.degraded
    }

    /// Whether the call had been allowed before under the same request id, and was not charged again.
    #[must_use]
    pub const fn replayed(&self) -> bool {
        self.replayed
    }

    /// The thresholds that this charge was the first to cross in their window.
    #[must_use]
    pub fn crossed(&self) -> &[Crossing] {
        &self.crossed
    }
}

impl Denied {
    pub(crate) const fn new(
        asset: Option<AssetId>,
        decided_at: Option<Timestamp>,
        reason: DenialReason,
    ) -> Self {
        Self { asset, decided_at, reason }
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
            None => {
                f.write_str(". It does not fit into the limits at any time that can be foreseen")
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct RawAllowed {
    rules: Vec<RuleState>,
    credits: CreditUsage,
    decided_at: Timestamp,
    degraded: bool,
    replayed: bool,
    crossed: Vec<Crossing>,
}

impl From<Allowed> for RawAllowed {
    fn from(allowed: Allowed) -> Self {
        Self {
            rules: allowed.rules.iter().collect(),
            credits: allowed.credits(),
            decided_at: allowed.decided_at,
            degraded: allowed.degraded,
            replayed: allowed.replayed,
            crossed: allowed.crossed,
        }
    }
}

impl From<RawAllowed> for Allowed {
    fn from(raw: RawAllowed) -> Self {
        let mut credits = Meter::new(raw.credits.budget.map(Credits::millionths));
        credits.add(raw.credits.spent.millionths());
        Self {
            rules: raw.rules.into_iter().collect(),
            credits,
            decided_at: raw.decided_at,
            degraded: raw.degraded,
            replayed: raw.replayed,
            crossed: raw.crossed,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct RawRateLimited {
    rules: Vec<RuleState>,
    /// Derived, for readers of logs.
    #[serde(default, skip_deserializing)]
    violated: Vec<Violation>,
    /// Derived, for readers of logs.
    #[serde(default, skip_deserializing)]
    binding: Option<Rule>,
    charge: Charge,
    retry_at: Option<Timestamp>,
}

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
