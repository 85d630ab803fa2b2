//! Deleting a key: its record first, then all that points to it.

use limiter_core::{KeyId, KeysError, StoreError, WorkspaceId};

use super::chance::Token;
use super::change::{Change, Intent};
use super::pointer::Pointer;
use super::{Directory, Stop, not_found};
use crate::records::{Delete, Found};

impl Directory {
    pub(super) async fn delete_key(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<(), KeysError> {
        let found = self.read_in(workspace, id).await?.ok_or_else(|| not_found(id))?;
        let pointer = self.pointer_of(&found).await?;
        let intent = Intent { pointer: pointer.clone(), ceases_as_admin: true, ..Intent::of(id) };
        let change = self.begin(workspace, &Token::draw(), &intent).await?;
        let deleted = self.delete_record(&change, id).await;
        if deleted.is_ok() {
            self.forget(&change, id, pointer.as_ref()).await;
        }
        // A record that stays keeps its pointer.
        let existed = self.concluded(&change, None, deleted).await?;
        if existed { Ok(()) } else { Err(not_found(id)) }
    }

    /// Whether there was a record to delete.
    async fn delete_record(&self, change: &Change, id: &KeyId) -> Result<bool, Stop> {
        let deleted = self.records.delete(&change.workspace, id, change.not_after).await;
        match deleted.map_err(Stop::at_commit)? {
            Delete::Deleted => Ok(true),
            Delete::NotFound => Ok(false),
            Delete::TooLate => Err(Stop::too_late()),
        }
    }

    /// The very pointer that was set for this key: another may take its place as soon as the record is gone.
    async fn pointer_of(&self, found: &Found) -> Result<Option<Pointer>, KeysError> {
        let Some(secret) = found.secret else { return Ok(None) };
        let held = match self.pointers.read(&secret.digest).await {
            Ok(held) => held,
            // A damaged one must not keep its key alive.
            Err(error @ StoreError::Corrupt(_)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(key = %found.record.id, error, "the pointer of a deleted key is left behind");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let held = held.filter(|held| held.id == found.record.id);
        Ok(held.map(|held| Pointer { digest: secret.digest, claim: held.claim }))
    }

    /// Removes what pointed to a deleted key. What fails here is left to whoever comes after the lease.
    async fn forget(&self, change: &Change, id: &KeyId, pointer: Option<&Pointer>) {
        if let Some(pointer) = pointer
            && let Err(error) = self.pointers.remove(pointer).await
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(workspace = %change.workspace, error, "a deleted key's access key is to be cleaned up");
            return;
        }
        self.finish(change, id, None).await;
    }
}
