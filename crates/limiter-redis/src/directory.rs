//! The directory of keys: their workspaces, names and access keys, kept exact across the slots of a cluster.
//!
//! A key's record, the pointers from the digests of its access keys, and the index of its workspace (names, masks of access keys
//! that the engine drew, permanent admins) lie in different slots, so that no script can change them together. The record alone is the truth: a key
//! exists as soon as its record does, and no longer. The rest is an index, kept right by a *change*: a client that creates
//! some keys of a workspace, deletes or renames one, replaces its access key, or makes it more or less of an admin,
//!
//! 1. begins a change: one script on the workspace's slot that refuses what the index forbids, and notes which keys are
//!    being changed and until when (the lease);
//! 2. claims the pointer of each key, when creating, or that of its new access key;
//! 3. creates, updates or deletes each record: the moment at which it happens;
//! 4. finishes: one script that makes the index agree with the record, and ends the change.
//!
//! A workspace has one change at a time; others wait. If a client stops halfway, the next client after the lease takes its
//! change over, reads the records and finishes in its place. The stopped client cannot interfere any more should it wake
//! up: steps 2 and 3 refuse to run after half of the lease by the clock of their own server, and step 4 refuses if the
//! change is not the client's any more. This assumes that the clocks of the servers differ by less than half a lease.
//!
//! A key with a damaged record stays in the index until it is deleted: deleting needs no record. No other key of the
//! workspace is affected, not even if the damaged record has its name: the index gives a name to one key, which keeps it.
//!
//! Changes of limits, budget and of an expiry that is no admin's touch no index: one script on the key's slot.

mod chance;
mod change;
mod creating;
mod deleting;
mod healing;
mod journal;
mod listing;
pub(crate) mod planning;
mod pointer;
mod rotating;
mod stretch;
#[cfg(test)]
mod tests;
mod updating;

use std::time::Duration;

use limiter_core::{
    KeyDigest, KeyFailure, KeyId, KeyName, KeyRecord, KeyRotation, KeyUpdate, KeysError, NewRecord,
    Page, Search, StoreError, UpdatedKey, WorkspaceId,
};
use redis::FromRedisValue;
use thiserror::Error;

use self::change::Changes;
use self::pointer::Pointers;
use crate::error::{CommandError, RedisError};
use crate::keys::Keys;
use crate::records::{Found, Records, Undone};
use crate::runtime::{self, in_runtime};

/// The keys of all workspaces.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    records: Records,
    changes: Changes,
    pointers: Pointers,
    patience: Duration,
}

/// How long the clients of a workspace wait for each other. All clients of a deployment should agree on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// How long a change may take before others may take it over, in the time of the workspace's server.
    pub(crate) lease: Duration,
    /// How long to wait for the changes of others.
    pub(crate) patience: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { lease: LEASE, patience: PATIENCE }
    }
}

/// The operations of a [`Store`](limiter_core::Store), with its semantics.
///
/// Changes run on when their caller goes away: one that is dropped halfway would block its workspace for a lease.
impl Directory {
    pub(crate) fn new(keys: &Keys, waiting: Waiting) -> Self {
        Self {
            records: Records::new(keys.clone()),
            changes: Changes::new(keys.clone(), waiting.lease),
            pointers: Pointers::new(keys.clone()),
            patience: waiting.patience,
        }
    }

    pub(crate) async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        let Some(held) = self.pointers.read(digest).await? else { return Ok(None) };
        // A pointer is there a moment before its key, and may be left behind by one that never came to be.
        let found = self.records.read(&held.id).await.map_err(|error| of_key(&held.id, error))?;
        Ok(found.filter(|found| found.answers_to(digest)).map(|_| held.id))
    }

    pub(crate) async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        let created = self.create_many(vec![key]).await?.pop();
        created.unwrap_or_else(|| Err(unexpected_reply().into()))
    }

    pub(crate) async fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError> {
        update.config.check()?;
        let (directory, workspace, update) = (self.clone(), workspace.clone(), update.clone());
        to_the_end(async move { directory.update_key(&workspace, &update).await }).await
    }

    /// Sets what a key has used to zero: one step at its slot.
    pub(crate) async fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        let (directory, workspace, id) = (self.clone(), workspace.clone(), id.clone());
        let reset = async move { directory.records.reset(&workspace, &id).await };
        to_the_end(async move {
            reset.await.map_err(|undone| match undone.into() {
                Stop::Refused(error) | Stop::Unknown(error) => error,
            })
        })
        .await
    }

    /// Finds a key by its name: the index names it, and its record has the last word.
    pub(crate) async fn find(
        &self,
        workspace: &WorkspaceId,
        name: &KeyName,
    ) -> Result<Option<KeyId>, StoreError> {
        let named = self.changes.named(workspace, &[name]).await?.pop();
        let Some(id) = named.flatten() else { return Ok(None) };
        let found = self.read_in(workspace, &id).await?;
        Ok(found.filter(|found| found.record.config.name == *name).map(|_| id))
    }

    pub(crate) async fn rotate(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError> {
        let (directory, workspace, rotation) = (self.clone(), workspace.clone(), rotation.clone());
        to_the_end(async move { directory.rotate_key(&workspace, &rotation).await }).await
    }

    pub(crate) async fn delete(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<(), KeysError> {
        let (directory, workspace, id) = (self.clone(), workspace.clone(), id.clone());
        to_the_end(async move { directory.delete_key(&workspace, &id).await }).await
    }

    pub(crate) async fn list(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
    ) -> Result<Page, StoreError> {
        // Its tasks need a runtime each time it is polled.
        let listed = in_runtime(async { Ok(self.list_keys(workspace, search).await) }).await;
        listed.map_err(CommandError::of_reading)?
    }

    /// Reads a key of this workspace; one of another workspace does not exist.
    async fn read_in(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<Option<Found>, StoreError> {
        let found = self.records.read(id).await?;
        Ok(found.filter(|found| found.record.workspace == *workspace))
    }
}

/// The reason why a change stops before its end.
#[derive(Debug)]
enum Stop {
    /// Nothing was changed for good: the prepared steps can be undone at once.
    Refused(KeysError),
    /// A step may still happen: the change must stay until its lease is over.
    Unknown(KeysError),
}

impl Stop {
    /// A step that alone changes nothing for good did not work.
    fn before_commit(error: CommandError) -> Self {
        match Self::at_commit(error) {
            Self::Unknown(KeysError::Store(error)) => Self::Unknown(changing_nothing(error).into()),
            stop => stop,
        }
    }

    /// The step that decides did not work.
    fn at_commit(error: CommandError) -> Self {
        match error {
            CommandError::NotRun(_) => Self::Refused(StoreError::from(error).into()),
            CommandError::Unknown(_) => Self::Unknown(StoreError::from(error).into()),
        }
    }

    fn too_late() -> Self {
        Self::Refused(StoreError::unavailable(ManagementError::TooLate).into())
    }
}

impl From<Undone> for Stop {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Refused(error) => Self::Refused(error),
            Undone::TooLate => Self::too_late(),
            Undone::Failed(error) => Self::at_commit(error),
        }
    }
}

/// The reason why keys cannot be managed right now although the servers answer.
#[derive(Debug, Error)]
pub(crate) enum ManagementError {
    #[error("other changes to the keys of this workspace did not finish in time: try again")]
    Busy,
    #[error("a change of keys took too long, and another caller may have taken it over")]
    TooLate,
    #[error("a server returned an unexpected reply to a script")]
    UnexpectedReply,
}

/// Names the key in the error of a step that reached only the part of this key.
fn of_key(id: &KeyId, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(cause) => {
            StoreError::unavailable(KeyFailure::new(id.clone(), cause))
        }
        StoreError::OutcomeUnknown(cause) => {
            StoreError::outcome_unknown(KeyFailure::new(id.clone(), cause))
        }
        error => error,
    }
}

/// Whether the data of a key is damaged. What a later version wrote is not: only that version knows what belongs to it.
fn is_damage(error: &StoreError) -> bool {
    let StoreError::Corrupt(cause) = error else { return false };
    !matches!(cause.downcast_ref(), Some(RedisError::NewerFormat { .. }))
}

/// The error of a failed step that changes nothing that its caller could notice: it has no unknown outcome.
fn changing_nothing(error: impl Into<StoreError>) -> StoreError {
    match error.into() {
        StoreError::OutcomeUnknown(source) => StoreError::Unavailable(source),
        error => error,
    }
}

/// Reads what a script answered.
fn parsed<T: FromRedisValue>(reply: redis::Value) -> Result<T, StoreError> {
    redis::from_redis_value(reply).map_err(|_| unexpected_reply())
}

fn unexpected_reply() -> StoreError {
    StoreError::unavailable(ManagementError::UnexpectedReply)
}

/// Does all of it, also if the caller stops waiting.
async fn to_the_end<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    change: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    let runtime =
        runtime::current().map_err(|error| StoreError::from(CommandError::NotRun(error)))?;
    let done = runtime.spawn(change).await;
    done.unwrap_or_else(|error| Err(StoreError::outcome_unknown(error).into()))
}

/// A change takes four to six round trips, a few milliseconds in all. Half of the lease must cover a slow server and
/// clocks that differ; the other half is what a crash blocks its workspace for, at least.
const LEASE: Duration = Duration::from_secs(10);
/// Enough for hundreds of changes before ours; people wait for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
