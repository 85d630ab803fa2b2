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
    pointers: Vec<Pointer>,
}

impl Directory {
    pub(super) async fn delete_key(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<(), KeysError> {
        let doomed = self.doomed(workspace, id).await?.ok_or_else(|| not_found(id))?;
        let pointers = doomed.pointers.clone();
        let intent = Intent { ceases_as_admin: Some(id), ..Intent::with_pointers(id, pointers) };
        let change = self.begin(workspace, &intent).await?;
        let deleted = self.delete_record(&change, id, doomed.scopes.as_deref()).await;
        if deleted.is_ok() && self.forgot(&change, &doomed.pointers).await {
            self.finish(&change, &[(id, None)]).await;
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
                let pointers = self.pointers_of(id, found.stored.digests()).await?;
                return Ok(Some(Doomed { scopes: Some(found.scopes()), pointers }));
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
        let pointers = self.pointers_of(id, remains.digest).await?;
        Ok(Some(Doomed { scopes: None, pointers }))
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

    /// The very pointers that were set for this key: others may take their place as soon as it lets go of them.
    pub(super) async fn pointers_of(
        &self,
        id: &KeyId,
        digests: impl IntoIterator<Item = KeyDigest>,
    ) -> Result<Vec<Pointer>, KeysError> {
        let mut pointers = Vec::new();
        for digest in digests {
            let held = match self.pointers.read(&digest).await {
                Ok(held) => held,
                // A damaged one must not keep its key alive.
                Err(error @ StoreError::Corrupt(_)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(key = %id, error, "the pointer of an access key is left behind");
                    None
                }
                Err(error) => return Err(error.into()),
            };
            let held = held.filter(|held| held.id == *id);
            pointers.extend(held.map(|held| Pointer { digest, claim: held.claim }));
        }
        Ok(pointers)
    }

    /// Removes pointers that are of no use any more. If that fails, the next client after the lease does it.
    pub(super) async fn forgot(&self, change: &Change, pointers: &[Pointer]) -> bool {
        for pointer in pointers {
            if let Err(error) = self.pointers.remove(pointer).await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(workspace = %change.workspace, error, "an old access key is to be cleaned up");
                return false;
            }
        }
        true
    }
}
