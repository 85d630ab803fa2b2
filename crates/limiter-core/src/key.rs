//! What is known of a key, and what an admin says of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access_key::{AccessKey, KeyDigest, MaskedKey};
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::limits::{Limits, WindowLimits};
use crate::names::{AssetId, KeyId, KeyName, WorkspaceId};
use crate::schedule::ScopeState;
use crate::state::KeyState;
use crate::window::Window;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum KeyKind {
    /// Makes calls and reads its own usage.
    Member,
    /// Manages the keys of its workspace and makes no calls.
    Admin,
}

/// What an admin says of a key: its name, limits, budget and expiry.
///
/// The same for creating and updating a key: an update replaces the whole configuration, so that one
/// reads a key, changes its [`config`](KeyRecord::config) and saves it with the version that was read.
///
/// ```
/// use limiter_core::{KeyConfig, Limits};
///
/// let config = KeyConfig::named("ci")?
///     .with_global(Limits::builder().requests_per_minute(60).build()?)
///     .with_asset("gpt-5".parse()?, Limits::builder().tokens_per_day(100_000).build()?)
///     .with_budget("25.50".parse()?);
/// assert_eq!(config.assets.len(), 1);
/// # Ok::<(), limiter_core::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyConfig {
    /// Its name, unique among the living keys of the workspace.
    pub name: KeyName,
    /// Limits over all calls of the key.
    #[serde(default)]
    pub global: Limits,
    /// Limits of single assets. An asset that is not listed meets the global limits alone.
    #[serde(default)]
    pub assets: BTreeMap<AssetId, Limits>,
    /// The credits that the key may ever spend; `None` for any amount. Takes effect at once.
    #[serde(default)]
    pub budget: Option<Credits>,
    /// From when on the key is expired; `None` for never. Takes effect at once, and may be in the past.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

impl KeyConfig {
    /// The most assets with limits: enough for a catalogue of models, and a bound on a key's memory.
    pub const MAX_ASSETS: usize = 1_024;

    /// A key of this name, without any limits.
    ///
    /// # Errors
    /// [`InvalidValue::Length`] if the name is empty or longer than [`KeyName::MAX_BYTES`].
    pub fn named(name: impl AsRef<str>) -> Result<Self, InvalidValue> {
        KeyName::new(name).map(Self::new)
    }

    /// A key of this name, without any limits.
    #[must_use]
    pub const fn new(name: KeyName) -> Self {
        Self { name, global: Limits::NONE, assets: BTreeMap::new(), budget: None, expires_at: None }
    }

    /// The same with these limits over all calls.
    #[must_use]
    pub fn with_global(self, limits: Limits) -> Self {
        Self { global: limits, ..self }
    }

    /// The same with these limits of one asset.
    #[must_use]
    pub fn with_asset(mut self, asset: AssetId, limits: Limits) -> Self {
        self.assets.insert(asset, limits);
        self
    }

    /// The same with this budget.
    #[must_use]
    pub fn with_budget(self, budget: Credits) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// The same with this expiry.
    #[must_use]
    pub fn with_expiry(self, expires_at: impl Into<Timestamp>) -> Self {
        Self { expires_at: Some(expires_at.into()), ..self }
    }

    /// Checks the number of assets; everything else is valid because it exists.
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        match self.assets.len() {
            count if count > Self::MAX_ASSETS => {
                Err(InvalidValue::TooManyAssets { count, max: Self::MAX_ASSETS })
            }
            _ => Ok(()),
        }
    }
}

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
    /// A key that makes calls. Its id and its access key are made by the engine unless said otherwise.
    pub const fn member(config: KeyConfig) -> Self {
        Self { kind: KeyKind::Member, config, id: None, access: NewAccess::Generated }
    }

    /// A key that manages the keys of its workspace.
    pub fn admin(config: KeyConfig) -> Self {
        Self { kind: KeyKind::Admin, ..Self::member(config) }
    }

    /// With an id of the caller's choice. Ids must never be used again, also after a deletion: who
    /// chooses them keeps to that.
    pub fn with_id(mut self, id: KeyId) -> Self {
        self.id = Some(id);
        self
    }

    /// With an access key that the caller brings.
    pub fn with_access_key(mut self, access_key: AccessKey) -> Self {
        self.access = NewAccess::Brought(access_key);
        self
    }

    /// Without an access key, for services that authenticate their callers themselves.
    pub fn without_access_key(mut self) -> Self {
        self.access = NewAccess::None;
        self
    }
}

/// A key that was just created, and its access key, which is shown this once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CreatedKey {
    /// What is known of the key.
    pub record: KeyRecord,
    /// The secret to hand over, unless the key has none.
    pub access_key: Option<AccessKey>,
}

/// What is known of a key, as read at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KeyRecord {
    /// Its id.
    pub id: KeyId,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// Member or admin.
    pub kind: KeyKind,
    /// Its name.
    pub name: KeyName,
    /// The ends of its access key, if it has one.
    pub access_key: Option<MaskedKey>,
    /// Limits over all calls.
    pub global: ScopeLimits,
    /// Limits of each asset that has some, configured, in force or pending.
    pub assets: BTreeMap<AssetId, ScopeLimits>,
    /// The credits that it may ever spend.
    pub budget: Option<Credits>,
    /// From when on it is expired.
    pub expires_at: Option<Timestamp>,
    /// Counts the changes of the key; an update names the version that it was made from.
    pub version: u64,
    /// When this was read, by the store's clock.
    pub read_at: Timestamp,
}

/// The limits of a scope: as configured, as in force now, and what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScopeLimits {
    /// As an admin last set them.
    pub configured: Limits,
    /// Those of this minute.
    pub minute: InForce,
    /// Those of this day.
    pub day: InForce,
}

/// The limits that are in force in one kind of window, and the change that is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InForce {
    /// What is in force now.
    pub limits: WindowLimits,
    /// What replaces it when the window ends.
    pub pending: Option<PendingLimits>,
}

/// Limits that are not in force yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingLimits {
    /// What will be in force.
    pub limits: WindowLimits,
    /// From when on: the start of the next window.
    pub effective_at: Timestamp,
}

impl KeyRecord {
    /// What one sees of a stored key at `now`.
    #[must_use]
    pub fn of(key: &StoredKey, state: &KeyState, now: Timestamp) -> Self {
        let limits = |scope: &ScopeState| scope.at(now).map(|scope| ScopeLimits::of(&scope));
        let assets = state
            .assets()
            .filter_map(|(id, scope)| limits(scope).map(|limits| (id.clone(), limits)));
        Self {
            id: key.id.clone(),
            workspace: key.workspace.clone(),
            kind: state.kind(),
            name: key.name.clone(),
            access_key: key.secret.map(|secret| secret.masked),
            global: state.global().and_then(limits).unwrap_or_default(),
            assets: assets.collect(),
            budget: state.credits().budget,
            expires_at: state.expires_at(),
            version: key.version,
            read_at: now,
        }
    }

    /// The configuration, to change and save again.
    #[must_use]
    pub fn config(&self) -> KeyConfig {
        let configured = self.assets.iter().map(|(id, limits)| (id.clone(), limits.configured));
        KeyConfig {
            name: self.name.clone(),
            global: self.global.configured,
            assets: configured.filter(|(_, limits)| !limits.is_none()).collect(),
            budget: self.budget,
            expires_at: self.expires_at,
        }
    }

    /// Whether the key was expired when this was read.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= self.read_at)
    }
}

impl ScopeLimits {
    /// The changes that are not in force yet.
    pub fn pending(&self) -> impl Iterator<Item = (Window, PendingLimits)> {
        let windows = [(Window::Minute, self.minute), (Window::Day, self.day)];
        windows.into_iter().filter_map(|(window, in_force)| Some((window, in_force.pending?)))
    }

    fn of(scope: &ScopeState) -> Self {
        Self {
            configured: scope.configured(),
            minute: InForce::of(scope, Window::Minute),
            day: InForce::of(scope, Window::Day),
        }
    }
}

impl InForce {
    fn of(scope: &ScopeState, window: Window) -> Self {
        let counts = scope.counts(window);
        let effective_at = counts.resets_at();
        let pending = scope.pending(window);
        Self {
            limits: counts.limits(),
            pending: pending.map(|limits| PendingLimits { limits, effective_at }),
        }
    }
}

/// What a store keeps of a key beside its [`KeyState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKey {
    /// Its id.
    pub id: KeyId,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: KeyName,
    /// What is kept of its access key.
    pub secret: Option<StoredSecret>,
    /// Starts at 1 and grows with each change.
    pub version: u64,
}

/// What a store keeps of an access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// By which it is found.
    pub digest: KeyDigest,
    /// By which people recognise it.
    pub masked: MaskedKey,
}

impl From<&AccessKey> for StoredSecret {
    fn from(access_key: &AccessKey) -> Self {
        Self { digest: access_key.digest(), masked: access_key.masked() }
    }
}
