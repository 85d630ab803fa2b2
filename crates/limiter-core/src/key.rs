//! A key's record, and the part of it that a store keeps.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::access_key::{AccessKey, KeyDigest, MaskedKey};
use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind};
use crate::credits::Credits;
use crate::limits::{Limits, WindowLimits, counted};
use crate::names::{AssetId, KeyId, KeyName, WorkspaceId};
use crate::schedule::ScopeState;
use crate::state::KeyState;
use crate::thresholds::Thresholds;
use crate::window::Window;

/// A key that was just created, and its access key, which is shown this once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CreatedKey {
    /// The key's record.
    pub record: KeyRecord,
    /// The secret to hand over, unless the key has none.
    pub access_key: Option<AccessKey>,
}

/// A key's record, as read at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema), schema(as = Key))]
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
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub access_key: Option<MaskedKey>,
    /// Limits over all calls.
    pub global: ScopeLimits,
    /// Limits of each asset that has some, configured, in force or pending.
    pub assets: BTreeMap<AssetId, ScopeLimits>,
    /// The credits that it may ever spend.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub budget: Option<Credits>,
    /// The instant at which it expires.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub expires_at: Option<Timestamp>,
    /// The shares of its limits and of its budget that fire an event.
    pub thresholds: Thresholds,
    /// Whether it is in shadow mode: what would be denied for a limit is let through.
    pub shadow: bool,
    /// Counts the changes of the key; an update names the version that it was made from.
    pub version: u64,
    /// When this was read, by the store's clock.
    pub read_at: Timestamp,
}

/// The limits of a scope: as configured, as in force now, and what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ScopeLimits {
    /// The limits as an admin last set them.
    pub configured: Limits,
    /// The limits of this minute.
    pub minute: InForce,
    /// The limits of this day.
    pub day: InForce,
}

/// The limits that are in force in one kind of window, and the change that is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct InForce {
    /// The limits in force now.
    pub limits: WindowLimits,
    /// The limits that replace them when the window ends, if a change is pending.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub pending: Option<PendingLimits>,
}

/// Limits that are not in force yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PendingLimits {
    /// The limits that will be in force.
    pub limits: WindowLimits,
    /// The instant of the change: the start of the next window.
    pub effective_at: Timestamp,
}

impl KeyRecord {
    /// Returns the record of a stored key at `now`.
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
            thresholds: state.thresholds(),
            shadow: state.is_shadow(),
            version: key.version,
            read_at: now,
        }
    }

    /// Returns the configuration, to change and save again.
    #[must_use]
    pub fn config(&self) -> KeyConfig {
        let configured = self.assets.iter().map(|(id, limits)| (id.clone(), limits.configured));
        KeyConfig {
            name: self.name.clone(),
            global: self.global.configured,
            assets: configured.filter(|(_, limits)| !limits.is_none()).collect(),
            budget: self.budget,
            expires_at: self.expires_at,
            thresholds: Some(self.thresholds),
            shadow: self.shadow,
        }
    }

    /// Returns whether the key was expired when this was read.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= self.read_at)
    }
}

impl ScopeLimits {
    /// Returns the changes that are not in force yet.
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

/// The part of a key that a store keeps in addition to its [`KeyState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    /// Its id.
    pub id: KeyId,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: KeyName,
    /// The stored part of its access key.
    #[serde(deserialize_with = "Option::deserialize")]
    pub secret: Option<StoredSecret>,
    /// Starts at 1 and grows with each change, up to [`MAX_COUNT`](crate::MAX_COUNT).
    #[serde(deserialize_with = "countable")]
    pub version: u64,
}

/// The stored part of an access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSecret {
    /// The digest, to find the key.
    pub digest: KeyDigest,
    /// The ends, to recognise it.
    pub masked: MaskedKey,
}

fn countable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    counted("the version of a key", u64::deserialize(deserializer)?).map_err(D::Error::custom)
}

impl From<&AccessKey> for StoredSecret {
    fn from(access_key: &AccessKey) -> Self {
        Self { digest: access_key.digest(), masked: access_key.masked() }
    }
}
