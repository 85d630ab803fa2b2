//! A denial: why, which rules, and when a retry would pass.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::names::{AssetId, KeyId};
use crate::rule::{Rule, Scope};
use crate::rules::{RuleState, Rules, Violation};
use crate::state::CreditUsage;

/// A denied call, with the first reason that applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Denied {
    /// The key that was called; null if only its access key is known.
    key: Option<KeyId>,
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

/// The reason of a denial. Reasons are checked in this order.
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
    /// The charge exceeds the rest of the budget. If nothing is left, a new call is denied even if it costs nothing.
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
    /// Returns the name for programs, such as `key_unknown`: the same in JSON, problem details and metrics.
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
    pub(crate) fn new(
        key: Option<&KeyId>,
        asset: Option<&AssetId>,
        decided_at: Option<Timestamp>,
        reason: DenialReason,
    ) -> Self {
        Self { key: key.cloned(), asset: asset.cloned(), decided_at, degraded: false, reason }
    }

    /// Returns whether a limit or the budget is the reason: shadow mode lifts these denials only.
    pub(crate) const fn is_about_limits(&self) -> bool {
        matches!(self.reason, DenialReason::RateLimited(_) | DenialReason::BudgetExhausted { .. })
    }

    /// Flags the denial as given by the caller's policy.
    pub(crate) fn degrade(self) -> Self {
        Self { degraded: true, ..self }
    }

    /// Returns whether the caller's policy denied the call because the store could not answer.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.degraded
    }

    /// Returns when the store decided, by its clock; `None` for an unknown key.
    #[must_use]
    pub const fn decided_at(&self) -> Option<Timestamp> {
        self.decided_at
    }

    /// Returns the key that made the call; `None` only if its access key belongs to no key.
    #[must_use]
    pub const fn key(&self) -> Option<&KeyId> {
        self.key.as_ref()
    }

    /// Returns the asset that was called, if any.
    #[must_use]
    pub const fn asset(&self) -> Option<&AssetId> {
        self.asset.as_ref()
    }

    /// Returns the first reason that applies.
    #[must_use]
    pub const fn reason(&self) -> &DenialReason {
        &self.reason
    }

    /// Returns the rules, if the reason is a rule.
    #[must_use]
    pub fn rate_limited(&self) -> Option<&RateLimited> {
        match &self.reason {
            DenialReason::RateLimited(limited) => Some(limited),
            _ => None,
        }
    }

    /// Returns the first instant at which the same charge would be allowed if nothing else were consumed.
    ///
    /// `None` if the reason is not a rule, or if the call [never fits](Self::never_fits).
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        self.rate_limited()?.retry_at()
    }

    /// Returns whether the call is rate limited without a [`retry_at`](Self::retry_at). Waiting does not help then; a
    /// smaller charge may.
    #[must_use]
    pub fn never_fits(&self) -> bool {
        self.rate_limited().is_some_and(RateLimited::never_fits)
    }

    /// Returns how long to wait for [`retry_at`](Self::retry_at), from the moment of the decision.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_at()?.since(self.decided_at?))
    }
}

impl RateLimited {
    pub(crate) const fn new(rules: Rules, charge: Charge, retry_at: Option<Timestamp>) -> Self {
        Self { rules, charge, retry_at }
    }

    /// Returns the state of each rule, broken or not, without the charge.
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.iter()
    }

    /// Returns every rule that the charge would have broken, in the order of [`Rule`].
    pub fn violations(&self) -> impl Iterator<Item = Violation> {
        let violated = self.rules.violated_by(&self.charge);
        violated.map(|(state, asked)| Violation::new(state, asked, self.never_fits()))
    }

    /// Returns the violated rule that resets last: the one to wait for.
    ///
    /// Ties go to the smaller limit, then global before asset, tokens before requests, minute before day.
    #[must_use]
    pub fn binding(&self) -> Option<Violation> {
        let violated = self.rules.violated_by(&self.charge);
        let (state, asked) = violated.min_by_key(|(state, _)| state.binding_order())?;
        Some(Violation::new(state, asked, self.never_fits()))
    }

    /// Returns the charge that was denied.
    #[must_use]
    pub const fn charge(&self) -> &Charge {
        &self.charge
    }

    /// Returns the first instant at which the same charge would be allowed if nothing else were consumed.
    ///
    /// `None` if it never fits: it asks for more than a limit, or the key expires before.
    #[must_use]
    pub const fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    /// Returns whether waiting does not help: there is no [`retry_at`](Self::retry_at).
    #[must_use]
    pub const fn never_fits(&self) -> bool {
        self.retry_at.is_none()
    }
}

/// Formats as in `ci: 7 of 10 tokens per minute are used for all calls, …`: the key first, if it is known.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        match &self.reason {
            DenialReason::KeyUnknown => f.write_str("unknown key: it never existed or was deleted"),
            DenialReason::KeyExpired { expired_at } => write!(f, "the key expired at {expired_at}"),
            DenialReason::AdminKey => {
                f.write_str("an admin key manages keys and makes no calls: use a member key")
            }
            DenialReason::BudgetExhausted { credits, asked } => {
                let problem = match credits.remaining() {
                    Some(Credits::ZERO) => "the budget is exhausted",
                    _ => "the call exceeds the rest of the budget",
                };
                write!(f, "{problem}: {credits} are spent, this call asks for {asked}")
            }
            DenialReason::RateLimited(limited) => self.fmt_rate_limited(limited, f),
        }
    }
}

impl Denied {
    fn fmt_rate_limited(&self, limited: &RateLimited, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, violation) in limited.violations().enumerate() {
            let Violation { rule, used, limit, asked, resets_at, .. } = violation;
            let separator = if position == 0 { "" } else { "; " };
            let (unit, window) = (violation.unit_name(), rule.window);
            match resets_at {
                Some(_) => write!(f, "{separator}{used} of {limit} {unit} per {window} are used")?,
                None => write!(f, "{separator}at most {limit} {unit} per {window} are allowed")?,
            }
            match (rule.scope, &self.asset) {
                (Scope::Asset, Some(asset)) => write!(f, " for asset {asset:?}")?,
                _ => f.write_str(" for all calls")?,
            }
            write!(f, ", this call asks for {asked}")?;
            if let Some(resets_at) = resets_at {
                write!(f, ", reset at {resets_at}")?;
            }
        }
        match limited.retry_at {
            Some(retry_at) => write!(f, ". Retry at {retry_at}"),
            None if limited.violations().any(|violation| violation.exceeds_limit()) => {
                f.write_str(". The call exceeds the limit itself; retrying will not help")
            }
            None => f.write_str(
                ". Retrying will not help: the key expires or its limits are lowered before there is room",
            ),
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
    use crate::config::{KeyConfig, KeyKind};
    use crate::decision::{Allowed, Decision};
    use crate::evaluate;
    use crate::limits::{Limits, LimitsBuilder};
    use crate::state::KeyState;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn config(limits: LimitsBuilder) -> KeyConfig {
        KeyConfig::named("ci").unwrap().with_global(limits.build().unwrap())
    }

    fn denied(state: &KeyState, charge: &Charge) -> Denied {
        let key = "ci".parse().unwrap();
        let decision = evaluate::peek(state, &key, state.locate(None), charge, NOON);
        let json = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision, "{json}");
        assert_eq!(decision.denied().unwrap().key(), Some(&key));
        decision.denied().unwrap().clone()
    }

    /// The text of a denial, after the key, and whether it shows a reset.
    fn text(config: &KeyConfig, charge: &Charge) -> (String, bool) {
        let denied = denied(&KeyState::new(KeyKind::Member, config, NOON), charge);
        let resets = denied.rate_limited().unwrap().violations().all(|it| it.resets_at.is_some());
        (denied.to_string().strip_prefix("ci: ").unwrap().to_owned(), resets)
    }

    #[test]
    fn a_call_that_exceeds_a_limit_itself_shows_no_reset() {
        let tokens = |limit| Limits::builder().tokens_per_minute(limit);
        let eleven = Charge::request().with_tokens(4, 7).unwrap();
        for (limits, charge, rule, asked) in [
            (Limits::builder().requests_per_day(0), Charge::request(), "0 requests per day", 1),
            (tokens(0), Charge::request(), "0 tokens per minute", 0),
            (tokens(10), eleven, "10 tokens per minute", 11),
        ] {
            let expected = format!(
                "at most {rule} are allowed for all calls, this call asks for {asked}. The call exceeds the limit \
                 itself; retrying will not help"
            );
            assert_eq!(text(&config(limits), &charge), (expected, false));
        }
    }

    #[test]
    fn a_call_that_fits_into_a_later_limit_shows_the_reset() {
        let mut state =
            KeyState::new(KeyKind::Member, &config(Limits::builder().requests_per_day(0)), NOON);
        state.configure(&config(Limits::builder().requests_per_day(1)), NOON).unwrap();
        assert_eq!(
            denied(&state, &Charge::request()).to_string(),
            "ci: 0 of 0 requests per day are used for all calls, this call asks for 1, \
             reset at 2025-10-10T00:00:00Z. Retry at 2025-10-10T00:00:00Z"
        );
    }

    #[test]
    fn retrying_does_not_help_if_the_key_expires_first() {
        let limits = Limits::builder().requests_per_day(1);
        let config = config(limits).with_expiry(NOON.after(Duration::from_secs(60)));
        let mut state = KeyState::new(KeyKind::Member, &config, NOON);
        let (key, asset) = ("ci".parse().unwrap(), state.locate(None));
        let charge = Charge::request();
        assert!(evaluate::charge(&mut state, &key, asset, &charge, NOON).is_allowed());
        assert_eq!(
            denied(&state, &charge).to_string(),
            "ci: 1 of 1 requests per day are used for all calls, this call asks for 1, \
             reset at 2025-10-10T00:00:00Z. Retrying will not help: the key expires or its limits are lowered \
             before there is room"
        );
    }

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

    #[test]
    fn a_denial_makes_no_decision_larger() {
        assert!(size_of::<Denied>() <= size_of::<Allowed>());
        assert_eq!(size_of::<Decision>(), size_of::<Allowed>());
    }
}
