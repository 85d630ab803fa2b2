//! A key's record, and the part of it that a store keeps.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::access_key::{AccessKey, KeyDigest, MaskedKey};
use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind};
use crate::labels::Labels;
use crate::limits::{Limits, MAX_COUNT, counted};
use crate::names::{KeyId, KeyName, WorkspaceId};
use crate::state::{KeyState, ScopeId};
use crate::store::{KeyRotation, NewRecord};
use crate::usage::PendingLimits;

/// A key that was just created, or whose access key was just replaced, and its new access key, which is shown this once.
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
    /// Member, admin or group.
    pub kind: KeyKind,
    /// The ends of its access key, if it has one.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub access_key: Option<MaskedKey>,
    /// The access keys that it had before and that still work, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<ReplacedKey>,
    /// The configuration as an admin last saved it.
    #[serde(flatten)]
    pub config: KeyConfig,
    /// The limits of each scope that is counted, in force and pending.
    pub limits: Vec<ScopeLimits>,
    /// Counts the changes of the key; an update names the version that it was made from.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its configuration or its access key was last changed, or else when it was created.
    pub changed_at: Timestamp,
    /// When this was read, by the store's clock.
    pub read_at: Timestamp,
}

/// An access key that was replaced, and works on for its grace time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ReplacedKey {
    /// Its ends.
    pub access_key: MaskedKey,
    /// The instant from which on it is refused.
    pub works_until: Timestamp,
}

/// The limits of a scope: those in force now, and those that are pending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ScopeLimits {
    /// The scope.
    #[serde(flatten)]
    pub scope: ScopeId,
    /// The limits in force now.
    pub in_force: Limits,
    /// The changes that are not in force yet.
    pub pending: Vec<PendingLimits>,
}

impl KeyRecord {
    /// Returns the record of a stored key at `now`.
    #[must_use]
    pub fn of(key: &StoredKey, state: &KeyState, now: Timestamp) -> Self {
        let config = key.config(state);
        let limits = state.every_scope().map(|(scope, counted)| {
            let counted = counted.at(now, state.time_zone());
            let parallel = state.parallel_limit(&scope);
            let in_force = counted.record().limits().with_parallel(parallel);
            ScopeLimits { scope, in_force, pending: counted.pending_limits() }
        });
        // Other assets that have a parallel limit alone are not counted.
        let other = state.parallel_limit(&ScopeId::OTHER).filter(|_| state.other().is_none());
        let other = other.map(|limit| ScopeLimits {
            scope: ScopeId::OTHER,
            in_force: Limits::NONE.with_parallel(Some(limit)),
            pending: Vec::new(),
        });
        let limits = limits.chain(other);
        let replaced = key.replaced.iter().filter(|old| now < old.works_until);
        let replaced = replaced
            .map(|old| ReplacedKey { access_key: old.secret.masked, works_until: old.works_until });
        Self {
            id: key.id.clone(),
            workspace: key.workspace.clone(),
            kind: state.kind(),
            access_key: key.secret.map(|secret| secret.masked),
            replaced: replaced.collect(),
            config,
            limits: limits.filter(|of| !of.in_force.is_none() || !of.pending.is_empty()).collect(),
            version: key.version,
            created_at: key.created_at,
            changed_at: key.changed_at,
            read_at: now,
        }
    }

    /// Returns the limits of a scope, in force and pending, if it has any.
    #[must_use]
    pub fn limits_of(&self, scope: &ScopeId) -> Option<&ScopeLimits> {
        self.limits.iter().find(|of| of.scope == *scope)
    }

    /// Returns whether the key was expired when this was read.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.config.expires_at.is_some_and(|expires_at| expires_at <= self.read_at)
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
    /// Its labels.
    pub labels: Labels,
    /// Its own configuration, if its state does not tell it: with a plan, or with limits that lift those of one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub own: Option<Arc<KeyConfig>>,
    /// The stored part of its access key.
    #[serde(deserialize_with = "Option::deserialize")]
    pub secret: Option<StoredSecret>,
    /// The access keys that it had before, the latest first: those that work on, and some whose time is over.
    pub replaced: Vec<ReplacedSecret>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its configuration or its access key was last changed.
    pub changed_at: Timestamp,
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
    /// The prefix and the ends, to recognise it.
    pub masked: MaskedKey,
    /// Whether the engine drew it. Of those, no two of a workspace look alike.
    pub is_drawn: bool,
}

/// The stored part of an access key that was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplacedSecret {
    /// The access key.
    pub secret: StoredSecret,
    /// The instant from which on it is refused.
    pub works_until: Timestamp,
}

impl StoredKey {
    /// The most replaced access keys that a key has: one more, and the oldest is refused at once.
    pub const MOST_REPLACED: usize = 4;

    /// Returns the stored form of a key that is created at `now`.
    #[must_use]
    pub fn new(key: &NewRecord, now: Timestamp) -> Self {
        Self {
            id: key.id.clone(),
            workspace: key.workspace.clone(),
            name: key.config.name.clone(),
            labels: key.config.labels.clone(),
            own: key.config.if_not_told(),
            secret: key.secret,
            replaced: Vec::new(),
            created_at: now,
            changed_at: now,
            version: 1,
        }
    }

    /// Returns whether a caller with the access key of this digest is this key. Compares in constant time.
    #[must_use]
    pub fn answers_to(&self, digest: &KeyDigest, now: Timestamp) -> bool {
        let replaced = self.replaced.iter().filter(|old| now < old.works_until);
        let working = self.secret.iter().chain(replaced.map(|old| &old.secret));
        working.fold(false, |found, secret| secret.digest.matches(digest) | found)
    }

    /// Returns the digests of its access key and of those that were replaced, also of those whose time is over.
    pub fn digests(&self) -> impl Iterator<Item = KeyDigest> {
        let replaced = self.replaced.iter().map(|old| old.secret);
        self.secret.into_iter().chain(replaced).map(|secret| secret.digest)
    }

    /// Returns the mask that no other key of the workspace may have, if the engine drew its access key.
    #[must_use]
    pub fn unique_mask(&self) -> Option<MaskedKey> {
        self.secret.and_then(|secret| secret.unique_mask())
    }

    /// Returns whether this part of the key is configured like this.
    #[must_use]
    pub fn is_configured(&self, config: &KeyConfig) -> bool {
        self.name == config.name && self.labels == config.labels && self.own == config.if_not_told()
    }

    /// Returns the next version of the key, with this configuration.
    #[must_use]
    pub fn configured(self, config: &KeyConfig, now: Timestamp) -> Self {
        let (name, labels) = (config.name.clone(), config.labels.clone());
        let version = self.version.saturating_add(1).min(MAX_COUNT);
        Self { name, labels, own: config.if_not_told(), version, changed_at: now, ..self }
    }

    /// Returns the configuration of a key of this state, as an admin last saved it.
    #[must_use]
    pub fn config(&self, state: &KeyState) -> KeyConfig {
        let (name, labels) = (self.name.clone(), self.labels.clone());
        if let Some(own) = &self.own {
            return KeyConfig { name, labels, ..KeyConfig::clone(own) };
        }
        let (global, assets, other) = state.configured();
        KeyConfig {
            name,
            plan: None,
            open: state.opens().cloned(),
            global,
            assets,
            other,
            expires_at: state.expires_at(),
            time_zone: state.time_zone().clone(),
            thresholds: state.own_thresholds.then(|| state.thresholds()),
            shadow: state.is_shadow(),
            labels,
        }
    }

    /// Returns the key with a new access key. Those that it had before work on for their grace time, or end at once if the
    /// rotation gives none.
    #[must_use]
    pub fn rotated(self, rotation: &KeyRotation, now: Timestamp) -> Self {
        let works_until = now.after(rotation.grace);
        let before = self.secret.map(|secret| ReplacedSecret { secret, works_until });
        let works_on = |old: &ReplacedSecret| now < old.works_until;
        let replaced = before.into_iter().chain(self.replaced).filter(works_on);
        let replaced = if rotation.grace.is_zero() {
            Vec::new()
        } else {
            replaced.take(Self::MOST_REPLACED).collect()
        };
        Self { secret: Some(rotation.secret), replaced, changed_at: now, ..self }
    }
}

impl StoredSecret {
    /// Returns the stored part of an access key that the engine drew.
    #[must_use]
    pub fn drawn(access_key: &AccessKey) -> Self {
        Self { is_drawn: true, ..Self::from(access_key) }
    }

    /// Returns the mask that no other key of the workspace may have, if the engine drew it.
    #[must_use]
    pub fn unique_mask(&self) -> Option<MaskedKey> {
        self.is_drawn.then_some(self.masked)
    }
}

fn countable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    counted("the version of a key", u64::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The stored part of an access key that a caller brought.
impl From<&AccessKey> for StoredSecret {
    fn from(access_key: &AccessKey) -> Self {
        Self { digest: access_key.digest(), masked: access_key.masked(), is_drawn: false }
    }
}
