//! A key to be created: what its caller did not choose is drawn.

use super::check_admin_id;
use crate::access_key::{AccessKey, Entropy, generate_key_id};
use crate::config::KeyKind;
use crate::error::{InvalidValue, KeysError};
use crate::names::WorkspaceId;
use crate::new_key::{NewAccess, NewId, NewKey};
use crate::store::NewRecord;
use crate::thresholds::Thresholds;

/// A key to be created, whose configuration was checked.
pub(super) struct Draft {
    key: NewKey,
    /// Those of the limiter.
    thresholds: Thresholds,
}

impl Draft {
    pub(super) fn of(key: NewKey, thresholds: Thresholds) -> Result<Self, KeysError> {
        key.config.check()?;
        let brought = matches!(key.access, NewAccess::Brought(_));
        match (&key.id, key.kind) {
            (NewId::Chosen(id), KeyKind::Admin) => check_admin_id(id)?,
            (NewId::DrawnBeneath(group), KeyKind::Admin) => check_admin_id(&group.child("a")?)?,
            (_, KeyKind::Group) if brought => return Err(InvalidValue::GroupAccessKey.into()),
            _ => {}
        }
        Ok(Self { key, thresholds })
    }

    pub(super) fn is_generated(&self) -> bool {
        matches!(self.key.access, NewAccess::Generated)
    }

    /// Returns the record to create, with a newly drawn id and access key where the caller chose none.
    pub(super) fn draw(
        &self,
        entropy: &Entropy,
        workspace: &WorkspaceId,
        bootstraps: bool,
    ) -> Result<(NewRecord, Option<AccessKey>), KeysError> {
        let NewKey { kind, config, id, access, prefix } = &self.key;
        let (access_key, secret) = access.draw(entropy, *prefix)?.unzip();
        let record = NewRecord {
            id: match id {
                NewId::Chosen(id) => id.clone(),
                NewId::DrawnBeneath(group) => {
                    group.child(generate_key_id(entropy).map_err(KeysError::Entropy)?)?
                }
                NewId::Drawn => generate_key_id(entropy).map_err(KeysError::Entropy)?,
            },
            workspace: workspace.clone(),
            kind: *kind,
            config: config.clone(),
            thresholds: self.thresholds,
            secret,
            bootstraps,
        };
        Ok((record, access_key))
    }
}
