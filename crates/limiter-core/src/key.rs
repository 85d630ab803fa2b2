//! A key's record, and the part of it that a store keeps.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::access_key::{AccessKey, KeyDigest, MaskedKey};
use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind};
use crate::limits::{Limits, counted};
use crate::names::{KeyId, KeyName, WorkspaceId};
use crate::state::{KeyState, ScopeId};
use crate::usage::PendingLimits;

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
    /// Member, admin or group.
    pub kind: KeyKind,
    /// The ends of its access key, if it has one.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub access_key: Option<MaskedKey>,
    /// The configuration as an admin last saved it.
    #[serde(flatten)]
    pub config: KeyConfig,
    /// The limits of each scope that is counted, in force and pending.
    pub limits: Vec<ScopeLimits>,
    /// Counts the changes of the key; an update names the version that it was made from.
    pub version: u64,
    /// When this was read, by the store's clock.
    pub read_at: Timestamp,
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
        let (global, assets, other) = state.configured();
        let config = KeyConfig {
            name: key.name.clone(),
            global,
            assets,
            other,
            expires_at: state.expires_at(),
            time_zone: state.time_zone().clone(),
            thresholds: state.own_thresholds.then(|| state.thresholds()),
            shadow: state.is_shadow(),
        };
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
        Self {
            id: key.id.clone(),
            workspace: key.workspace.clone(),
            kind: state.kind(),
            access_key: key.secret.map(|secret| secret.masked),
            config,
            limits: limits.filter(|of| !of.in_force.is_none() || !of.pending.is_empty()).collect(),
            version: key.version,
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
