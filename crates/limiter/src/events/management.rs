//! Management operations.

use std::fmt;
use std::time::SystemTime;

use limiter_core::{KeyId, ManagedAs, ManagedKey, Timestamp, WorkspaceId};
use serde::Serialize;

/// A management operation that has taken effect on a key or a group, by a call of this limiter.
///
/// ```text
/// admin ops has updated acme/ci of the workspace home
/// the owner has rotated acme/ci of the workspace home
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ManagementEvent {
    /// The admin key that did it; `None` if the owner of the workspace did.
    pub by: Option<KeyId>,
    /// The workspace of the key.
    pub workspace: WorkspaceId,
    /// The key or the group.
    pub key: KeyId,
    /// What was done to it.
    pub change: ManagedAs,
    /// When its caller got to know, by the clock of this process.
    pub at: Timestamp,
}

impl ManagementEvent {
    pub(super) fn of(managed: &ManagedKey<'_>) -> Self {
        Self {
            by: managed.by.cloned(),
            workspace: managed.workspace.clone(),
            key: managed.key.clone(),
            change: managed.change,
            at: Timestamp::from(SystemTime::now()),
        }
    }
}

impl fmt::Display for ManagementEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(admin) => write!(f, "admin {admin}")?,
            None => f.write_str("the owner")?,
        }
        let Self { workspace, key, change, .. } = self;
        write!(f, " has {change} {key} of the workspace {workspace}")
    }
}
