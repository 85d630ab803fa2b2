//! The decision: allowed or denied, with everything needed to explain it.

use std::borrow::Cow;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::crossing::Crossing;
use crate::denied::{DenialReason, Denied};
use crate::names::{AssetId, KeyId};
use crate::record::Record;
use crate::rule::Scope;
use crate::rules::{More, RuleState, Rules};
use crate::state::CreditUsage;

/// The decision on a call. A denial is an answer, not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[must_use = "a decision that nobody looks at limits nothing"]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Decision {
    /// The call may go on; its charge is counted.
    Allowed(Allowed),
    /// The call may not go on; nothing was charged.
    Denied(Denied),
}

/// An allowed call, with the state of its rules after the charge.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawAllowed")]
pub struct Allowed {
    /// The rules, and the credits.
    rules: Rules,
    decided_at: Timestamp,
    /// Rare members, boxed to keep a decision small: up to 256 bytes move in half the time.
    extras: Option<Box<Extras>>,
}

/// The rare members of an allowed call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extras {
    degraded: bool,
    replayed: bool,
    unchecked: bool,
    crossed: Vec<Crossing>,
    shadowed: Option<Denied>,
    /// Whether levels that are not in shadow mode have charged the call nevertheless.
    charged: bool,
}

impl Decision {
    /// Returns whether the call may go on.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// Returns whether the call may go on and is charged to any level of its key: not if [shadow mode](Self::in_shadow) alone
    /// let it through.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.allowed().is_some_and(|allowed| !allowed.is_uncharged_in_shadow())
    }

    /// Returns the allowed call, if it is one.
    #[must_use]
    pub const fn allowed(&self) -> Option<&Allowed> {
        match self {
            Self::Allowed(allowed) => Some(allowed),
            Self::Denied(_) => None,
        }
    }

    /// Returns the denied call, if it is one.
    #[must_use]
    pub const fn denied(&self) -> Option<&Denied> {
        match self {
            Self::Denied(denied) => Some(denied),
            Self::Allowed(_) => None,
        }
    }

    /// Returns the state of each rule that the call met, as for headers; none if the reason of a denial is not a rule.
    ///
    /// In the order of [`Rule`](crate::Rule).
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        let rules = match self {
            Self::Allowed(allowed) => Some(&allowed.rules),
            Self::Denied(denied) => denied.exceeded().map(|exceeded| &exceeded.rules),
        };
        rules.into_iter().flat_map(Rules::iter)
    }

    /// Returns the state of the rules that a caller may see: those of groups are not for callers of a key that nobody
    /// registered.
    pub fn shown_rules(&self) -> impl Iterator<Item = RuleState> {
        let rules = match self {
            Self::Allowed(allowed) => Some(&allowed.rules),
            Self::Denied(denied) => denied.exceeded().map(|exceeded| &exceeded.rules),
        };
        rules.into_iter().flat_map(Rules::shown)
    }

    /// Returns whether somebody registered the key, as far as the rules of the call tell: see
    /// [`shown_rules`](Self::shown_rules).
    #[must_use]
    pub fn is_registered(&self) -> bool {
        let rules = match self {
            Self::Allowed(allowed) => Some(&allowed.rules),
            Self::Denied(denied) => denied.exceeded().map(|exceeded| &exceeded.rules),
        };
        !rules.is_some_and(|rules| rules.unregistered)
    }

    /// Flags the answer as given by the caller's policy, without the store.
    pub fn degrade(self) -> Self {
        match self {
            Self::Allowed(allowed) => Self::Allowed(allowed.with(|extras| extras.degraded = true)),
            Self::Denied(denied) => Self::Denied(denied.degrade()),
        }
    }

    /// Returns whether the caller's policy answered because the store could not: see [`Allowed::degraded`].
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        match self {
            Self::Allowed(allowed) => allowed.degraded(),
            Self::Denied(denied) => denied.degraded(),
        }
    }

    /// Applies shadow mode: a denial by a limit, by the budget or because of the asset becomes an allowed decision that
    /// charges nothing and carries the denial. A call of an unknown, expired or admin key is still denied.
    pub fn in_shadow(self) -> Self {
        match self {
            Self::Denied(denied) if denied.is_lifted_in_shadow() => {
                Self::Allowed(Allowed::in_shadow_of(denied))
            }
            decided => decided,
        }
    }

    /// Returns the denial that enforced limits would have given: see [`Allowed::shadowed`].
    #[must_use]
    pub fn shadowed(&self) -> Option<&Denied> {
        self.allowed()?.shadowed()
    }

    /// Lets a call through without any check: no rules, no credits, and flagged as [degraded](Allowed::degraded). It is
    /// for policies that go on without a store; no store returns it.
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
        Self::Allowed(allowed.with(|extras| (extras.degraded, extras.unchecked) = (true, true)))
    }

    /// Denies a call of an unregistered key for which a store has no room.
    #[cold]
    pub fn too_many_keys(
        key: &KeyId,
        asset: Option<&AssetId>,
        most: u64,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let reason = DenialReason::TooManyKeys { most, retry_at };
        Self::Denied(Denied::new(Some(key), asset, Some(now), reason))
    }

    /// Denies a call of a key that does not exist. `key` is `None` if only its access key is available.
    #[cold]
    pub fn key_unknown(key: Option<&KeyId>, asset: Option<&AssetId>) -> Self {
        Self::Denied(Denied::new(key, asset, None, DenialReason::KeyUnknown))
    }
}

impl Allowed {
    /// Copies the records once, straight into the answer: the copy is most of the cost of a decision in memory.
    #[inline(always)]
    pub(crate) fn of(
        global: &Record,
        second: Option<(Scope, &Record)>,
        outer: Option<Box<More>>,
        unregistered: bool,
        decided_at: Timestamp,
    ) -> Self {
        let rules = Rules::of_records(global, second, outer, unregistered);
        Self { rules, decided_at, extras: None }
    }

    #[inline]
    pub(crate) const fn new(rules: Rules, decided_at: Timestamp) -> Self {
        Self { rules, decided_at, extras: None }
    }

    /// Flags the call as decided out of a lease.
    #[must_use]
    pub const fn out_of_lease(mut self) -> Self {
        self.rules.leased = true;
        self
    }

    /// Returns whether this process decided the call out of a lease, without the store. The rules are as they stood when the lease
    /// was taken, with all of it counted as used.
    #[must_use]
    pub const fn leased(&self) -> bool {
        self.rules.leased
    }

    /// Sets the thresholds that were reached.
    pub(crate) fn crossing(self, crossed: Vec<Crossing>) -> Self {
        if crossed.is_empty() { self } else { self.with(|extras| extras.crossed = crossed) }
    }

    /// Lets a call through that would have been denied.
    fn in_shadow_of(denied: Denied) -> Self {
        let rules = denied.exceeded().map_or(Rules::NONE, |exceeded| exceeded.rules.clone());
        let decided_at = denied.decided_at().unwrap_or(Timestamp::from_unix_ms(0));
        Self::new(rules, decided_at).with(|extras| {
            extras.degraded = denied.degraded();
            extras.shadowed = Some(denied);
        })
    }

    fn with(mut self, set: impl FnOnce(&mut Extras)) -> Self {
        set(self.extras.get_or_insert_default());
        self
    }

    fn has(&self, flag: impl FnOnce(&Extras) -> bool) -> bool {
        self.extras.as_deref().is_some_and(flag)
    }

    /// Returns the denial that enforced limits would have given, if the limiter, the key or a group of it is in shadow mode.
    /// A level in shadow mode that would have denied the call was not charged; all others were.
    #[must_use]
    pub fn shadowed(&self) -> Option<&Denied> {
        self.extras.as_deref()?.shadowed.as_ref()
    }

    /// Adds the denial by levels in shadow mode. All others have charged the call.
    pub(crate) fn shadowing(self, denied: Denied) -> Self {
        self.with(|extras| (extras.shadowed, extras.charged) = (Some(denied), true))
    }

    fn is_uncharged_in_shadow(&self) -> bool {
        self.has(|extras| extras.shadowed.is_some() && !extras.charged)
    }

    /// Flags the call as one that had been allowed before.
    pub(crate) fn replay(self) -> Self {
        self.with(|extras| extras.replayed = true)
    }

    /// Returns when the store decided, by its clock.
    #[must_use]
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// Returns the state of each rule after the charge: limit, used, remaining and reset time.
    ///
    /// In the order of [`Rule`](crate::Rule).
    pub fn rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.iter()
    }

    /// Returns the state of the rules that a caller may see: see [`Decision::shown_rules`].
    pub fn shown_rules(&self) -> impl Iterator<Item = RuleState> {
        self.rules.shown()
    }

    /// Returns the rule with the smallest share of its limit left, if there is any rule.
    ///
    /// Of equal shares it is the one that would bind (see [`LimitExceeded::binding`](crate::LimitExceeded::binding)).
    #[must_use]
    pub fn tightest(&self) -> Option<RuleState> {
        self.rules.iter().reduce(
            |tightest, other| {
                if other.is_tighter_than(&tightest) { other } else { tightest }
            },
        )
    }

    /// Returns the credits spent after the charge, and the budget.
    #[must_use]
    pub fn credits(&self) -> CreditUsage {
        self.rules.credits()
    }

    /// Returns whether the caller's policy allowed the call because the store could not answer.
    #[must_use]
    pub fn degraded(&self) -> bool {
        self.has(|extras| extras.degraded)
    }

    /// Returns whether the call had been allowed before under the same request id, and was not charged again. The rules
    /// are shown as they stand now.
    #[must_use]
    pub fn replayed(&self) -> bool {
        self.has(|extras| extras.replayed)
    }

    /// Returns whether a policy let the call through without any check. To the policy's knowledge, nothing was charged.
    /// See [`Decision::unchecked`].
    #[must_use]
    pub fn unchecked(&self) -> bool {
        self.has(|extras| extras.unchecked)
    }

    /// Returns whether this decision charged the call to any level. A replay did not, nor did a call that shadow mode alone let
    /// through, or one that was let through unchecked.
    #[must_use]
    pub fn is_newly_charged(&self) -> bool {
        !self.replayed() && !self.unchecked() && !self.is_uncharged_in_shadow()
    }

    /// Returns the thresholds that this charge was the first to reach in their windows, by the order of rules, rising.
    #[must_use]
    #[inline]
    pub fn crossed(&self) -> &[Crossing] {
        self.extras.as_deref().map_or(&[], |extras| &extras.crossed)
    }

    /// Returns those that the caller may see: an unregistered key sees no figures of its groups.
    fn shown_crossed(&self) -> Cow<'_, [Crossing]> {
        let crossed = self.crossed();
        if !self.rules.unregistered || crossed.is_empty() {
            return Cow::Borrowed(crossed);
        }
        crossed.iter().filter(|crossing| crossing.group.is_none()).cloned().collect()
    }
}

/// Serialized field by field for speed, since a service writes one for each call.
impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shadowed = self.shadowed();
        let is_charged = shadowed.is_some() && !self.is_uncharged_in_shadow();
        let fields = 6_usize
            .saturating_add(usize::from(shadowed.is_some()))
            .saturating_add(usize::from(is_charged))
            .saturating_add(usize::from(self.unchecked()))
            .saturating_add(usize::from(self.leased()));
        let mut allowed = serializer.serialize_struct("Allowed", fields)?;
        allowed.serialize_field("rules", &self.rules)?;
        allowed.serialize_field("credits", &self.credits())?;
        allowed.serialize_field("decided_at", &self.decided_at)?;
        allowed.serialize_field("degraded", &self.degraded())?;
        allowed.serialize_field("replayed", &self.replayed())?;
        allowed.serialize_field("crossed", &self.shown_crossed())?;
        if self.unchecked() {
            allowed.serialize_field("unchecked", &true)?;
        }
        if self.leased() {
            allowed.serialize_field("leased", &true)?;
        }
        if let Some(shadowed) = shadowed {
            allowed.serialize_field("shadowed", shadowed)?;
        }
        if is_charged {
            allowed.serialize_field("charged", &true)?;
        }
        allowed.end()
    }
}

/// An allowed call.
#[derive(Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawAllowed {
    /// The state of each rule after the charge.
    rules: Vec<RuleState>,
    /// Credits spent after the charge, and the budget.
    credits: CreditUsage,
    /// When the store decided, by its clock.
    decided_at: Timestamp,
    /// Whether the store could not answer, and a policy allowed the call without it.
    degraded: bool,
    /// Whether the call had been allowed before under the same request id, and was not charged again.
    replayed: bool,
    /// Whether the store could not answer and nothing was checked: no charge is known.
    #[serde(default)]
    unchecked: bool,
    /// Whether it was decided out of a lease: the rules are as they stood when that was taken.
    #[serde(default)]
    leased: bool,
    /// Thresholds that this charge was the first to reach.
    crossed: Vec<Crossing>,
    /// In shadow mode: the denial that there would have been.
    #[serde(default)]
    shadowed: Option<Denied>,
    /// Whether levels that are not in shadow mode have charged the call nevertheless.
    #[serde(default)]
    charged: bool,
}

#[cfg(feature = "utoipa")]
crate::openapi::schema_of!(Allowed, RawAllowed);

impl From<RawAllowed> for Allowed {
    fn from(raw: RawAllowed) -> Self {
        let RawAllowed { degraded, replayed, unchecked, crossed, shadowed, charged, .. } = raw;
        let extras = Extras { degraded, replayed, unchecked, crossed, shadowed, charged };
        let is_any = extras != Extras::default();
        let rules = Rules::restored(raw.rules, Some(raw.credits));
        Self {
            rules: Rules { leased: raw.leased, ..rules },
            decided_at: raw.decided_at,
            extras: is_any.then(|| Box::new(extras)),
        }
    }
}

/// Equality compares what an answer shows and ignores all other counts.
impl PartialEq for Allowed {
    fn eq(&self, other: &Self) -> bool {
        (&self.rules, self.credits(), self.decided_at, self.leased())
            == (&other.rules, other.credits(), other.decided_at, other.leased())
            && self.extras == other.extras
    }
}

impl Eq for Allowed {}
