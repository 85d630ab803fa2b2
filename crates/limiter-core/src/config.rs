//! The configuration of a key: its kind, name, limits, budget and expiry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access_key::AccessKey;
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::limits::Limits;
use crate::names::{AssetId, KeyId, KeyName};
use crate::object::{checked_object, distinct_keys};
use crate::thresholds::Thresholds;

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
}

/// The configuration of a key: its name, limits, budget and expiry.
///
/// An update replaces the whole configuration: read the key, change its [`config`](crate::KeyRecord::config), and save
/// it with the version that was read.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{KeyConfig, Limits};
///
/// let config = KeyConfig::named("ci")?
///     .with_global(Limits::builder().requests_per_minute(60).build()?)
///     .with_asset("gpt-5".parse()?, Limits::builder().tokens_per_day(100_000).build()?)
///     .with_budget("25.50".parse()?);
/// assert_eq!(config.assets.len(), 1);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyConfig {
    /// Its name, unique among the living keys of the workspace.
    pub name: KeyName,
    /// Limits over all calls of the key.
    pub global: Limits,
    /// Limits of single assets. An asset that is not listed has the global limits alone.
    pub assets: BTreeMap<AssetId, Limits>,
    /// The credits that the key may ever spend; `None` for any amount. Takes effect at once.
    pub budget: Option<Credits>,
    /// The instant at which the key expires; `None` for never. It takes effect at once, and may be in the past. It lies
    /// from [`Timestamp::START_OF_1970`] to [`Timestamp::END_OF_9999`].
    pub expires_at: Option<Timestamp>,
    /// The shares of its limits and of its budget that fire an event; `None` for those of the limiter. They take effect
    /// at once, and the key stores them: reading it shows the thresholds in force.
    ///
    /// After a change, a threshold that has fired or was passed does not fire again in the current window or for the
    /// budget. Neither does one below it. A threshold that is removed and added again counts as a new one.
    pub thresholds: Option<Thresholds>,
    /// Shadow mode: calls of the key are decided and counted as always. A call that a limit or the budget would deny is
    /// let through, flagged with the denial, and charges nothing. It takes effect at once.
    pub shadow: bool,
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
            global: Limits::NONE,
            assets: BTreeMap::new(),
            budget: None,
            expires_at: None,
            thresholds: None,
            shadow: false,
        }
    }

    /// Sets the limits over all calls.
    #[must_use]
    pub fn with_global(self, limits: Limits) -> Self {
        Self { global: limits, ..self }
    }

    /// Sets the limits of one asset.
    #[must_use]
    pub fn with_asset(mut self, asset: AssetId, limits: Limits) -> Self {
        self.assets.insert(asset, limits);
        self
    }

    /// Sets the budget.
    #[must_use]
    pub fn with_budget(self, budget: Credits) -> Self {
        Self { budget: Some(budget), ..self }
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

    /// Returns the configuration with these thresholds if it has none of its own.
    pub(crate) fn or_thresholds(&self, thresholds: Thresholds) -> Self {
        let thresholds = self.thresholds.or(Some(thresholds));
        Self { thresholds, ..self.clone() }
    }

    /// Turns shadow mode on or off.
    #[must_use]
    pub fn with_shadow(self, shadow: bool) -> Self {
        Self { shadow, ..self }
    }

    /// Checks the number of assets and the expiry, as every store does; the types guarantee the rest.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] above [`Self::MAX_ASSETS`]; [`InvalidValue::Instant`] for an expiry before 1970
    /// or after 9999.
    pub fn check(&self) -> Result<(), InvalidValue> {
        let count = self.assets.len();
        if count > Self::MAX_ASSETS {
            return Err(InvalidValue::TooManyAssets { count, max: Self::MAX_ASSETS });
        }
        self.expires_at.map_or(Ok(()), |at| at.check("the expiry of a key"))
    }
}

/// Name, limits, budget and expiry of a key.
#[derive(Deserialize)]
#[serde(remote = "KeyConfig", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawConfig {
    /// Its name, unique in the workspace.
    name: KeyName,
    /// Limits over all calls; none if left out.
    #[serde(default)]
    global: Limits,
    /// Limits of single assets, 1,024 at most.
    #[serde(default, deserialize_with = "distinct_keys")]
    assets: BTreeMap<AssetId, Limits>,
    /// The credits that it may ever spend.
    #[serde(default)]
    budget: Option<Credits>,
    /// The instant at which it expires, in the years 1970 to 9999.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// The shares of its limits and of its budget that fire an event, in percent; those of the limiter if left out.
    #[serde(default)]
    thresholds: Option<Thresholds>,
    /// Whether calls beyond a limit are let through, and flagged.
    #[serde(default)]
    shadow: bool,
}

checked_object!(KeyConfig, RawConfig, |read| read.check().map(|()| read));

/// A key to be created.
#[derive(Clone, Debug)]
#[must_use = "a key is created by Keys::create or by bootstrapping a workspace"]
pub struct NewKey {
    pub(crate) kind: KeyKind,
    pub(crate) config: KeyConfig,
    pub(crate) id: Option<KeyId>,
    pub(crate) access: NewAccess,
}

#[derive(Clone, Debug)]
pub(crate) enum NewAccess {
    Generated,
    Brought(AccessKey),
    None,
}

impl NewKey {
    /// Creates a key that makes calls. By default the engine draws its id and its access key.
    pub const fn member(config: KeyConfig) -> Self {
        Self { kind: KeyKind::Member, config, id: None, access: NewAccess::Generated }
    }

    /// Creates a key that manages the keys of its workspace.
    pub fn admin(config: KeyConfig) -> Self {
        Self { kind: KeyKind::Admin, ..Self::member(config) }
    }

    /// Sets an id of the caller's choice. The caller must never reuse an id, even after the key is deleted.
    pub fn with_id(mut self, id: KeyId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets an access key that the caller brings.
    pub fn with_access_key(mut self, access_key: AccessKey) -> Self {
        self.access = NewAccess::Brought(access_key);
        self
    }

    /// Omits the access key, for services that authenticate their callers themselves.
    pub fn without_access_key(mut self) -> Self {
        self.access = NewAccess::None;
        self
    }
}

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
    fn only_a_name_must_be_said() {
        let config: KeyConfig = serde_json::from_str(r#"{"name":"ci"}"#).unwrap();
        assert_eq!(config, KeyConfig::named("ci").unwrap());
    }
}
