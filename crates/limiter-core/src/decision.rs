//! The answer: allowed or denied, with everything needed to explain it.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::crossing::Crossing;
use crate::denied::{DenialReason, Denied};
use crate::names::{AssetId, KeyId};
use crate::record::Record;
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
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawAllowed")]
pub struct Allowed {
    /// With the credits.
    rules: Rules,
    decided_at: Timestamp,
    degraded: bool,
    replayed: bool,
    unchecked: bool,
    /// Rare members in a box of their own, since a decision is copied on its way.
    extras: Option<Box<Extras>>,
}

/// What few answers have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extras {
    crossed: Vec<Crossing>,
    shadowed: Option<Denied>,
}

impl Decision {
    /// Whether the call may go on.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// Whether the call may go on and was charged, as all are that [shadow mode](Self::in_shadow) did not let through.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.is_allowed() && self.shadowed().is_none()
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
    /// In the order of [`Rule`](crate::Rule): global before asset, minute before day, requests before tokens.
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

    /// The same answer in shadow mode: what would be denied for its rate or its budget is allowed, charges nothing, and says
    /// what the denial would have been. Who may not call at all, as with an unknown or an expired key, still may not.
    pub fn in_shadow(self) -> Self {
        match self {
            Self::Denied(denied) if denied.is_about_limits() => {
                Self::Allowed(Allowed::in_shadow_of(denied))
            }
            decided => decided,
        }
    }

    /// The denial that there would have been if limits were enforced: see [`Allowed::shadowed`].
    #[must_use]
    pub fn shadowed(&self) -> Option<&Denied> {
        self.allowed()?.shadowed()
    }

    /// A call that is let through although nothing is known of its key: no rule, no credits, and flagged as
    /// [degraded](Allowed::degraded). For policies that go on without a store; no store answers it.
    ///
    /// ```
    /// # use limiter_core as limiter;
    /// use limiter::{Decision, Timestamp};
    ///
    /// let decision = Decision::unchecked(Timestamp::from_unix_ms(1_760_011_200_000));
    /// assert!(decision.is_allowed() && decision.is_degraded());
    /// assert_eq!(decision.rules().count(), 0);
    /// assert!(decision.allowed().is_some_and(|allowed| !allowed.is_newly_charged()));
    /// ```
    pub fn unchecked(now: Timestamp) -> Self {
        let allowed = Allowed::new(Rules::NONE, now);
        Self::Allowed(Allowed { degraded: true, unchecked: true, ..allowed })
    }

    /// The denial of a key that does not exist; without an id if only its access key is at hand.
    #[cold]
    pub fn key_unknown(key: Option<&KeyId>, asset: Option<&AssetId>) -> Self {
        Self::Denied(Denied::new(key, asset, None, DenialReason::KeyUnknown))
    }
}

impl Allowed {
    /// Copies the records once, to where the answer is: that is most of what a decision in memory costs.
    #[inline(always)]
    pub(crate) fn of(global: &Record, of_asset: &Record, decided_at: Timestamp) -> Self {
        Self {
            rules: Rules { records: [global, of_asset].map(|record| *record) },
            decided_at,
            degraded: false,
            replayed: false,
            unchecked: false,
            extras: None,
        }
    }

    #[inline]
    pub(crate) const fn new(rules: Rules, decided_at: Timestamp) -> Self {
        let (degraded, replayed, unchecked) = (false, false, false);
        Self { rules, decided_at, degraded, replayed, unchecked, extras: None }
    }

    /// The same with these thresholds reached.
    pub(crate) fn crossing(self, crossed: Vec<Crossing>) -> Self {
        Self { extras: Extras::of(crossed, None), ..self }
    }

    /// A call that is let through although it would have been denied.
    fn in_shadow_of(denied: Denied) -> Self {
        let rules = denied.rate_limited().map_or(Rules::NONE, |limited| limited.rules);
        let rules = match denied.reason() {
            DenialReason::BudgetExhausted { credits, .. } => rules.with_credits(credits.meter()),
            _ => rules.with_credits(Rules::NONE.credits()),
        };
        let decided_at = denied.decided_at().unwrap_or(Timestamp::from_unix_ms(0));
        let allowed = Self::new(rules, decided_at);
        Self {
            degraded: denied.degraded(),
            extras: Extras::of(Vec::new(), Some(denied)),
            ..allowed
        }
    }

    /// The denial that there would have been if limits were enforced: the limiter or the key is in shadow mode, and nothing was
    /// charged.
    #[must_use]
    pub fn shadowed(&self) -> Option<&Denied> {
        self.extras.as_deref()?.shadowed.as_ref()
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
    /// In the order of [`Rule`](crate::Rule): global before asset, minute before day, requests before tokens.
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
        CreditUsage::of(&self.rules.credits())
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

    /// Returns whether a policy let the call through without any check. To the policy's knowledge, nothing was charged.
    /// See [`Decision::unchecked`].
    #[must_use]
    pub const fn unchecked(&self) -> bool {
        self.unchecked
    }

    /// Returns whether this decision charged the call. A replay did not, nor did a call that was let through in shadow
    /// mode or unchecked.
    #[must_use]
    pub fn is_newly_charged(&self) -> bool {
        !self.replayed && !self.unchecked && self.shadowed().is_none()
    }

    /// The thresholds that this charge was the first to reach, in their windows and of the budget: by rule, then the budget,
    /// rising.
    #[must_use]
    pub fn crossed(&self) -> &[Crossing] {
        self.extras.as_deref().map_or(&[], |extras| &extras.crossed)
    }
}

impl Extras {
    fn of(crossed: Vec<Crossing>, shadowed: Option<Denied>) -> Option<Box<Self>> {
        let is_any = !crossed.is_empty() || shadowed.is_some();
        is_any.then(|| Box::new(Self { crossed, shadowed }))
    }
}

/// Field by field, since a service writes one for each call.
impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shadowed = self.shadowed();
        let fields = 6_usize
            .saturating_add(usize::from(shadowed.is_some()))
            .saturating_add(usize::from(self.unchecked));
        let mut allowed = serializer.serialize_struct("Allowed", fields)?;
        allowed.serialize_field("rules", &self.rules)?;
        allowed.serialize_field("credits", &self.credits())?;
        allowed.serialize_field("decided_at", &self.decided_at)?;
        allowed.serialize_field("degraded", &self.degraded)?;
        allowed.serialize_field("replayed", &self.replayed)?;
        allowed.serialize_field("crossed", self.crossed())?;
        if self.unchecked {
            allowed.serialize_field("unchecked", &true)?;
        }
        if let Some(shadowed) = shadowed {
            allowed.serialize_field("shadowed", shadowed)?;
        }
        allowed.end()
    }
}

/// As it was written.
#[derive(Deserialize)]
struct RawAllowed {
    rules: Vec<RuleState>,
    credits: CreditUsage,
    decided_at: Timestamp,
    degraded: bool,
    replayed: bool,
    #[serde(default)]
    unchecked: bool,
    crossed: Vec<Crossing>,
    #[serde(default)]
    shadowed: Option<Denied>,
}

impl From<RawAllowed> for Allowed {
    fn from(raw: RawAllowed) -> Self {
        Self {
            rules: raw.rules.into_iter().collect::<Rules>().with_credits(raw.credits.meter()),
            decided_at: raw.decided_at,
            degraded: raw.degraded,
            replayed: raw.replayed,
            unchecked: raw.unchecked,
            extras: Extras::of(raw.crossed, raw.shadowed),
        }
    }
}

/// Two answers are the same if they say the same: what else is counted does not show.
impl PartialEq for Allowed {
    fn eq(&self, other: &Self) -> bool {
        (&self.rules, self.credits(), self.decided_at)
            == (&other.rules, other.credits(), other.decided_at)
            && (self.degraded, self.replayed, self.unchecked)
                == (other.degraded, other.replayed, other.unchecked)
            && self.extras == other.extras
    }
}

impl Eq for Allowed {}
