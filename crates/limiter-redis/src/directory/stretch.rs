//! The names in the index of a workspace, some at a time.

use std::collections::HashSet;
use std::sync::LazyLock;

use limiter_core::{KeyId, KeyName, StoreError, WorkspaceId};

use super::change::{Changes, script};
use super::journal;
use super::{changing_nothing, parsed, unexpected_reply};
use crate::keyspace::WorkspaceKey;
use crate::script::Script;

/// A stretch of a workspace's names, and what is going on meanwhile.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) names: Vec<(KeyName, KeyId)>,
    /// The last name, unless there are no more behind it.
    pub(super) end: Option<KeyName>,
    /// The keys that are being changed: only their records have their names.
    pub(super) changing: HashSet<KeyId>,
    /// Whether the client that changes them has stopped.
    pub(super) crashed: bool,
}

impl Changes {
    /// The names of a workspace after the given one, by their bytes.
    pub(super) async fn names(
        &self,
        workspace: &WorkspaceId,
        after: Option<&KeyName>,
        most: usize,
    ) -> Result<Stretch, StoreError> {
        let keys = [WorkspaceKey::Names, WorkspaceKey::Taken, WorkspaceKey::Change];
        let start = after.map_or_else(|| "-".to_owned(), |name| format!("({name}"));
        let reply = self.run(&LIST, workspace, &keys, [start, most.to_string()]).await;
        stretch(parsed(reply.map_err(changing_nothing)?)?, most).ok_or_else(unexpected_reply)
    }
}

/// The answer of the script for listing: the journal, whether its client has stopped, names, ids.
type Listed = (Vec<u8>, Vec<u8>, Vec<Vec<u8>>, Vec<Option<Vec<u8>>>);

fn stretch((journal, crashed, names, ids): Listed, most: usize) -> Option<Stretch> {
    let full = names.len() >= most;
    let names = names.into_iter().map(|name| KeyName::try_from(str::from_utf8(&name).ok()?).ok());
    let names: Vec<_> = names.collect::<Option<_>>()?;
    let ids = ids.into_iter().map(|id| match id {
        Some(id) => key_id(&id).map(Some),
        None => Some(None),
    });
    let ids: Vec<_> = ids.collect::<Option<_>>()?;
    let journal = journal::read(str::from_utf8(&journal).ok()?)?;
    Some(Stretch {
        end: names.last().filter(|_| full).cloned(),
        names: names.into_iter().zip(ids).filter_map(|(name, id)| Some((name, id?))).collect(),
        changing: journal.into_iter().map(|noted| noted.id).collect(),
        crashed: crashed == b"1",
    })
}

fn key_id(bytes: &[u8]) -> Option<KeyId> {
    KeyId::try_from(str::from_utf8(bytes).ok()?).ok()
}

static LIST: LazyLock<Script> =
    LazyLock::new(|| script("workspace_list", include_str!("../lua/workspace_list.lua")));
