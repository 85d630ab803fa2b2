//! The answer: allowed or denied, with everything needed to explain it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::counts::ScopeCounts;
use crate::credits::Credits;
use crate::denied::{DenialReason, Denied};
use crate::meter::Meter;
use crate::names::AssetId;
use crate::rule::Rule;
use crate::rules::{RuleState, Rules};
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

    /// The same answer, flagged as given without the store, by a policy of the caller's.
    pub fn degrade(self) -> Self {
        match self {
            Self::Allowed(allowed) => Self::Allowed(Allowed { degraded: true, ..allowed }),
            Self::Denied(denied) => Self::Denied(denied.degrade()),
        }
    }

    /// Whether the store could not answer, and a policy of the caller's did: see [`Allowed::degraded`].
    #[must_use]
    pub const fn is_degraded(&self) -> bool {
        match self {
            Self::Allowed(allowed) => allowed.degraded(),
            Self::Denied(denied) => denied.degraded(),
        }
    }

    /// A call that is let through although nothing is known of its key: no rule, no credits, and flagged as
    /// [degraded](Allowed::degraded). For policies that go on without a store; no store answers it.
    ///
    /// ```
    /// use limiter_core::{Decision, Timestamp};
    ///
    /// let decision = Decision::unchecked(Timestamp::from_unix_ms(1_760_011_200_000));
    /// assert!(decision.is_allowed() && decision.is_degraded());
    /// assert_eq!(decision.rules().count(), 0);
    /// ```
    pub fn unchecked(now: Timestamp) -> Self {
        let rules = Rules::new([ScopeCounts::UNCOUNTED; 2]);
        let allowed = Allowed::new(rules, Meter::new(None), now);
        Self::Allowed(Allowed { degraded: true, ..allowed })
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

    /// The same for a call that had been allowed before.
    pub(crate) fn replay(self) -> Self {
        Self { replayed: true, ..self }
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
    /// Of equal shares it is the one that would bind (see [`RateLimited::binding`](crate::RateLimited::binding)).
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

    /// Whether the store could not answer, and a policy of the caller's allowed the call without it.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.degraded
    }

    /// Whether the call had been allowed before under the same request id, and was not charged again: the
    /// rules are shown as they stand now.
    #[must_use]
    pub const fn replayed(&self) -> bool {
        self.replayed
    }

    /// The thresholds that this charge was the first to cross in their window. This version knows none.
    #[must_use]
    pub fn crossed(&self) -> &[Crossing] {
        &self.crossed
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
