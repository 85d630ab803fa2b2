//! Deleting a key: its record first, then all that points to it.

use limiter_core::{KeyDigest, KeyId, KeysError, ScopeId, StoreError, WorkspaceId};

use super::change::{Change, Intent};
use super::pointer::Pointer;
use super::{Directory, Stop, is_damage};
use crate::records::not_found;

/// A key of the workspace that is about to be deleted.
struct Doomed {
    /// Its scopes, whose slots go with it; `None` if its record cannot be read.
    scopes: Option<Vec<ScopeId>>,
    pointer: Option<Pointer>,
}

impl Directory {
    pub(super) async fn delete_key(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<(), KeysError> {
        let doomed = self.doomed(workspace, id).await?.ok_or_else(|| not_found(id))?;
        let pointer = doomed.pointer.as_ref();
        let intent =
            Intent { ceases_as_admin: Some(id), ..Intent::with_pointer(id, pointer.cloned()) };
        let change = self.begin(workspace, &intent).await?;
        let deleted = self.delete_record(&change, id, doomed.scopes.as_deref()).await;
        if deleted.is_ok() {
            self.forget(&change, id, pointer).await;
        }
        // A record that stays keeps its pointer.
        let existed = self.concluded(&change, deleted).await?;
        if existed { Ok(()) } else { Err(not_found(id)) }
    }

    async fn doomed(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<Option<Doomed>, KeysError> {
        let error = match self.read_in(workspace, id).await {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => {
                let digest = found.secret.map(|secret| secret.digest);
                let pointer = self.pointer_of(id, digest).await?;
                return Ok(Some(Doomed { scopes: Some(found.scopes()), pointer }));
            }
            Err(error) => error,
        };
        if !is_damage(&error) {
            return Err(error.into());
        }
        // The index knows the workspace of a key whose record does not name one.
        let remains = self.records.remains(id).await.map_err(StoreError::from)?;
        let is_here = match remains.workspace {
            Some(named) => named == *workspace,
            None => self.changes.knows(workspace, id).await?,
        };
        if !is_here {
            return Ok(None);
        }
        let pointer = self.pointer_of(id, remains.digest).await?;
        Ok(Some(Doomed { scopes: None, pointer }))
    }

    /// Whether there was a record to delete.
    async fn delete_record(
        &self,
        change: &Change,
        id: &KeyId,
        scopes: Option<&[ScopeId]>,
    ) -> Result<bool, Stop> {
        let (records, Change { workspace, not_after, .. }) = (&self.records, change);
        Ok(match scopes {
            Some(scopes) => records.delete(workspace, id, scopes, *not_after).await?,
            None => records.remove_damaged(workspace, id, *not_after).await?,
        })
    }

    /// The very pointer that was set for this key: another may take its place as soon as the record is gone.
    async fn pointer_of(
        &self,
        id: &KeyId,
        digest: Option<KeyDigest>,
    ) -> Result<Option<Pointer>, KeysError> {
        let Some(digest) = digest else { return Ok(None) };
        let held = match self.pointers.read(&digest).await {
            Ok(held) => held,
            // A damaged one must not keep its key alive.
            Err(error @ StoreError::Corrupt(_)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(key = %id, error, "the pointer of a deleted key is left behind");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let held = held.filter(|held| held.id == *id);
        Ok(held.map(|held| Pointer { digest, claim: held.claim }))
    }

    /// Removes the pointer to a deleted key. If that fails, the next client after the lease does it.
    async fn forget(&self, change: &Change, id: &KeyId, pointer: Option<&Pointer>) {
        if let Some(pointer) = pointer
            && let Err(error) = self.pointers.remove(pointer).await
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(workspace = %change.workspace, error, "a deleted key's access key is to be cleaned up");
            return;
        }
        self.finish(change, &[(id, None)]).await;
    }
}
