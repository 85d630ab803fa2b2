//! Changes of keys: one at a time, numbered, and written to a journal before they take effect.

use std::fmt::Debug;
use std::sync::Arc;

use limiter_core::{
    KeyId, KeyRotation, KeyUpdate, NewRecord, PlanName, PlanUpdate, StoreError, Timestamp,
    WorkspaceId,
};
use serde::{Deserialize, Serialize};
use tokio::sync;

use crate::sync::Mutex;

/// A change of one key or plan, with all that a restart needs to repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// The number of the change: consecutive within a store, from 1 on.
    pub number: u64,
    /// The time of the change, by the store's clock.
    pub at: Timestamp,
    /// The action of the change.
    pub action: KeyAction,
}

/// The action of a [`KeyChange`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyAction {
    /// Adds a key.
    Create(NewRecord),
    /// Replaces the configuration of a key.
    Update {
        /// The workspace of the key.
        workspace: WorkspaceId,
        /// The new configuration.
        update: KeyUpdate,
    },
    /// Sets what a key has used to zero.
    Reset {
        /// The workspace of the key.
        workspace: WorkspaceId,
        /// The key.
        id: KeyId,
    },
    /// Replaces the access key of a key.
    Rotate {
        /// The workspace of the key.
        workspace: WorkspaceId,
        /// The new access key.
        rotation: KeyRotation,
    },
    /// Creates or changes a plan.
    SavePlan {
        /// The workspace of the plan.
        workspace: WorkspaceId,
        /// The plan.
        update: PlanUpdate,
    },
    /// Deletes a plan.
    DeletePlan {
        /// The workspace of the plan.
        workspace: WorkspaceId,
        /// Its name.
        name: PlanName,
    },
    /// Deletes a key.
    Delete {
        /// The workspace of the key.
        workspace: WorkspaceId,
        /// The key.
        id: KeyId,
    },
}

/// A log of the changes of keys, so that a crash loses no acknowledged change.
///
/// The store appends a change that is certain to succeed, before it takes effect. Counts are not in the journal:
/// [snapshots](crate::MemoryStore::snapshot) save them. To start again, restore the last snapshot with the changes
/// [after it](crate::Snapshot::last_change):
/// [`MemoryStoreBuilder::restore_with`](crate::MemoryStoreBuilder::restore_with).
pub trait Journal: Debug + Send + Sync + 'static {
    /// Appends a change, and returns when it is safe.
    ///
    /// Calls come one at a time, in the order of their numbers. The call may block: decisions and look-ups go on. At
    /// most one thread waits for it, if keys are changed through the async traits.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the change is certainly not in the journal, else [`StoreError::OutcomeUnknown`].
    /// In both cases the store does not make the change, and returns the error to the caller.
    fn append(&self, change: &KeyChange) -> Result<(), StoreError>;
}

/// The order of the changes of a store.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The number of the last change. The lock is held during a whole change.
    pub(crate) last: Mutex<u64>,
    /// The queue of async callers: at `last`, a journal that blocks would block a thread for each of them.
    turn: sync::Mutex<()>,
    /// Admits one snapshot at a time, since there is one list of keys that changed meanwhile.
    pub(crate) snapshot: Mutex<()>,
    journal: Option<Arc<dyn Journal>>,
}

impl Changes {
    pub(crate) fn new(journal: Option<Arc<dyn Journal>>) -> Self {
        Self { journal, ..Self::default() }
    }

    /// Waits for other async callers that change keys, if a journal may block them.
    pub(crate) async fn turn(&self) -> Option<sync::MutexGuard<'_, ()>> {
        match self.journal {
            Some(_) => Some(self.turn.lock().await),
            None => None,
        }
    }

    /// Numbers a change and writes it to the journal. The caller holds the lock of `last`.
    pub(crate) fn append(
        &self,
        last: &mut u64,
        at: Timestamp,
        action: KeyAction,
    ) -> Result<KeyAction, StoreError> {
        let number = last.saturating_add(1);
        let change = KeyChange { number, at, action };
        if let Some(journal) = &self.journal {
            journal.append(&change)?;
        }
        *last = number;
        Ok(change.action)
    }
}
