//! Listing the keys of a workspace: names from the index, everything else from the records.
//!
//! A page shows records that exist, under their own names. The index may be a step behind for the keys that are
//! being changed, so for those only the records are read. A record that lastingly has the name of another key is damaged.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use limiter_core::{DamagedKey, KeyId, KeyName, Page, Search, StoreError, Throttle, WorkspaceId};
use tokio::task::JoinSet;

use super::Directory;
use crate::records::{Found, READ_TOGETHER};

/// Some keys of a page.
struct Part {
    rows: Vec<Row>,
    /// The name to continue after, if there may be more.
    end: Option<KeyName>,
}

/// The result of reading some entries of the index, and their records.
struct Look {
    found: HashMap<KeyId, Found>,
    damaged: Vec<DamagedKey>,
    /// The entries that differ from their records.
    doubtful: Vec<(KeyName, KeyId)>,
    /// The keys that are being changed.
    changing: HashSet<KeyId>,
    /// The name to continue after, if there may be more.
    end: Option<KeyName>,
}

/// A key of a page, or its entry in the index if its record is damaged.
type Row = Result<Found, DamagedKey>;

/// Records that were read.
type Records = HashMap<KeyId, Result<Found, StoreError>>;

impl Directory {
    pub(super) async fn list_keys(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
    ) -> Result<Page, StoreError> {
        // One more than the limit shows whether there is a next page.
        let most = search.limit().saturating_add(1);
        let mut rows = Vec::new();
        let mut after = search.start().cloned();
        let mut names = most.clamp(FEWEST_NAMES, MOST_NAMES);
        loop {
            let wanted = most.saturating_sub(rows.len());
            let part = self.part(workspace, search, after.as_ref(), names, wanted).await?;
            rows.extend(part.rows);
            if part.end.is_none() || rows.len() >= most {
                break;
            }
            after = part.end;
            // Few names match: look at more of them at a time.
            names = names.saturating_mul(2).min(MOST_NAMES);
        }
        let more = rows.len() > search.limit();
        rows.truncate(search.limit());
        let next = rows.last().filter(|_| more).map(|row| name_of(row).clone());
        let (mut keys, mut damaged) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            match row {
                Ok(key) => keys.push(key),
                Err(key) => damaged.push(key),
            }
        }
        if !damaged.is_empty()
            && let Some(suppressed) = DAMAGES.admit(Instant::now())
        {
            let ids: Vec<_> = damaged.iter().map(|key| key.id.as_str()).collect();
            tracing::warn!(%workspace, ?ids, suppressed, "keys whose stored data cannot be read: delete or restore them");
        }
        let mut latest = Vec::with_capacity(keys.len());
        for key in keys {
            latest.push(self.records.latest(key).await?);
        }
        let keys = latest;
        let usage =
            if search.wants_usage() { self.records.usage_of(&keys).await? } else { Vec::new() };
        let keys = keys.into_iter().map(|key| key.record).collect();
        Ok(Page::new(keys, next).with_damaged(damaged).with_usage(usage))
    }

    /// Returns the keys among the next names. An entry that differs from its record is read again: its key was changed
    /// between the two reads. If it still differs, a server has lost a write, and the index is repaired.
    async fn part(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
        after: Option<&KeyName>,
        names: usize,
        wanted: usize,
    ) -> Result<Part, StoreError> {
        let mut looks = 1;
        loop {
            let mut look = self.look(workspace, search, after, names, wanted).await?;
            if looks == LOOKS && !look.doubtful.is_empty() {
                self.set_apart(workspace, &mut look).await?;
            }
            if looks == LOOKS && !look.doubtful.is_empty() {
                let ids = look.doubtful.iter().map(|(_, id)| id).take(MOST_REPAIRS);
                self.try_repair(workspace, ids.collect::<Vec<_>>()).await;
            }
            if looks == LOOKS || look.doubtful.is_empty() {
                return Ok(look.into_part(search, after));
            }
            looks += 1;
        }
    }

    /// Reads the keys among the next names, and those that are being changed.
    async fn look(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
        after: Option<&KeyName>,
        names: usize,
        wanted: usize,
    ) -> Result<Look, StoreError> {
        let mut stretch = self.changes.names(workspace, after, names).await?;
        if stretch.crashed {
            self.try_repair(workspace, []).await;
            stretch = self.changes.names(workspace, after, names).await?;
        }
        let changing = &stretch.changing;
        let mut entries: Vec<_> = stretch.names;
        entries.retain(|(name, id)| search.matches(name, id) && !changing.contains(id));
        let mut end = stretch.end;
        if entries.len() > wanted {
            entries.truncate(wanted);
            end = entries.last().map(|(name, _)| name.clone());
        }

        let ids = entries.iter().map(|(_, id)| id).chain(changing).cloned();
        let (mut found, mut damaged) = (HashMap::new(), HashSet::new());
        for (id, read) in self.read_all(ids.collect()).await? {
            match read {
                Ok(key) if key.record.workspace == *workspace => drop(found.insert(id, key)),
                Ok(_) => {}
                Err(_) => drop(damaged.insert(id)),
            }
        }
        let as_indexed = |name: &KeyName, id: &KeyId| {
            found.get(id).is_some_and(|found| found.record.config.name == *name)
        };
        entries.retain(|(name, id)| !as_indexed(name, id));
        let (damaged, doubtful): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(_, id)| damaged.contains(id));
        let damaged = damaged.into_iter().map(|(name, id)| DamagedKey { id, name }).collect();
        Ok(Look { found, damaged, doubtful, changing: stretch.changing, end })
    }

    /// Sets the keys apart as damaged whose records have the names of other keys. The index gives each name to one key, which
    /// keeps it unless its own record has another name.
    async fn set_apart(&self, workspace: &WorkspaceId, look: &mut Look) -> Result<(), StoreError> {
        let claimed = |(_, id): &(KeyName, KeyId)| {
            Some((id.clone(), look.found.get(id)?.record.config.name.clone()))
        };
        let claims: Vec<_> = look.doubtful.iter().filter_map(claimed).collect();
        if claims.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = claims.iter().map(|(_, name)| name).collect();
        let holders = self.changes.named(workspace, &names).await?;
        let records = self.read_all(holders.iter().flatten().cloned().collect()).await?;
        let keeps = |holder: &KeyId, name: &KeyName| match records.get(holder) {
            Some(Ok(Found { record, .. })) => {
                record.workspace == *workspace && record.config.name == *name
            }
            // A damaged key keeps its name until it is deleted.
            Some(Err(_)) => true,
            None => false,
        };
        let wrong = claims.iter().zip(&holders).filter(|((id, name), holder)| {
            holder.as_ref().is_some_and(|holder| holder != id && keeps(holder, name))
        });
        let wrong: HashSet<&KeyId> = wrong.map(|((id, _), _)| id).collect();
        for (name, id) in look.doubtful.extract_if(.., |(_, id)| wrong.contains(id)) {
            look.found.remove(&id);
            look.damaged.push(DamagedKey { id, name });
        }
        Ok(())
    }

    /// Reads the records of keys from all slots, some at a time: those of one slot together, and without a cluster all. Keys
    /// that do not exist are left out; a key comes with an error if its record cannot be read.
    pub(super) async fn read_all(&self, ids: Vec<KeyId>) -> Result<Records, StoreError> {
        let mut together: HashMap<Option<String>, Vec<KeyId>> = HashMap::new();
        for id in ids {
            together.entry(self.records.slot_of(&id)).or_default().push(id);
        }
        let parts = together.values().flat_map(|ids| ids.chunks(READ_TOGETHER)).map(<[_]>::to_vec);
        let mut waiting: VecDeque<_> = parts.collect();
        let mut reading = JoinSet::new();
        let mut records = Records::new();
        loop {
            while reading.len() < READ_AT_ONCE
                && let Some(ids) = waiting.pop_front()
            {
                let directory = self.clone();
                reading.spawn(async move { directory.records.read_many(&ids).await });
            }
            let Some(read) = reading.join_next().await else { return Ok(records) };
            for (id, found) in read.map_err(StoreError::unavailable)?? {
                match found {
                    Ok(found) => drop(records.insert(id, Ok(found))),
                    Err(error @ StoreError::Corrupt(_)) => drop(records.insert(id, Err(error))),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Tries to repair index entries. The listing is right without it.
    async fn try_repair(&self, workspace: &WorkspaceId, ids: impl IntoIterator<Item = &KeyId>) {
        if let Err(error) = self.repair(workspace, ids).await
            && let Some(suppressed) = WARNINGS.admit(Instant::now())
        {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(%workspace, error, suppressed, "the index of a workspace is to be repaired later");
        }
    }
}

impl Look {
    fn into_part(self, search: &Search, after: Option<&KeyName>) -> Part {
        let Self { found, damaged, changing, end, .. } = self;
        // A key is shown at the place of its record's name, even if the index has another name.
        let is_here = |name: &KeyName| {
            after.is_none_or(|after| name > after) && end.as_ref().is_none_or(|end| name <= end)
        };
        let mut keys: Vec<_> = found.into_values().collect();
        keys.retain(|Found { record: key, .. }| {
            is_here(&key.config.name) && search.matches(&key.config.name, &key.id)
        });
        let mut rows: Vec<Row> =
            keys.into_iter().map(Ok).chain(damaged.into_iter().map(Err)).collect();
        // A key may get the name of another between the reads of the two. The one of the index comes first.
        let place = |row: &Row| (name_of(row).clone(), changing.contains(id_of(row)));
        rows.sort_by_cached_key(place);
        rows.dedup_by(|one, other| name_of(one) == name_of(other));
        Part { rows, end }
    }
}

fn name_of(row: &Row) -> &KeyName {
    match row {
        Ok(key) => &key.record.config.name,
        Err(key) => &key.name,
    }
}

fn id_of(row: &Row) -> &KeyId {
    match row {
        Ok(key) => &key.record.id,
        Err(key) => &key.id,
    }
}

/// Throttles the warnings about damaged keys: each listing meets them.
static DAMAGES: Throttle = Throttle::of_warnings();
/// Throttles the warnings about failed repairs: a listing may try many.
static WARNINGS: Throttle = Throttle::of_warnings();

/// A small page should not need a second look at the index because a few names do not match.
const FEWEST_NAMES: usize = 32;
/// Bounds how long one script keeps the server, well below a millisecond.
const MOST_NAMES: usize = 512;
/// Enough to keep the server busy, and too few to delay other clients.
const READ_AT_ONCE: usize = 32;
/// One read for the present, one for a key that was changed meanwhile, one for a second such key.
const LOOKS: usize = 3;
/// The most repairs of one listing; the next listing continues.
const MOST_REPAIRS: usize = 8;
