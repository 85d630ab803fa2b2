//! A denial: why, which rules, and when a retry would pass.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::limits::{Quantity, Within};
use crate::names::{AssetId, KeyId};
use crate::rule::{Measure, Rule, Scope};
use crate::rules::{RuleState, Rules, Violation};
use crate::state::{ScopeId, ScopeOf};
use crate::window::Window;

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
    /// The key or a group of it has expired.
    KeyExpired {
        /// The instant of the expiry.
        expired_at: Timestamp,
        /// The group that has expired; left out if it is the key itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<KeyId>,
    },
    /// An admin key manages keys and makes no calls.
    AdminKey,
    /// The configuration of the key or of a group does not list the asset, and denies all others.
    AssetDenied {
        /// The group that denies it; left out if it is the key itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<KeyId>,
    },
    /// Nobody registered the key, and the store keeps the counts of as many unregistered keys as it may.
    TooManyKeys {
        /// The most unregistered keys that the store keeps.
        most: u64,
        /// When there is room, if no other key takes it. Null if the bound is zero.
        retry_at: Option<Timestamp>,
    },
    /// At least one rule would have been broken that counts credits for ever.
    BudgetExhausted(Box<LimitExceeded>),
    /// At least one rule would have been broken.
    RateLimited(Box<LimitExceeded>),
}

/// All rules that a denied call met, and those that it would have broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawExceeded", into = "RawExceeded")]
pub struct LimitExceeded {
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
            Self::AssetDenied { .. } => "asset_denied",
            Self::TooManyKeys { .. } => "too_many",
            Self::BudgetExhausted(_) => "budget_exhausted",
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

    /// Returns whether shadow mode lifts it: a call of an unknown, expired or admin key stays denied.
    pub(crate) const fn is_lifted_in_shadow(&self) -> bool {
        matches!(
            self.reason,
            DenialReason::AssetDenied { .. }
                | DenialReason::RateLimited(_)
                | DenialReason::BudgetExhausted(_)
        )
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

    /// Returns the rules, if the reason is a rule: one that counts credits for ever, or any other.
    #[must_use]
    pub fn exceeded(&self) -> Option<&LimitExceeded> {
        match &self.reason {
            DenialReason::RateLimited(exceeded) | DenialReason::BudgetExhausted(exceeded) => {
                Some(exceeded)
            }
            _ => None,
        }
    }

    /// Returns the first instant at which the same charge would be allowed if nothing else were consumed.
    ///
    /// `None` if the reason is neither a rule nor that there are too many keys, or if the call [never fits](Self::never_fits).
    /// If the plan of an unregistered key was changed, the retry passes with the limits that it has now and with those to come:
    /// which of them hold by then depends on its other calls.
    #[must_use]
    pub fn retry_at(&self) -> Option<Timestamp> {
        match &self.reason {
            DenialReason::TooManyKeys { retry_at, .. } => *retry_at,
            _ => self.exceeded()?.retry_at(),
        }
    }

    /// Returns whether a rule denies the call without a [`retry_at`](Self::retry_at). Waiting does not help then; a
    /// smaller charge may.
    #[must_use]
    pub fn never_fits(&self) -> bool {
        self.exceeded().is_some_and(LimitExceeded::never_fits)
    }

    /// Returns how long to wait before a retry, from the moment of the decision: until [`retry_at`](Self::retry_at). A slot of
    /// a parallel limit is most often given back long before it expires, so that it counts for a second at most.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let (retry_at, decided_at) = (self.retry_at()?, self.decided_at?);
        let wait = retry_at.since(decided_at);
        let Some(exceeded) = self.exceeded() else { return Some(wait) };
        let amounts = |violation: &Violation| !violation.rule.is_parallel();
        if !exceeded.violations().any(|violation| violation.rule.is_parallel()) {
            return Some(wait);
        }
        let resets = exceeded.violations().filter(amounts).filter_map(|it| it.resets_at);
        let longest = resets.max().map_or(SLOT_WAIT, |at| at.since(decided_at).max(SLOT_WAIT));
        Some(wait.min(longest))
    }
}

impl LimitExceeded {
    pub(crate) const fn new(rules: Rules, charge: Charge, retry_at: Option<Timestamp>) -> Self {
        Self { rules, charge, retry_at }
    }

    /// Returns the state of each rule, broken or not, without the charge.
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.iter()
    }

    /// Returns the state of the rules that a caller may see: see [`Decision::shown_rules`](crate::Decision::shown_rules).
    pub fn shown_rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.shown()
    }

    /// Returns whether a caller may see the figures of a violated rule: not those of a group, if nobody registered the key.
    #[must_use]
    pub const fn shows(&self, violation: &Violation) -> bool {
        !self.rules.unregistered || violation.group.is_none()
    }

    /// Returns every rule that the charge would have broken, in the order of [`Rule`].
    pub fn violations(&self) -> impl Iterator<Item = Violation> {
        let violated = self.rules.violated_by(&self.charge);
        violated.map(|(state, asked)| Violation::new(state, asked, self.never_fits()))
    }

    /// Returns the violated rule that resets last: the one to wait for.
    ///
    /// Ties go to the smaller limit, then to the first in the order of [`Rule`].
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
            DenialReason::KeyExpired { expired_at, group: None } => {
                write!(f, "the key expired at {expired_at}")
            }
            DenialReason::KeyExpired { expired_at, group: Some(group) } => {
                write!(f, "group {group} expired at {expired_at}")
            }
            DenialReason::AdminKey => {
                f.write_str("an admin key manages keys and makes no calls: use a member key")
            }
            DenialReason::AssetDenied { group } => {
                f.write_str("only the assets that ")?;
                match group {
                    Some(group) => write!(f, "group {group}")?,
                    None => f.write_str("the key")?,
                }
                f.write_str(" lists may be called, and this call is of ")?;
                match &self.asset {
                    Some(asset) => write!(f, "{asset:?}"),
                    None => f.write_str("another"),
                }
            }
            DenialReason::TooManyKeys { most, retry_at } => {
                write!(
                    f,
                    "the counts of {most} unregistered keys are kept, and there is room for no more"
                )?;
                match retry_at {
                    Some(retry_at) => write!(f, ": retry at {retry_at}"),
                    None => Ok(()),
                }
            }
            DenialReason::BudgetExhausted(exceeded) | DenialReason::RateLimited(exceeded) => {
                self.fmt_exceeded(exceeded, f)
            }
        }
    }
}

impl Denied {
    fn fmt_exceeded(&self, exceeded: &LimitExceeded, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, violation) in exceeded.violations().enumerate() {
            let exceeds_limit = violation.exceeds_limit();
            let is_shown = exceeded.shows(&violation);
            let Violation { group, rule: Rule { scope, measure }, used, limit, asked, resets_at } =
                violation;
            let separator = if position == 0 { "" } else { "; " };
            let asset = self.asset.clone().filter(|_| scope == Scope::Asset);
            let scope = ScopeId { scope, asset };
            let scope = ScopeOf(group.as_ref(), &scope);
            let Measure::Amount(window, unit) = measure else {
                match exceeds_limit {
                    _ if !is_shown => {
                        write!(f, "{separator}no more calls in parallel may be open")?
                    }
                    false => write!(f, "{separator}{used} of {limit} calls in parallel are open")?,
                    true => write!(f, "{separator}at most {limit} calls in parallel are allowed")?,
                }
                write!(f, " for {scope}")?;
                if let Some(resets_at) = resets_at {
                    write!(f, ", a slot is free at {resets_at} at the latest")?;
                }
                continue;
            };
            let [used, limit, asked] = [used, limit, asked].map(|amount| Quantity(amount, unit));
            let (unit, window) = (unit.label(), Within(window));
            match exceeds_limit {
                _ if !is_shown => write!(f, "{separator}no more {unit} {window} are left")?,
                false => write!(f, "{separator}{used} of {limit} {unit} {window} are used")?,
                true => write!(f, "{separator}at most {limit} {unit} {window} are allowed")?,
            }
            write!(f, " for {scope}, this call asks for {asked}")?;
            if let Some(resets_at) = resets_at {
                write!(f, ", reset at {resets_at}")?;
            }
        }
        match exceeded.retry_at {
            Some(retry_at) => write!(f, ". Retry at {retry_at}"),
            None if exceeded.violations().any(|violation| violation.exceeds_limit()) => {
                f.write_str(". The call exceeds the limit itself; retrying will not help")
            }
            None if exceeded.violations().any(|it| it.rule.window() == Some(Window::Ever)) => {
                f.write_str(". Retrying will not help: what is used in all is not given back")
            }
            None => f.write_str(
                ". Retrying will not help: the key expires or its limits are lowered before there is room",
            ),
        }
    }
}

/// How long a caller waits for a slot before it tries again.
const SLOT_WAIT: Duration = Duration::from_secs(1);

/// The rules that a denied call met, and those that it would have broken.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawExceeded {
    /// The state of each rule, without the charge.
    rules: Vec<RuleState>,
    /// Every rule that would have been broken.
    #[serde(default)]
    violated: Vec<Violation>,
    /// The violated rule that resets last.
    #[serde(default)]
    binding: Option<Rule>,
    /// The group whose rule that is; left out if it is one of the key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binding_group: Option<KeyId>,
    /// The charge that was denied.
    charge: Charge,
    /// The first instant at which the same charge would be allowed, if there is one.
    retry_at: Option<Timestamp>,
}

#[cfg(feature = "utoipa")]
crate::openapi::schema_of!(LimitExceeded, RawExceeded);

impl From<LimitExceeded> for RawExceeded {
    fn from(exceeded: LimitExceeded) -> Self {
        let binding = exceeded.binding();
        Self {
            rules: exceeded.rules.shown().collect(),
            violated: exceeded.violations().filter(|it| exceeded.shows(it)).collect(),
            binding: binding.as_ref().map(|violation| violation.rule),
            binding_group: binding.and_then(|violation| violation.group),
            charge: exceeded.charge,
            retry_at: exceeded.retry_at,
        }
    }
}

impl From<RawExceeded> for LimitExceeded {
    fn from(raw: RawExceeded) -> Self {
        Self::new(Rules::restored(raw.rules, None), raw.charge, raw.retry_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Effective, KeyConfig, KeyKind};
    use crate::credits::Credits;
    use crate::decision::{Allowed, Decision};
    use crate::evaluate;
    use crate::levels::Levels;
    use crate::limits::{Limits, LimitsBuilder};
    use crate::state::KeyState;
    use crate::thresholds::Thresholds;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn config(limits: LimitsBuilder) -> KeyConfig {
        KeyConfig::named("ci").unwrap().with_global(limits.build().unwrap())
    }

    fn key(config: &KeyConfig) -> KeyState {
        KeyState::new(KeyKind::Member, config, Thresholds::DEFAULT, NOON)
    }

    fn denied(state: &KeyState, asset: Option<&AssetId>, charge: &Charge) -> Denied {
        let key = "ci".parse().unwrap();
        let decision = evaluate::peek(&Levels::of_key(&key, asset, state), charge, NOON);
        let json = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision, "{json}");
        assert_eq!(decision.denied().unwrap().key(), Some(&key));
        decision.denied().unwrap().clone()
    }

    #[test]
    fn a_call_above_the_limit_itself_shows_no_reset() {
        let tokens = |tokens| Charge::request().with_tokens(tokens, 0).unwrap();
        let credits = |text: &str| text.parse::<Credits>().unwrap();
        for (limits, charge, text) in [
            (
                Limits::builder().tokens_per_minute(6),
                tokens(7),
                "ci: at most 6 tokens per minute are allowed for all calls, this call asks for 7. \
                 The call exceeds the limit itself; retrying will not help",
            ),
            (
                Limits::builder().requests_per_day(0),
                Charge::request(),
                "ci: at most 0 requests per day are allowed for all calls, this call asks for 1. \
                 The call exceeds the limit itself; retrying will not help",
            ),
            (
                Limits::builder().credits_ever(credits("1")),
                Charge::request().with_credits(credits("1.5")),
                "ci: at most 1.00 credits in all are allowed for all calls, this call asks for 1.50. \
                 The call exceeds the limit itself; retrying will not help",
            ),
        ] {
            let denied = denied(&key(&config(limits)), None, &charge);
            assert_eq!(denied.to_string(), text);
            assert!(denied.never_fits());
            let exceeded = denied.exceeded().unwrap();
            assert!(exceeded.violations().all(|violation| violation.resets_at.is_none()));
        }
    }

    #[test]
    fn a_budget_that_is_used_up_denies_before_all_other_rules() {
        let credit = Credits::whole(1).unwrap();
        let limits = Limits::builder().credits_ever(credit).requests_per_minute(1);
        let mut state = key(&config(limits));
        let charge = Charge::request().with_credits(credit);
        let asset = state.locate(None);
        assert!(
            evaluate::charge(&mut state, &"ci".parse().unwrap(), asset, &charge, NOON).is_allowed()
        );
        let denied = denied(&state, None, &Charge::request());
        assert_eq!(denied.reason().as_str(), "budget_exhausted");
        let exceeded = denied.exceeded().unwrap();
        assert_eq!(exceeded.violations().count(), 2);
        assert_eq!(exceeded.binding().unwrap().rule, Rule::BUDGET);
        assert_eq!(exceeded.retry_at(), None);
        assert_eq!(
            denied.to_string(),
            "ci: 1 of 1 requests per minute are used for all calls, this call asks for 1, \
             reset at 2025-10-09T12:01:00Z; 1.00 of 1.00 credits in all are used for all calls, \
             this call asks for 0.00. Retrying will not help: what is used in all is not given back"
        );
    }

    #[test]
    fn a_call_that_fits_into_a_later_limit_shows_the_reset() {
        let mut state = key(&config(Limits::builder().requests_per_day(0)));
        let later = config(Limits::builder().requests_per_day(1));
        state.configure(&later, Thresholds::DEFAULT, Effective::Next, NOON).unwrap();
        assert_eq!(
            denied(&state, None, &Charge::request()).to_string(),
            "ci: 0 of 0 requests per day are used for all calls, this call asks for 1, \
             reset at 2025-10-10T00:00:00Z. Retry at 2025-10-10T00:00:00Z"
        );
    }

    #[test]
    fn retrying_does_not_help_if_the_key_expires_first() {
        let limits = Limits::builder().requests_per_day(1);
        let config = config(limits).with_expiry(NOON.after(Duration::from_secs(60)));
        let mut state = key(&config);
        let asset = state.locate(None);
        let charge = Charge::request();
        assert!(
            evaluate::charge(&mut state, &"ci".parse().unwrap(), asset, &charge, NOON).is_allowed()
        );
        assert_eq!(
            denied(&state, None, &charge).to_string(),
            "ci: 1 of 1 requests per day are used for all calls, this call asks for 1, \
             reset at 2025-10-10T00:00:00Z. Retrying will not help: the key expires or its limits are lowered \
             before there is room"
        );
    }

    #[test]
    fn an_asset_that_is_not_listed_is_named_where_others_are_denied() {
        let listed: AssetId = "a".parse().unwrap();
        let config = config(Limits::builder()).with_asset(listed.clone(), Limits::NONE);
        let mut state = key(&config.with_other(crate::config::Other::Denied));
        let other = "b".parse().unwrap();
        assert_eq!(
            denied(&state, Some(&other), &Charge::request()).to_string(),
            "ci: only the assets that the key lists may be called, and this call is of \"b\""
        );
        for asset in [None, Some(&listed)] {
            let located = state.locate(asset);
            let decision = evaluate::charge(
                &mut state,
                &"ci".parse().unwrap(),
                located,
                &Charge::request(),
                NOON,
            );
            assert!(decision.is_allowed(), "{asset:?}");
        }
    }

    #[test]
    fn a_reason_has_one_name_in_json_and_in_code() {
        let exceeded = || Box::new(LimitExceeded::new(Rules::NONE, Charge::request(), None));
        for reason in [
            DenialReason::KeyUnknown,
            DenialReason::KeyExpired { expired_at: Timestamp::START_OF_1970, group: None },
            DenialReason::AdminKey,
            DenialReason::AssetDenied { group: None },
            DenialReason::BudgetExhausted(exceeded()),
            DenialReason::RateLimited(exceeded()),
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
