//! The state of a whole store, to be kept over a restart.

use limiter_core::{KeyId, KeyState, KeysError, SavedLedger, StoredKey, StoredPlan, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cell::Cell;

/// All plans and keys of a store, with their counts, to be saved with any serde format.
///
/// The store saves nothing by itself: take a snapshot now and then, and at shutdown. A crash loses the counts since the
/// last one, and the changes of keys too unless there is a [`Journal`](crate::Journal). A snapshot holds digests, never
/// access keys. It may be restored at any later time: windows that have passed meanwhile are empty then, and changes
/// that were pending are in force.
///
/// ```
/// # mod limiter { pub use limiter_memory::*; pub mod memory { pub use limiter_memory::*; } }
/// use limiter::memory::{MemoryStore, Snapshot};
///
/// let store = MemoryStore::new();
/// let saved = serde_json::to_string(&store.snapshot())?;
///
/// let snapshot: Snapshot = serde_json::from_str(&saved)?;
/// let store = MemoryStore::restore(snapshot)?;
/// # drop(store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The version of this format: see [`Snapshot::FORMAT`].
    format: u32,
    taken_at: Timestamp,
    last_change: u64,
    pub(crate) plans: Vec<StoredPlan>,
    pub(crate) keys: Vec<SavedKey>,
    pub(crate) unregistered: Vec<SavedUnregistered>,
}

/// One key of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedKey {
    pub(crate) key: StoredKey,
    pub(crate) state: KeyState,
    /// Its reservations and the ids of its checks and records, if it has any. The field is required, if only as `null`.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(crate) ledger: Option<SavedLedger>,
}

/// What a key has counted that nobody registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedUnregistered {
    pub(crate) id: KeyId,
    pub(crate) state: KeyState,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(crate) ledger: Option<SavedLedger>,
}

/// A copy of the cell of a key, made while its shard is locked.
pub(crate) struct CopiedCell {
    pub(crate) id: KeyId,
    state: KeyState,
    ledger: Option<SavedLedger>,
}

impl CopiedCell {
    pub(crate) fn of(cell: &Cell) -> Self {
        let ledger = cell.attached.as_ref().and_then(|attached| attached.ledger.as_deref());
        let ledger = ledger.map(SavedLedger::from);
        Self { id: cell.id.clone(), state: cell.state.clone(), ledger }
    }

    pub(crate) fn with(self, key: StoredKey) -> SavedKey {
        SavedKey { key, state: self.state, ledger: self.ledger }
    }

    /// The copy of an unregistered key. A key that was deleted meanwhile is none.
    pub(crate) fn unregistered(self) -> Option<SavedUnregistered> {
        let Self { id, state, ledger } = self;
        (!state.is_registered()).then_some(SavedUnregistered { id, state, ledger })
    }
}

impl Snapshot {
    /// The format that this version writes and reads.
    pub const FORMAT: u32 = 6;

    pub(crate) const fn new(
        taken_at: Timestamp,
        last_change: u64,
        plans: Vec<StoredPlan>,
        keys: Vec<SavedKey>,
        unregistered: Vec<SavedUnregistered>,
    ) -> Self {
        Self { format: Self::FORMAT, taken_at, last_change, plans, keys, unregistered }
    }

    /// Returns when it was taken, by the clock of the store.
    #[must_use]
    pub const fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// Returns the [number](crate::KeyChange::number) of the last change that the snapshot includes; 0 for none.
    #[must_use]
    pub const fn last_change(&self) -> u64 {
        self.last_change
    }

    /// Returns the number of registered keys and groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether it holds no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) const fn check_format(&self) -> Result<(), RestoreError> {
        match self.format {
            Self::FORMAT => Ok(()),
            found => Err(RestoreError::Format { found, known: Self::FORMAT }),
        }
    }
}

/// The reason why a snapshot cannot be restored. The store was not built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Another version of this library wrote it.
    #[error(
        "the snapshot has format {found}, but this version reads format {known}: use the version that wrote it"
    )]
    Format {
        /// The format of the snapshot.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// Its keys contradict each other.
    #[error("the snapshot is inconsistent: its keys contradict each other")]
    Inconsistent(#[source] KeysError),
    /// Changes between the snapshot and the journal are missing.
    #[error(
        "the journal does not follow the snapshot: change {expected} is missing, change {found} was found"
    )]
    Gap {
        /// The number of the change that is missing.
        expected: u64,
        /// The number of the change that was found.
        found: u64,
    },
    /// A change of the journal contradicts the keys before it.
    #[error("change {number} of the journal does not apply to the keys before it")]
    Change {
        /// Its number.
        number: u64,
        /// The reason why the change is not allowed.
        #[source]
        source: KeysError,
    },
}
