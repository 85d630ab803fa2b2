//! How changes begin and end, also those of clients that stopped halfway.

use limiter_core::{KeyId, KeysError, StoreError, WorkspaceId};
use tokio::time::{Instant, sleep};

use super::chance::{Pauses, Token};
use super::change::{Begin, Change, Entry, Intent, Journal};
use super::pointer::Pointer;
use super::{Directory, ManagementError, Stop, changing_nothing, has_digest};

impl Directory {
    /// Begins a change as soon as no other one is under way; finishes those that were left behind.
    pub(super) async fn begin(
        &self,
        workspace: &WorkspaceId,
        token: &Token,
        intent: &Intent<'_>,
    ) -> Result<Change, KeysError> {
        let started = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            match self.changes.begin(workspace, token, intent).await? {
                Begin::Begun(change) => return Ok(change),
                Begin::Refused(refusal) => return Err(refusal.into_error(intent.id, intent.name)),
                Begin::Crashed(change, journal) => self.heal(&change, &journal).await?,
                Begin::Busy => sleep(pauses.draw()).await,
            }
            if started.elapsed() >= self.patience {
                return Err(StoreError::unavailable(ManagementError::Busy).into());
            }
        }
    }

    /// Makes the index right about this key, and finishes what was left behind; not now if another change is under way.
    pub(super) async fn repair(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<(), StoreError> {
        match self.changes.begin(workspace, &Token::draw(), &Intent::of(id)).await? {
            Begin::Begun(change) => {
                self.heal(&change, &Journal { id: id.clone(), pointer: None }).await
            }
            Begin::Crashed(change, journal) => self.heal(&change, &journal).await,
            Begin::Busy | Begin::Refused(_) => Ok(()),
        }
    }

    /// Ends a change whose record is as it shall be. If that fails, whoever comes after the lease does it.
    pub(super) async fn finish(&self, change: &Change, id: &KeyId, entry: Option<&Entry>) {
        if let Err(error) = self.changes.finish(change, id, entry).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(workspace = %change.workspace, error, "a change of keys is to be finished later");
        }
    }

    /// Takes back what was prepared for a change that was refused. If that fails, or if a step may still happen,
    /// whoever comes after the lease does it.
    pub(super) async fn concluded<T>(
        &self,
        change: &Change,
        prepared: Option<&Pointer>,
        outcome: Result<T, Stop>,
    ) -> Result<T, KeysError> {
        let error = match outcome {
            Ok(done) => return Ok(done),
            Err(Stop::Unknown(error)) => return Err(error),
            Err(Stop::Refused(error)) => error,
        };
        let taken_back = match prepared {
            Some(pointer) => self.pointers.remove(pointer).await,
            None => Ok(()),
        };
        let ended = match taken_back {
            Ok(()) => self.changes.abandon(change).await,
            failed => failed,
        };
        if let Err(error) = ended {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(workspace = %change.workspace, error, "a refused change of keys is to be taken back later");
        }
        Err(error)
    }

    /// Finishes a change of which only its journal is known: the record says whether it happened, and it cannot happen
    /// any more.
    async fn heal(&self, change: &Change, journal: &Journal) -> Result<(), StoreError> {
        let found = self.read_in(&change.workspace, &journal.id).await?;
        if let Some(pointer) = &journal.pointer
            && !found.as_ref().is_some_and(|found| has_digest(found, &pointer.digest))
        {
            self.pointers.remove(pointer).await.map_err(changing_nothing)?;
        }
        let entry = found.map(|found| Entry::of(&found.record));
        let finished = self.changes.finish(change, &journal.id, entry.as_ref()).await;
        finished.map(drop).map_err(changing_nothing)
    }
}
