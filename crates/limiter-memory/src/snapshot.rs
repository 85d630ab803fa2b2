//! The state of a whole store, to be kept over a restart.

use limiter_core::{KeyState, KeysError, Ledger, StoredKey, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// All keys of a store with their counts, to be saved with any serde format.
///
/// Nothing is saved by itself: take one now and then, and at shutdown; what was counted since the last
/// one is lost in a crash. It holds digests, never access keys. It may be restored at any later time: windows that have passed
/// meanwhile are empty then, and changes that were pending are in force.
///
/// ```
/// use limiter_memory::{MemoryStore, Snapshot};
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
pub struct Snapshot {
    /// Of this format: see [`Snapshot::FORMAT`].
    format: u32,
    taken_at: Timestamp,
    pub(crate) keys: Vec<SavedKey>,
}

/// One key of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedKey {
    pub(crate) key: StoredKey,
    pub(crate) state: KeyState,
    /// What is remembered of its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ledger: Option<Ledger>,
}

impl Snapshot {
    /// The format that this version writes and reads.
    pub const FORMAT: u32 = 1;

    pub(crate) const fn new(taken_at: Timestamp, keys: Vec<SavedKey>) -> Self {
        Self { format: Self::FORMAT, taken_at, keys }
    }

    /// When it was taken, by the clock of the store.
    #[must_use]
    pub const fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    /// How many keys it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds no key.
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

/// Why a snapshot cannot be restored. The store was not built.
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
    /// Two of its keys cannot live together.
    #[error("the snapshot contradicts itself: two of its keys cannot live together")]
    Inconsistent(#[source] KeysError),
}
