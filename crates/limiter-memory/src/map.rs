//! The cells of all living keys and groups, in shards, so that callers of different keys rarely wait for each other, and the
//! clock of all of them. Keys and groups with the same first segment share a shard: one lock covers a key and its groups.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use limiter_core::{Crossing, KeyId, KeyKind, KeyState, LateEvent, Ledger, Listener};
use smallvec::SmallVec;

use crate::cell::{Attached, Cell, Reached};
use crate::plans::Planned;
use crate::sync::{RwLock, ShardMutex};
use crate::time::Time;

/// All living cells.
///
/// One lock covers the search for a key and the step on its cell, which is shorter than a second lock.
/// A cell stays where it is for as long as its key lives, so that a handle finds it without a search.
pub(crate) struct CellMap {
    shards: Box<[Shard]>,
    /// Seeded at random, so that no caller can choose ids that collide.
    hasher: RandomState,
    inserted: AtomicU32,
    time: Time,
    listeners: RwLock<Vec<Arc<Listener>>>,
}

/// On a cache line of its own: a shard that is busy must not slow its neighbours.
#[repr(align(64))]
struct Shard(ShardMutex<Slots>);

#[derive(Default)]
struct Slots {
    /// Maps the hash of an id to its slot. It is small, so that it stays in the processor's caches.
    index: HashTable<u32>,
    /// The keys. A chunk is allocated whole and never moves, so that a growing store does not pause to copy cells.
    chunks: Vec<Vec<Option<Cell>>>,
    free: Vec<u32>,
    /// The groups, apart from the keys, since a call needs both at once. Their slots are marked by [`GROUP`].
    groups: Vec<Option<Box<Cell>>>,
    free_groups: Vec<u32>,
}

/// Thresholds that a plan has reached, by level.
pub(crate) type Late = Vec<(KeyId, Vec<Crossing>)>;

/// The place of a cell: valid while its key lives, and never valid for another key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    shard: u32,
    slot: u32,
    serial: u32,
}

impl CellMap {
    pub(crate) fn new(time: Time) -> Self {
        Self {
            time,
            listeners: RwLock::default(),
            shards: (0..SHARDS).map(|_| Shard(ShardMutex::new(Slots::default()))).collect(),
            hasher: RandomState::default(),
            inserted: AtomicU32::new(0),
        }
    }

    pub(crate) const fn time(&self) -> &Time {
        &self.time
    }

    /// Calls `then` with the cell of a key or of a group, if there is one.
    pub(crate) fn with<R>(&self, id: &KeyId, then: impl FnOnce(Option<&mut Cell>) -> R) -> R {
        let (shard, hash) = self.place_of(id);
        let mut slots = shard.0.lock();
        let slot = slots.find(hash, id);
        then(slot.and_then(|slot| slots.get_mut(slot)))
    }

    /// Calls `then` with the cell of a key and those of its groups, if there is such a key.
    #[inline]
    pub(crate) fn reach<R>(
        &self,
        id: &KeyId,
        then: impl FnOnce(Option<Reached<'_, '_>>) -> R,
    ) -> R {
        let (shard, hash) = self.place_of(id);
        let (mut late, mut slots) = (Late::new(), shard.0.lock());
        let done = match slots.find_key(hash, id) {
            Some(slot) => slots.reach(slot, None, &self.time, &mut late, then),
            None => then(None),
        };
        drop(slots);
        self.tell(late);
        done
    }

    /// Calls `then` with the cells of a key and its groups, the outermost first and the key at last, if there is such a key.
    pub(crate) fn look<R>(&self, id: &KeyId, then: impl FnOnce(&[&Cell]) -> R) -> Option<R> {
        let (shard, hash) = self.place_of(id);
        let slots = shard.0.lock();
        let slot = slots.find_key(hash, id)?;
        slots.levels(slot, None).map(|levels| then(&levels))
    }

    /// The same at a place.
    pub(crate) fn look_at<R>(&self, place: Place, then: impl FnOnce(&[&Cell]) -> R) -> Option<R> {
        let slots = self.shards[place.shard as usize].0.lock();
        slots.levels(place.slot, Some(place.serial)).map(|levels| then(&levels))
    }

    /// Adds a function that is told of thresholds that a plan has reached.
    pub(crate) fn listen(&self, listener: Listener) {
        self.listeners.write().push(Arc::new(listener));
    }

    /// Tells of thresholds that a plan has reached, while no lock is held.
    #[inline]
    pub(crate) fn tell(&self, late: Late) {
        if !late.is_empty() {
            self.tell_each(late);
        }
    }

    #[cold]
    fn tell_each(&self, mut late: Late) {
        // The outermost first.
        late.sort_by_key(|(level, _)| level.depth());
        // One may add another.
        let listeners = self.listeners.read().clone();
        for (level, crossed) in late.into_iter().filter(|(_, crossed)| !crossed.is_empty()) {
            for listener in &listeners {
                listener(&level, LateEvent::Crossed(&crossed));
            }
        }
    }

    /// Calls `then` with the cells at a place, if its key still lives.
    #[inline]
    pub(crate) fn reach_place<R>(
        &self,
        place: Place,
        then: impl FnOnce(Option<Reached<'_, '_>>) -> R,
    ) -> R {
        let (mut late, mut slots) = (Late::new(), self.shards[place.shard as usize].0.lock());
        let done = slots.reach(place.slot, Some(place.serial), &self.time, &mut late, then);
        drop(slots);
        self.tell(late);
        done
    }

    /// Copies each cell of a shard in turn, and calls `then` with the copy, while no lock is held.
    ///
    /// A cell never moves, so this meets each cell that is there from start to end.
    pub(crate) fn walk<T>(&self, shard: usize, copy: impl Fn(&Cell) -> T, mut then: impl FnMut(T)) {
        for first in [0, GROUP] {
            for slot in first.. {
                let copied = self.shards[shard].0.lock().look(slot).map(|cell| cell.map(&copy));
                match copied {
                    Some(Some(copied)) => then(copied),
                    Some(None) => {}
                    None => break,
                }
            }
        }
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the place of a key's cell, if there is one.
    pub(crate) fn place(&self, id: &KeyId) -> Option<Place> {
        let (shard, hash) = (self.shard_of(id, self.hash(id)), self.hash(id));
        let slots = self.shards[shard].0.lock();
        let slot = slots.find_key(hash, id)?;
        let serial = slots.look(slot)??.serial;
        Some(Place { shard: shard as u32, slot, serial })
    }

    /// Adds the cell of a key or of a group that is not in the map, and whose groups are.
    pub(crate) fn insert(
        &self,
        id: KeyId,
        state: KeyState,
        planned: Option<Planned>,
        ledger: Option<Box<Ledger>>,
    ) {
        let serial = self.inserted.fetch_add(1, Ordering::Relaxed);
        let (shard, hash) = self.place_of(&id);
        let mut slots = shard.0.lock();
        let group = id.group().and_then(|group| slots.find(self.hash(&group), &group));
        let group = group.unwrap_or(NO_SLOT);
        let is_group = state.kind() == KeyKind::Group;
        let cell = Cell { id, serial, group, state, attached: Attached::boxed(planned, ledger) };
        let slot = if is_group { slots.put_group(cell) } else { slots.put_key(cell) };
        let Slots { index, chunks, groups, .. } = &mut *slots;
        index.insert_unique(hash, slot, |slot| match cell_at(chunks, groups, *slot) {
            Some(Some(cell)) => self.hash(&cell.id),
            _ => unreachable!("only slots in use are in the index"),
        });
    }

    pub(crate) fn remove(&self, id: &KeyId) {
        let (shard, hash) = self.place_of(id);
        let mut slots = shard.0.lock();
        let Slots { index, chunks, free, groups, free_groups } = &mut *slots;
        let found = index.find_entry(hash, |slot| is_at(chunks, groups, *slot, id));
        let Ok(found) = found else { return };
        let (slot, _) = found.remove();
        if slot & GROUP == 0 {
            chunks[chunk_of(slot)][within(slot)] = None;
            free.push(slot);
        } else {
            groups[(slot & !GROUP) as usize] = None;
            free_groups.push(slot);
        }
    }

    #[inline]
    fn hash(&self, id: &KeyId) -> u64 {
        self.hash_of(id.as_str())
    }

    #[inline]
    fn hash_of(&self, text: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    /// Returns the shard of an id, and its hash.
    #[inline]
    fn place_of(&self, id: &KeyId) -> (&Shard, u64) {
        let hash = self.hash(id);
        (&self.shards[self.shard_of(id, hash)], hash)
    }

    /// Returns the number of the shard of an id: that of its first segment. It uses bits from the middle: the index itself
    /// uses both ends.
    #[inline]
    fn shard_of(&self, id: &KeyId, hash: u64) -> usize {
        let of_root = if id.is_root() { hash } else { self.hash_of(id.root()) };
        (of_root >> 32) as usize % SHARDS
    }
}

impl Slots {
    #[inline]
    fn find(&self, hash: u64, id: &KeyId) -> Option<u32> {
        self.index.find(hash, |slot| is_at(&self.chunks, &self.groups, *slot, id)).copied()
    }

    /// Finds a key; not a group of this id.
    #[inline]
    fn find_key(&self, hash: u64, id: &KeyId) -> Option<u32> {
        let chunks = &self.chunks;
        let is_at = |slot: &u32| {
            *slot & GROUP == 0
                && chunks[chunk_of(*slot)][within(*slot)]
                    .as_ref()
                    .is_some_and(|cell| cell.id == *id)
        };
        self.index.find(hash, is_at).copied()
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Cell> {
        if slot & GROUP != 0 {
            return self.groups.get_mut((slot & !GROUP) as usize)?.as_deref_mut();
        }
        self.chunks.get_mut(chunk_of(slot))?.get_mut(within(slot))?.as_mut()
    }

    /// Returns the cell in a slot, if one is there; `None` beyond the last slot.
    fn look(&self, slot: u32) -> Option<Option<&Cell>> {
        cell_at(&self.chunks, &self.groups, slot)
    }

    /// Calls `then` with the cell of a key and those of its groups, if the slot has a key, and has it still.
    #[inline]
    fn reach<R>(
        &mut self,
        slot: u32,
        serial: Option<u32>,
        time: &Time,
        late: &mut Late,
        then: impl FnOnce(Option<Reached<'_, '_>>) -> R,
    ) -> R {
        let Self { chunks, groups, .. } = self;
        let cell = chunks.get_mut(chunk_of(slot)).and_then(|chunk| chunk.get_mut(within(slot)));
        let cell = cell.and_then(Option::as_mut);
        match cell.filter(|cell| serial.is_none_or(|serial| cell.serial == serial)) {
            Some(cell) if cell.group == NO_SLOT => {
                catch_up(cell, time, late);
                then(Some(Reached { cell, groups: &mut [] }))
            }
            Some(cell) => {
                catch_up(cell, time, late);
                let mut around = |slot: u32| {
                    let group = groups.get_mut((slot & !GROUP) as usize)?.as_deref_mut()?;
                    catch_up(group, time, late);
                    Some(group.group)
                };
                let mut around = |slot| around(slot).unwrap_or(NO_SLOT);
                let inner = cell.group;
                let middle = around(inner);
                match (middle, around(middle)) {
                    (NO_SLOT, _) => then(reached(cell, states_at(groups, [inner]).as_mut())),
                    (middle, NO_SLOT) => {
                        then(reached(cell, states_at(groups, [middle, inner]).as_mut()))
                    }
                    (middle, outer) => {
                        then(reached(cell, states_at(groups, [outer, middle, inner]).as_mut()))
                    }
                }
            }
            None => then(None),
        }
    }

    /// Returns the cells of a key and its groups, the outermost first and the key at last.
    fn levels(&self, slot: u32, serial: Option<u32>) -> Option<SmallVec<[&Cell; 4]>> {
        let own = self.look(slot)??;
        let own = Some(own).filter(|cell| serial.is_none_or(|serial| cell.serial == serial))?;
        let around = |cell: &&Cell| group_in(&self.groups, cell.group);
        let mut levels: SmallVec<_> = std::iter::successors(Some(own), around).collect();
        levels.reverse();
        Some(levels)
    }

    /// Puts a key into an empty slot, in a new chunk if all others are in use.
    fn put_key(&mut self, cell: Cell) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            let chunk = self.chunks.len() - 1;
            self.chunks[chunk].push(None);
            (chunk * CHUNK + self.chunks[chunk].len() - 1) as u32
        });
        self.chunks[chunk_of(slot)][within(slot)] = Some(cell);
        slot
    }

    fn put_group(&mut self, cell: Cell) -> u32 {
        let slot = self.free_groups.pop().unwrap_or_else(|| {
            self.groups.push(None);
            (self.groups.len() - 1) as u32 | GROUP
        });
        self.groups[(slot & !GROUP) as usize] = Some(Box::new(cell));
        slot
    }
}

/// Lets a cell take the latest version of its plan.
#[inline]
fn catch_up(cell: &mut Cell, time: &Time, late: &mut Late) {
    if cell.attached.is_some() {
        let crossed = cell.catch_up(time.now());
        if !crossed.is_empty() {
            late.push((cell.id.clone(), crossed));
        }
    }
}

fn reached<'a, 'b, const N: usize>(
    cell: &'a mut Cell,
    groups: Option<&'a mut [&'b mut KeyState; N]>,
) -> Option<Reached<'a, 'b>> {
    Some(Reached { cell, groups: groups? })
}

/// Returns the states of the groups in these slots.
fn states_at<const N: usize>(
    groups: &mut [Option<Box<Cell>>],
    slots: [u32; N],
) -> Option<[&mut KeyState; N]> {
    let places = slots.map(|slot| (slot & !GROUP) as usize);
    let cells = groups.get_disjoint_mut(places).ok()?;
    Some(cells.map(|cell| match cell {
        Some(cell) => &mut cell.state,
        None => unreachable!("a group stays as long as a key lies beneath it"),
    }))
}

impl fmt::Debug for CellMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: usize = self.shards.iter().map(|shard| shard.0.lock().index.len()).sum();
        f.debug_struct("CellMap").field("keys", &keys).finish()
    }
}

fn group_in(groups: &[Option<Box<Cell>>], slot: u32) -> Option<&Cell> {
    groups.get((slot & !GROUP) as usize)?.as_deref()
}

/// Returns the cell in a slot, if one is there; `None` beyond the last slot.
fn cell_at<'a>(
    chunks: &'a [Vec<Option<Cell>>],
    groups: &'a [Option<Box<Cell>>],
    slot: u32,
) -> Option<Option<&'a Cell>> {
    if slot & GROUP != 0 {
        return Some(groups.get((slot & !GROUP) as usize)?.as_deref());
    }
    Some(chunks.get(chunk_of(slot))?.get(within(slot))?.as_ref())
}

#[inline]
fn is_at(
    chunks: &[Vec<Option<Cell>>],
    groups: &[Option<Box<Cell>>],
    slot: u32,
    id: &KeyId,
) -> bool {
    cell_at(chunks, groups, slot).flatten().is_some_and(|cell| cell.id == *id)
}

#[inline]
const fn chunk_of(slot: u32) -> usize {
    slot as usize / CHUNK
}

#[inline]
const fn within(slot: u32) -> usize {
    slot as usize % CHUNK
}

/// Many more than the threads that decide at once, so that two of them rarely meet in one shard. An empty shard takes
/// two cache lines.
const SHARDS: usize = 256;
/// Small enough for a small empty store, and large enough for a short list of chunks.
const CHUNK: usize = 32;
/// Marks the slots of groups.
const GROUP: u32 = 1 << 31;
/// In place of the slot of a group that there is not.
const NO_SLOT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use limiter_core::{AssetId, Credits, KeyConfig, KeyKind, Limits, Thresholds};

    use super::*;

    /// Measures the memory that decisions use, without the directory of keys: nine meters of 16 bytes, two accounts, and room
    /// for every window.
    #[test]
    fn a_key_with_one_limited_asset_takes_at_most_600_bytes() {
        let now = limiter_conformance::fixtures::NOON;
        let asset: AssetId = "6895d6d1d50c89537c1cf237".parse().unwrap();
        let builder = Limits::builder().requests_per_minute(60).requests_per_day(1_000);
        let limits = builder.tokens_per_minute(10_000).tokens_per_day(100_000).build().unwrap();
        let config =
            KeyConfig::named("ci").unwrap().with_global(limits.clone()).with_asset(asset, limits);
        let config = config.with_budget(Credits::whole(10).unwrap()).with_expiry(now);

        let cells = CellMap::new(Time::System);
        let allocated = allocation_counter::measure(|| {
            for index in 0..KEYS {
                let id = KeyId::new(format!("{index:022}")).unwrap();
                let state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, now);
                cells.insert(id, state, None, None);
            }
        });
        let bytes = allocated.bytes_current / KEYS;
        println!("{bytes} bytes for each of {KEYS} keys");
        assert!(bytes <= 600, "{bytes} bytes for each key");
    }

    const KEYS: i64 = 200_000;
}
