//! The configuration of a key: its kind, name, limits and expiry.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::labels::Labels;
use crate::limits::{Limit, Limits};
use crate::names::{AssetId, KeyName, PlanName};
use crate::object::{Object, distinct_keys};
use crate::rule::Unit;
use crate::state::ScopeId;
use crate::thresholds::Thresholds;
use crate::window::Window;
use crate::zone::TimeZone;

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum KeyKind {
    /// Makes calls and reads its own usage.
    Member,
    /// Manages the keys of its workspace and makes no calls.
    Admin,
    /// A team, a customer or a product: its limits are shared by the keys beneath it. It makes no calls.
    Group,
}

/// The configuration of a key: its name, limits and expiry.
///
/// An update replaces the whole configuration: read the key, change its [`config`](crate::KeyRecord::config), and save
/// it with the version that was read. What is read equals what was saved.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{KeyConfig, Limits, Unit, Window};
///
/// let config = KeyConfig::named("ci")?
///     .with_global(Limits::builder().requests_per_minute(60).build()?)
///     .with_asset("gpt-5".parse()?, Limits::builder().output_tokens_per_day(100_000).build()?)
///     .with_other(Limits::builder().requests_per_hour(10).build()?)
///     .with_budget("25.50".parse()?);
/// assert_eq!(config.global.get(Window::Ever, Unit::Credits), Some(25_500_000));
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// Its name, unique among the living keys of the workspace.
    pub name: KeyName,
    /// The plan whose limits it has, if any. Its own limits replace those of the plan for the same scope, window and unit, and
    /// its own thresholds replace the plan's.
    pub plan: Option<PlanName>,
    /// Of a group, the plan of keys directly beneath it that nobody registered: with it the group is *open*, and such a key may
    /// make calls. An open group limits its requests per minute, hour or day itself, and is not in shadow mode; the plan has
    /// no limits per week, per month or for ever.
    pub open: Option<PlanName>,
    /// Limits over all calls of the key. The limit of credits for ever is its budget.
    pub global: Limits,
    /// The assets that are listed, with their limits. One without limits is only counted.
    pub assets: BTreeMap<AssetId, Limits>,
    /// What calls of assets that are not listed may do.
    pub other: Other,
    /// The instant at which the key expires; `None` for never. It takes effect at once, and may be in the past. It lies
    /// from [`Timestamp::START_OF_1970`] to [`Timestamp::END_OF_9999`].
    pub expires_at: Option<Timestamp>,
    /// The zone of its days, weeks and months; if it is UTC, that of the plan. Another one holds from the end of each window
    /// on.
    pub time_zone: TimeZone,
    /// The shares of its limits that fire an event; `None` for those of the limiter. They take effect at once.
    ///
    /// After a change, those that what is used has reached count as fired; the change itself fires those that had not fired
    /// before.
    pub thresholds: Option<Thresholds>,
    /// Shadow mode: calls of the key are decided and counted as always. A call that a limit would deny, or
    /// [`Other::Denied`], is let through, flagged with the denial, and charges nothing. It takes effect at once.
    pub shadow: bool,
    /// Names and values for the service's own use, which the engine keeps and shows.
    pub labels: Labels,
}

/// What calls of assets that a configuration does not list may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// All of them together meet these limits; without any, the limits over all calls alone.
    Limited(Limits),
    /// They are refused: only listed assets may be called. `"denied"` in JSON. It takes effect at once.
    Denied,
}

/// When changed limits take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Effective {
    /// At the start of the next window of their kind; limits for ever at once.
    #[default]
    Next,
    /// At once, in the windows as they stand: what was used stays used. A limit that was not counted so far starts at what
    /// the day has counted, if it is one of the day, or else at zero.
    Now,
}

impl Default for Other {
    fn default() -> Self {
        Self::Limited(Limits::NONE)
    }
}

impl From<Limits> for Other {
    fn from(limits: Limits) -> Self {
        Self::Limited(limits)
    }
}

impl KeyConfig {
    /// The most assets with limits: enough for a catalogue of models, and a bound on a key's memory.
    pub const MAX_ASSETS: usize = 1_024;

    /// Creates the configuration of a key with this name, without any limits.
    ///
    /// # Errors
    /// As [`KeyName::new`].
    pub fn named(name: impl AsRef<str>) -> Result<Self, InvalidValue> {
        KeyName::new(name).map(Self::new)
    }

    /// Creates the configuration of a key with this name, without any limits.
    #[must_use]
    pub const fn new(name: KeyName) -> Self {
        Self {
            name,
            plan: None,
            open: None,
            global: Limits::NONE,
            assets: BTreeMap::new(),
            other: Other::Limited(Limits::NONE),
            expires_at: None,
            time_zone: TimeZone::UTC,
            thresholds: None,
            shadow: false,
            labels: Labels::NONE,
        }
    }

    /// Creates the configuration of an unregistered key: it has no name, and nothing but the plan with which its group is open.
    #[must_use]
    pub const fn of_unregistered() -> Self {
        Self::new(KeyName::NONE)
    }

    /// Gives it a plan.
    #[must_use]
    pub fn with_plan(self, plan: PlanName) -> Self {
        Self { plan: Some(plan), ..self }
    }

    /// Opens a group to unregistered keys: those directly beneath it have this plan.
    #[must_use]
    pub fn with_open(self, plan: PlanName) -> Self {
        Self { open: Some(plan), ..self }
    }

    /// Sets the limits over all calls. A budget that was set stays, unless these limits have one of their own (credits
    /// for ever).
    #[must_use]
    pub fn with_global(self, limits: Limits) -> Self {
        let budget = (Window::Ever, Unit::Credits);
        let says_one = limits.get(budget.0, budget.1).is_some()
            || limits.lifted().any(|lifted| lifted == budget);
        let kept = self.budget().filter(|_| !says_one);
        let config = Self { global: limits, ..self };
        match kept {
            Some(budget) => config.with_budget(budget),
            None => config,
        }
    }

    /// Lists an asset, with its limits: without any, it is only counted.
    #[must_use]
    pub fn with_asset(mut self, asset: AssetId, limits: Limits) -> Self {
        self.assets.insert(asset, limits);
        self
    }

    /// Sets what calls of assets that are not listed may do: their limits together, or [`Other::Denied`].
    #[must_use]
    pub fn with_other(self, other: impl Into<Other>) -> Self {
        Self { other: other.into(), ..self }
    }

    /// Sets the budget: the limit of credits for ever, over all calls.
    #[must_use]
    pub fn with_budget(self, budget: Credits) -> Self {
        let budget = Limit::budget(budget.millionths());
        Self { global: self.global.with(budget), ..self }
    }

    /// Returns the budget, if there is one.
    #[must_use]
    pub fn budget(&self) -> Option<Credits> {
        self.global.get(Window::Ever, Unit::Credits).map(Credits::of_count)
    }

    /// Sets the zone of its days, weeks and months.
    #[must_use]
    pub fn with_time_zone(self, time_zone: TimeZone) -> Self {
        Self { time_zone, ..self }
    }

    /// Sets the expiry.
    #[must_use]
    pub fn with_expiry(self, expires_at: impl Into<Timestamp>) -> Self {
        Self { expires_at: Some(expires_at.into()), ..self }
    }

    /// Sets thresholds that replace the limiter's.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { thresholds: Some(thresholds), ..self }
    }

    /// Turns shadow mode on or off.
    #[must_use]
    pub fn with_shadow(self, shadow: bool) -> Self {
        Self { shadow, ..self }
    }

    /// Sets the labels.
    #[must_use]
    pub fn with_labels(self, labels: Labels) -> Self {
        Self { labels, ..self }
    }

    /// Returns the configuration if a state does not tell all of it: it has a plan, or limits that lift those of one.
    pub(crate) fn if_not_told(&self) -> Option<Arc<Self>> {
        let of_other = match &self.other {
            Other::Limited(limits) => Some(limits),
            Other::Denied => None,
        };
        let mut limits = self.assets.values().chain(of_other).chain([&self.global]);
        let is_told = self.plan.is_none() && !limits.any(Limits::lifts_any);
        // A record has name and labels by itself; without them, keys that have a plan and nothing of their own are alike.
        let (name, labels) = (KeyName::NONE, Labels::NONE);
        (!is_told).then(|| Arc::new(Self { name, labels, ..self.clone() }))
    }

    /// Returns the parallel limits, each with its scope.
    pub(crate) fn parallel_limits(&self) -> impl Iterator<Item = (ScopeId, u64)> {
        let of_assets = self.assets.iter();
        let of_assets = of_assets.map(|(asset, limits)| (ScopeId::asset(asset.clone()), limits));
        let of_other = match &self.other {
            Other::Limited(limits) => Some((ScopeId::OTHER, limits)),
            Other::Denied => None,
        };
        let all = [(ScopeId::GLOBAL, &self.global)].into_iter().chain(of_assets).chain(of_other);
        all.filter_map(|(scope, limits)| Some((scope, limits.parallel()?)))
    }

    /// Checks the numbers of assets and of limits and the expiry, as every store does; the types guarantee the rest.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] above [`Self::MAX_ASSETS`]; [`InvalidValue::TooManyLimits`] if the budget is one
    /// more than [`Limits::MOST`]; [`InvalidValue::Instant`] for an expiry before 1970 or after 9999.
    pub fn check(&self) -> Result<(), InvalidValue> {
        let count = self.assets.len();
        if count > Self::MAX_ASSETS {
            return Err(InvalidValue::TooManyAssets { count, max: Self::MAX_ASSETS });
        }
        let (count, max) = (self.global.iter().count(), Limits::MOST);
        if count > max {
            return Err(InvalidValue::TooManyLimits { count, max });
        }
        self.expires_at.map_or(Ok(()), |at| at.check("the expiry of a key"))
    }
}

impl Serialize for Other {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Limited(limits) => limits.serialize(serializer),
            Self::Denied => serializer.serialize_str(DENIED),
        }
    }
}

impl<'de> Deserialize<'de> for Other {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected limits or \"denied\"")]
        enum Form {
            Word(String),
            Limits(Limits),
        }
        match Form::deserialize(deserializer)? {
            Form::Word(word) if word == DENIED => Ok(Self::Denied),
            Form::Word(word) => {
                let error = InvalidValue::unknown_word(
                    "rule for other assets",
                    &word,
                    "limits or \"denied\"",
                );
                Err(serde::de::Error::custom(error))
            }
            Form::Limits(limits) => Ok(Self::Limited(limits)),
        }
    }
}

/// Name, limits and expiry of a key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawConfig {
    /// Its name, unique in the workspace.
    name: KeyName,
    /// The plan whose limits it has; none if left out. Limits of its own replace the plan's, and `"unlimited"` lifts one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<PlanName>,
    /// Of a group, the plan of keys directly beneath it that nobody registered, which may make calls then. Such a group limits
    /// its requests per minute, hour or day itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<PlanName>,
    /// Limits over all calls; none if left out.
    #[serde(default)]
    global: Limits,
    /// The assets that are listed, 1,024 at most, with their limits. One without limits is only counted.
    #[serde(default, deserialize_with = "distinct_keys")]
    assets: BTreeMap<AssetId, Limits>,
    /// Limits of all assets that are not listed, together; or `"denied"`.
    #[serde(default)]
    other: Other,
    /// The credits that it may ever spend: another name for the limit `credits_ever` over all calls.
    #[serde(default)]
    budget: Option<Credits>,
    /// The instant at which it expires, in the years 1970 to 9999.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// The zone of its days, weeks and months, by its IANA name; UTC if left out.
    #[serde(default)]
    time_zone: TimeZone,
    /// The shares of its limits that fire an event, in percent; those of the limiter if left out.
    #[serde(default)]
    thresholds: Option<Thresholds>,
    /// Whether calls beyond a limit are let through, and flagged.
    #[serde(default)]
    shadow: bool,
    /// Names and values for the service's own use: at most 16 names of at most 64 bytes, and values of at most 256 bytes.
    #[serde(default)]
    labels: Labels,
}

impl Serialize for KeyConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, plan, open, global, assets, other, expires_at, time_zone, .. } =
            self.clone();
        let Self { thresholds, shadow, labels, .. } = self.clone();
        let raw = RawConfig {
            name,
            plan,
            open,
            global: global.without_budget(),
            assets,
            other,
            budget: self.budget(),
            expires_at,
            time_zone,
            thresholds,
            shadow,
            labels,
        };
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(raw) = Object::<RawConfig>::deserialize(deserializer)?;
        raw.config().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "utoipa")]
crate::openapi::open_schema_of!(KeyConfig, RawConfig);

impl RawConfig {
    fn config(self) -> Result<KeyConfig, InvalidValue> {
        let Self { name, plan, open, global, assets, other, budget, expires_at, .. } = self;
        let Self { time_zone, thresholds, shadow, labels, .. } = self;
        if budget.is_some() && global.get(Window::Ever, Unit::Credits).is_some() {
            return Err(InvalidValue::Inconsistent {
                what: "both budget and credits_ever are given",
            });
        }
        let config = KeyConfig {
            name,
            plan,
            open,
            global,
            assets,
            other,
            expires_at,
            time_zone,
            thresholds,
            shadow,
            labels,
        };
        let config = match budget {
            Some(budget) => config.with_budget(budget),
            None => config,
        };
        config.check().map(|()| config)
    }
}

const DENIED: &str = "denied";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_field_does_not_silently_remove_the_limits() {
        let json = r#"{"name":"ci","globl":{"requests_per_minute":5}}"#;
        let error = serde_json::from_str::<KeyConfig>(json).unwrap_err().to_string();
        assert!(error.contains("unknown field `globl`"), "{error}");
    }

    #[test]
    fn an_expiry_lies_in_the_years_1970_to_9999() {
        let (first, last) = (Timestamp::START_OF_1970, Timestamp::END_OF_9999);
        let next_to = |at: Timestamp, ms: i64| Timestamp::from_unix_ms(at.unix_ms() + ms);
        for at in [first, last] {
            assert_eq!(KeyConfig::named("ci").unwrap().with_expiry(at).check(), Ok(()));
        }
        for at in [next_to(first, -1), next_to(last, 1), Timestamp::MIN, Timestamp::MAX] {
            let config = KeyConfig::named("ci").unwrap().with_expiry(at);
            let refused = InvalidValue::Instant { what: "the expiry of a key", instant: at };
            assert_eq!(config.check(), Err(refused));
            let json = serde_json::to_string(&config).unwrap();
            assert!(serde_json::from_str::<KeyConfig>(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for json in [
            r#"{"name":"ci"}"#,
            r#"{"name":"ci","global":{"requests_per_hour":3},"budget":"1.50","other":"denied"}"#,
            r#"{"name":"ci","assets":{"a":{},"b":{"credits_ever":"2.00"}},"other":{"tokens_per_week":1}}"#,
            r#"{"name":"ci","thresholds":[50],"shadow":true,"expires_at":"2030-01-01T00:00:00Z"}"#,
        ] {
            let config: KeyConfig = serde_json::from_str(json).unwrap();
            let again = serde_json::to_value(&config).unwrap();
            assert_eq!(serde_json::from_value::<KeyConfig>(again.clone()).unwrap(), config);
            let sent: serde_json::Value = serde_json::from_str(json).unwrap();
            for (field, value) in sent.as_object().unwrap() {
                assert_eq!(again[field], *value, "{field}");
            }
        }
    }

    #[test]
    fn the_budget_has_two_names_and_one_of_them_is_given() {
        let by = |json: &str| serde_json::from_str::<KeyConfig>(json);
        let budget = by(r#"{"name":"ci","budget":"5"}"#).unwrap();
        assert_eq!(budget, by(r#"{"name":"ci","global":{"credits_ever":"5"}}"#).unwrap());
        assert_eq!(budget.budget(), Some(Credits::whole(5).unwrap()));
        assert!(by(r#"{"name":"ci","budget":"5","global":{"credits_ever":"5"}}"#).is_err());
    }

    #[test]
    fn limits_over_all_calls_replace_a_budget_only_by_one_of_their_own() {
        let (five, seven) = (Credits::whole(5).unwrap(), Credits::whole(7).unwrap());
        let requests = Limits::builder().requests_per_minute(5).build().unwrap();
        let credits = Limits::builder().credits_ever(seven).build().unwrap();
        let ci = KeyConfig::named("ci").unwrap();
        let config = ci.clone().with_budget(five);
        let both = config.clone().with_global(requests.clone());
        assert_eq!(both, ci.with_global(requests).with_budget(five));
        assert_eq!(both.with_global(Limits::NONE), config);
        assert_eq!(config.with_global(credits).budget(), Some(seven));
    }

    #[test]
    fn only_a_name_must_be_said() {
        let config: KeyConfig = serde_json::from_str(r#"{"name":"ci"}"#).unwrap();
        assert_eq!(config, KeyConfig::named("ci").unwrap());
    }
}
