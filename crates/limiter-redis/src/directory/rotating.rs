//! Replacing the access key of a key: the pointer of the new one first, then the record, then the pointers of those that end.

use limiter_core::{
    InvalidValue, KeyKind, KeyRecord, KeyRotation, KeysError, StoredKey, WorkspaceId,
};

use super::change::{Change, Entry, Intent, Need};
use super::pointer::Pointer;
use super::{Directory, Stop};
use crate::records::{Found, not_found};

impl Directory {
    pub(super) async fn rotate_key(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError> {
        let KeyRotation { id, secret, .. } = rotation;
        let found = self.read_in(workspace, id).await?.ok_or_else(|| not_found(id))?;
        if found.record.kind == KeyKind::Group {
            return Err(InvalidValue::GroupAccessKey.into());
        }
        let rotated = found.stored.clone().rotated(rotation, found.now);
        let kept: Vec<_> = rotated.digests().collect();
        let ended = found.stored.digests().filter(|digest| !kept.contains(digest));
        let ended = self.pointers_of(id, ended).await?;

        let mut intent = Intent::with_pointers(id, ended.clone());
        let claimed = Pointer { digest: secret.digest, claim: intent.token.clone() };
        intent.note(id, claimed);
        if let Some(masked) = secret.unique_mask() {
            intent.needs.push(Need { id, name: None, masked: Some(masked) });
        }
        let change = self.begin(workspace, &intent).await?;
        match self.rotate_record(&change, &found, &rotated, rotation).await {
            Ok(record) => {
                if self.forgot(&change, &ended).await {
                    let entry = Entry::of(&record, rotated.unique_mask());
                    self.finish(&change, &[(id, Some(entry))]).await;
                }
                Ok(record)
            }
            Err(Stop::Refused(error)) => {
                if self.unclaimed(&change, secret.digest).await {
                    return self.concluded(&change, Err(Stop::Refused(error))).await;
                }
                Err(error)
            }
            Err(Stop::Unknown(error)) => Err(error),
        }
    }

    async fn rotate_record(
        &self,
        change: &Change,
        found: &Found,
        rotated: &StoredKey,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, Stop> {
        self.claim(change, &rotation.id, &rotation.secret.digest, None).await?;
        Ok(self.records.rotate(found, rotated, change.not_after).await?)
    }
}
