//! Updating a key: one step at the key's slot, within a change if the index is touched.

use std::collections::BTreeSet;

use limiter_core::keys::is_permanent_admin;
use limiter_core::{KeyId, KeyUpdate, KeysError, UpdatedKey, WorkspaceId};

use super::change::{Entry, Intent, Need};
use super::{Directory, Stop};
use crate::records::{Found, not_found};

impl Directory {
    pub(super) async fn update_key(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError> {
        let KeyUpdate { id, version, config, .. } = update;
        let version = *version;
        let plans: BTreeSet<_> = [&config.plan, &config.open].into_iter().flatten().collect();
        let mut holds = Vec::new();
        for plan in plans {
            holds.push(self.hold(workspace, plan, &[id]).await?);
        }
        let updated = self.update_held(workspace, update, version).await;
        if !matches!(updated, Err(KeysError::Store(_))) {
            for hold in &holds {
                self.held(hold, &[id]).await;
            }
        }
        updated
    }

    async fn update_held(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
        version: u64,
    ) -> Result<UpdatedKey, KeysError> {
        let KeyUpdate { id, config, .. } = update;
        let found = self.read_at(workspace, id, version).await?;
        let before = Entry::of_found(&found);
        let permanent_admin = is_permanent_admin(found.record.kind, config.expires_at);
        let renamed = before.name != config.name;
        // The step itself compares the version, so that this check still holds then.
        if !renamed && before.permanent_admin == permanent_admin {
            let updated = self.records.update_found(workspace, found, update, None).await;
            return updated.map_err(|undone| match undone.into() {
                Stop::Refused(error) | Stop::Unknown(error) => error,
            });
        }

        let need = Need { id, name: Some(&config.name), masked: None };
        let intent = Intent {
            needs: if renamed { vec![need] } else { Vec::new() },
            ceases_as_admin: (before.permanent_admin && !permanent_admin).then_some(id),
            ..Intent::of(id)
        };
        let change = match self.begin(workspace, &intent).await {
            Ok(change) => change,
            Err(refusal @ (KeysError::NameTaken(_) | KeysError::LastAdmin)) => {
                // A version that has become stale meanwhile is the first error to report.
                self.read_at(workspace, id, version).await?;
                return Err(refusal);
            }
            Err(error) => return Err(error),
        };
        let not_after = Some(change.not_after);
        let updated = self.records.update_found(workspace, found, update, not_after).await;
        if let Ok(updated) = &updated {
            self.finish(&change, &[(id, Some(Entry::of(&updated.record, before.masked)))]).await;
        }
        self.concluded(&change, updated.map_err(Stop::from)).await
    }

    async fn read_at(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
    ) -> Result<Found, KeysError> {
        let found = self.read_in(workspace, id).await?.ok_or_else(|| not_found(id))?;
        match found.record.version {
            actual if actual == version => Ok(found),
            actual => Err(KeysError::Conflict { expected: version, actual }),
        }
    }
}
