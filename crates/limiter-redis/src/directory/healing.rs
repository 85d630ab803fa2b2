//! How changes begin and end, also those of clients that stopped halfway.

use std::collections::BTreeSet;

use limiter_core::{KeyId, KeysError, StoreError, WorkspaceId};
use tokio::time::{Instant, sleep};

use super::chance::pause;
use super::change::{Begin, Change, Entry, Finish, Intent, Refusal};
use super::journal::Noted;
use super::pointer::Pointer;
use super::{Directory, ManagementError, Stop, changing_nothing, is_damage};

impl Directory {
    /// Begins a change of one key as soon as no other one is under way; finishes those that were left behind.
    pub(super) async fn begin(
        &self,
        workspace: &WorkspaceId,
        intent: &Intent<'_>,
    ) -> Result<Change, KeysError> {
        let (change, refusals) = self.begin_many(workspace, intent).await?;
        let name = intent.needs.first().and_then(|need| need.name);
        match (change, refusals.into_iter().flatten().next()) {
            (Some(change), None) => Ok(change),
            (_, Some(refusal)) => Err(refusal.into_error(name)),
            (None, None) => Err(StoreError::unavailable(ManagementError::UnexpectedReply).into()),
        }
    }

    /// Begins a change of several keys, with the refusal of each that is refused. If all are, no change has begun.
    pub(super) async fn begin_many(
        &self,
        workspace: &WorkspaceId,
        intent: &Intent<'_>,
    ) -> Result<(Option<Change>, Vec<Option<Refusal>>), StoreError> {
        let started = Instant::now();
        let mut tries = 0;
        loop {
            match self.changes.begin(workspace, intent).await? {
                Begin::Begun(change, refusals) => return Ok((Some(change), refusals)),
                Begin::Refused(refusals) => return Ok((None, refusals)),
                Begin::Crashed(change, journal) => self.heal(&change, &journal).await?,
                Begin::Busy => {
                    sleep(pause(tries)).await;
                    tries += 1;
                }
            }
            if started.elapsed() >= self.patience {
                return Err(StoreError::unavailable(ManagementError::Busy));
            }
        }
    }

    /// Repairs the index of these keys, and finishes an abandoned change; not while another change is under way.
    pub(super) async fn repair(
        &self,
        workspace: &WorkspaceId,
        ids: impl IntoIterator<Item = &KeyId>,
    ) -> Result<(), StoreError> {
        let noted = ids.into_iter().map(|id| Noted { id: id.clone(), pointer: None });
        let intent = Intent { journal: noted.collect(), ..Intent::default() };
        match self.changes.begin(workspace, &intent).await? {
            Begin::Begun(change, _) => self.heal(&change, &intent.journal).await,
            Begin::Crashed(change, journal) => self.heal(&change, &journal).await,
            Begin::Busy | Begin::Refused(_) => Ok(()),
        }
    }

    /// Ends a change whose records are as they shall be, and answers whether others waited for that. If it fails, the next
    /// client after the lease does it.
    pub(super) async fn finish(
        &self,
        change: &Change,
        entries: &[(&KeyId, Option<Entry>)],
    ) -> bool {
        let finished = self.changes.finish(change, entries).await;
        if let Err(error) = &finished {
            let error: &dyn std::error::Error = error;
            tracing::warn!(workspace = %change.workspace, error, "a change of keys is to be finished later");
        }
        matches!(finished, Ok(Finish::Wanted))
    }

    /// Ends a change that was refused. If that fails, or if a step may still happen, the next client after the lease does it.
    pub(super) async fn concluded<T>(
        &self,
        change: &Change,
        outcome: Result<T, Stop>,
    ) -> Result<T, KeysError> {
        let error = match outcome {
            Ok(done) => return Ok(done),
            Err(Stop::Unknown(error)) => return Err(error),
            Err(Stop::Refused(error)) => error,
        };
        if let Err(error) = self.changes.abandon(change).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(workspace = %change.workspace, error, "a refused change of keys is to be taken back later");
        }
        Err(error)
    }

    /// Finishes a change of which only the journal is known: the records show its result, and no step of it can run any
    /// more. A key with a damaged record stays in the index as it is, until it is deleted.
    async fn heal(&self, change: &Change, journal: &[Noted]) -> Result<(), StoreError> {
        let ids: BTreeSet<&KeyId> = journal.iter().map(|noted| &noted.id).collect();
        let mut records = self.read_all(ids.iter().map(|id| (*id).clone()).collect()).await?;
        let mut entries = Vec::with_capacity(ids.len());
        for id in ids {
            let found = match records.remove(id).transpose() {
                Ok(found) => found.filter(|found| found.record.workspace == change.workspace),
                Err(error) if is_damage(&error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(key = %id, error, "the change of a damaged key is ended, its index entry stays as it is");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let answers = |pointer: &Pointer| {
                found.as_ref().is_some_and(|found| found.answers_to(&pointer.digest))
            };
            let noted = journal.iter().filter(|noted| noted.id == *id);
            let pointers = noted.filter_map(|noted| noted.pointer.as_ref());
            for pointer in pointers.filter(|pointer| !answers(pointer)) {
                self.pointers.remove(pointer).await.map_err(changing_nothing)?;
            }
            entries.push((id, found.map(|found| Entry::of_found(&found))));
        }
        self.changes.finish(change, &entries).await.map(drop).map_err(changing_nothing)
    }
}
