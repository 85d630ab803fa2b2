//! Listing the keys of a workspace: names from the index, everything else from the records.
//!
//! What a page shows are records that exist, under their own names. The index may be a step behind for the one key that
//! is being changed, so for that key the record alone is asked.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use limiter_core::{KeyId, KeyName, KeyRecord, Page, Search, StoreError, Throttle, WorkspaceId};
use tokio::task::JoinSet;

use super::Directory;
use crate::records::Found;

/// Some keys of a page.
struct Part {
    keys: Vec<KeyRecord>,
    /// Where to go on, if there may be more.
    end: Option<KeyName>,
}

impl Directory {
    pub(super) async fn list_keys(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
    ) -> Result<Page, StoreError> {
        // One more than asked for tells whether there is a next page.
        let most = search.limit().saturating_add(1);
        let mut keys = Vec::new();
        let mut after = search.start().cloned();
        let mut names = most.clamp(FEWEST_NAMES, MOST_NAMES);
        loop {
            let wanted = most.saturating_sub(keys.len());
            let part = self.part(workspace, search, after.as_ref(), names, wanted).await?;
            keys.extend(part.keys);
            if part.end.is_none() || keys.len() >= most {
                break;
            }
            after = part.end;
            // Few names match: look at more of them at a time.
            names = names.saturating_mul(2).min(MOST_NAMES);
        }
        let more = keys.len() > search.limit();
        keys.truncate(search.limit());
        let next = keys.last().filter(|_| more).map(|key| key.name.clone());
        Ok(Page::new(keys, next))
    }

    /// The keys among the next names. An entry whose record says otherwise is looked at again: its key was changed
    /// between the two looks. If it stays so, it is what a server lost, and is put right.
    async fn part(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
        after: Option<&KeyName>,
        names: usize,
        wanted: usize,
    ) -> Result<Part, StoreError> {
        for _ in 1..LOOKS {
            let (part, doubtful) = self.look(workspace, search, after, names, wanted).await?;
            if doubtful.is_empty() {
                return Ok(part);
            }
        }
        let (part, doubtful) = self.look(workspace, search, after, names, wanted).await?;
        for id in doubtful.iter().take(MOST_REPAIRS) {
            self.try_repair(workspace, id).await;
        }
        Ok(part)
    }

    /// The keys among the next names, and the ids whose records say otherwise than the index.
    async fn look(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
        after: Option<&KeyName>,
        names: usize,
        wanted: usize,
    ) -> Result<(Part, Vec<KeyId>), StoreError> {
        let mut stretch = self.changes.names(workspace, after, names).await?;
        if let Some(id) = stretch.changing.as_ref().filter(|_| stretch.crashed) {
            self.try_repair(workspace, id).await;
            stretch = self.changes.names(workspace, after, names).await?;
        }
        let changing = stretch.changing.as_ref();
        let mut entries: Vec<_> = stretch.names;
        entries.retain(|(name, id)| search.matches(name) && changing != Some(id));
        let mut end = stretch.end;
        if entries.len() > wanted {
            entries.truncate(wanted);
            end = entries.last().map(|(name, _)| name.clone());
        }

        let ids = entries.iter().map(|(_, id)| id).chain(changing).cloned();
        let mut found = self.read_all(ids.collect()).await?;
        found.retain(|_, found| found.record.workspace == *workspace);
        let as_indexed = |name: &KeyName, id: &KeyId| {
            found.get(id).is_some_and(|found| found.record.name == *name)
        };
        entries.retain(|(name, id)| !as_indexed(name, id));
        let doubtful = entries.into_iter().map(|(_, id)| id).collect();
        // Whatever the index says, a key is shown where its record says that it belongs.
        let is_here = |name: &KeyName| {
            after.is_none_or(|after| name > after) && end.as_ref().is_none_or(|end| name <= end)
        };
        let mut keys: Vec<_> = found.into_values().map(|found| found.record).collect();
        keys.retain(|key| is_here(&key.name) && search.matches(&key.name));
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        // One key may have got the name of another between the readings of both.
        keys.dedup_by(|one, other| one.name == other.name);
        Ok((Part { keys, end }, doubtful))
    }

    /// Reads the records of keys from wherever they are, some at a time.
    async fn read_all(&self, ids: Vec<KeyId>) -> Result<HashMap<KeyId, Found>, StoreError> {
        let mut waiting = VecDeque::from(ids);
        let mut reading = JoinSet::new();
        let mut found = HashMap::new();
        loop {
            while reading.len() < READ_AT_ONCE
                && let Some(id) = waiting.pop_front()
            {
                let directory = self.clone();
                reading.spawn(async move { directory.read(&id).await });
            }
            let Some(read) = reading.join_next().await else { return Ok(found) };
            if let Some(key) = read.map_err(StoreError::unavailable)?? {
                found.insert(key.record.id.clone(), key);
            }
        }
    }

    /// A listing is right without it.
    async fn try_repair(&self, workspace: &WorkspaceId, id: &KeyId) {
        if let Err(error) = self.repair(workspace, id).await
            && let Some(suppressed) = WARNINGS.admit(Instant::now())
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(%workspace, error, suppressed, "the index of a workspace is to be repaired later");
        }
    }
}

/// Throttles the warnings about failed repairs: a listing may try many.
static WARNINGS: Throttle = Throttle::of_warnings();

/// A small page should not need a second look at the index because a few names do not match.
const FEWEST_NAMES: usize = 32;
/// Bounds how long one script keeps the server, well below a millisecond.
const MOST_NAMES: usize = 512;
/// Enough for the server to be busy while the client waits, and no burst that others would feel.
const READ_AT_ONCE: usize = 32;
/// One look for the present, one for a key that was changed meanwhile, one for a second such key.
const LOOKS: usize = 3;
/// What a listing puts right at once; the next one goes on.
const MOST_REPAIRS: usize = 8;
