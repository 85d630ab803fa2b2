//! Management operations, as they are reported.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{KeyId, WorkspaceId};
use crate::words::words;

/// A management operation that has taken effect on a key or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagedKey<'a> {
    /// The admin key that did it; `None` if the owner of the workspace did.
    pub by: Option<&'a KeyId>,
    /// The workspace of the key.
    pub workspace: &'a WorkspaceId,
    /// The key or the group.
    pub key: &'a KeyId,
    /// What was done to it.
    pub change: ManagedAs,
}

/// What was done to a key or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ManagedAs {
    /// It was created.
    Created,
    /// Its configuration was replaced by another one.
    Updated,
    /// Its access key was replaced.
    Rotated,
    /// What it had used was set to zero.
    Reset,
    /// It was deleted.
    Deleted,
}

words!(ManagedAs {
    Created: "created",
    Updated: "updated",
    Rotated: "rotated",
    Reset: "reset",
    Deleted: "deleted"
});

/// A function that is called for each management operation.
pub(crate) struct Report(Option<Box<Reports>>);

type Reports = dyn Fn(&ManagedKey<'_>) + Send + Sync;

impl Report {
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn to(report: impl Fn(&ManagedKey<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(report)))
    }

    pub(crate) fn send(&self, managed: &ManagedKey<'_>) {
        if let Some(report) = &self.0 {
            report(managed);
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}
