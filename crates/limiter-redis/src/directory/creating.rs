//! Creating a key: its pointer first, then its record, then its place in the index.

use limiter_core::{KeyDigest, KeyId, KeyRecord, KeysError, NewRecord};

use super::chance::Token;
use super::change::{Change, Entry, Intent};
use super::pointer::{Pointer, Set};
use super::{Directory, Stop, has_digest};
use crate::records::Create;

impl Directory {
    pub(super) async fn create_key(&self, key: &NewRecord) -> Result<KeyRecord, KeysError> {
        let id_taken = self.read(&key.id).await?.is_some();
        // For a first key, whether it is the first is told before.
        if id_taken && !key.bootstraps {
            return Err(KeysError::IdTaken(key.id.to_string()));
        }
        let token = Token::draw();
        let digest = key.secret.map(|secret| secret.digest);
        let pointer = digest.map(|digest| Pointer { digest, claim: token.clone() });
        let intent = Intent {
            pointer: pointer.clone(),
            bootstraps: key.bootstraps,
            id_taken,
            name: Some(&key.config.name),
            masked: key.secret.map(|secret| secret.masked),
            ..Intent::of(&key.id)
        };
        let change = self.begin(&key.workspace, &token, &intent).await?;
        let created = self.create_record(&change, key).await;
        if let Ok(record) = &created {
            self.finish(&change, &key.id, Some(&Entry::of(record))).await;
        }
        self.concluded(&change, pointer.as_ref(), created).await
    }

    async fn create_record(&self, change: &Change, key: &NewRecord) -> Result<KeyRecord, Stop> {
        if let Some(secret) = &key.secret {
            self.claim(change, &key.id, &secret.digest).await?;
        }
        match self.records.create(key, change.not_after).await.map_err(Stop::at_commit)? {
            Create::Created(record) => Ok(*record),
            Create::IdTaken => Err(id_taken(&key.id)),
            Create::TooLate => Err(Stop::too_late()),
        }
    }

    /// Points the digest to the key, unless another key has it, or may be about to get it.
    async fn claim(&self, change: &Change, id: &KeyId, digest: &KeyDigest) -> Result<(), Stop> {
        let set = self.pointers.set(change, digest, id, None).await;
        let (held, now) = match set.map_err(Stop::before_commit)? {
            Set::Pointed => return Ok(()),
            Set::TooLate => return Err(Stop::too_late()),
            Set::Held(held, now) => (held, now),
        };
        let holder = self.read(&held.id).await;
        let holder = holder.map_err(|error| Stop::Refused(error.into()))?;
        if let Some(holder) = &holder
            && held.id == *id
        {
            return Err(id_taken(&holder.record.id));
        }
        // Without a key, the pointer is either left behind or a moment ahead of its key, which then has the digest.
        let in_use = holder.is_some_and(|holder| has_digest(&holder, digest));
        if in_use || now <= held.until {
            return Err(Stop::Refused(KeysError::AccessKeyTaken));
        }
        let set = self.pointers.set(change, digest, id, Some(&held)).await;
        match set.map_err(Stop::before_commit)? {
            Set::Pointed => Ok(()),
            Set::TooLate => Err(Stop::too_late()),
            // Another client was faster in replacing it.
            Set::Held(..) => Err(Stop::Refused(KeysError::AccessKeyTaken)),
        }
    }
}

fn id_taken(id: &KeyId) -> Stop {
    Stop::Refused(KeysError::IdTaken(id.to_string()))
}
