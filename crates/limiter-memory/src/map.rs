//! The cells of all living keys, in shards, so that callers of different keys rarely wait for each other, and the clock
//! of all of them.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use limiter_core::{KeyId, KeyState, Ledger};

use crate::cell::Cell;
use crate::sync::ShardMutex;
use crate::time::Time;

/// All living cells.
///
/// One lock covers the search for a key and the step on its cell, which is shorter than a second lock.
/// A cell stays where it is for as long as its key lives, so that a handle finds it without a search.
pub(crate) struct CellMap {
    shards: Box<[Shard]>,
    /// Seeded at random, so that no caller can choose ids that collide.
    hasher: RandomState,
    inserted: AtomicU64,
    time: Time,
}

/// On a cache line of its own: a shard that is busy must not slow its neighbours.
#[repr(align(64))]
struct Shard(ShardMutex<Slots>);

#[derive(Default)]
struct Slots {
    /// Maps the hash of an id to its slot. It is small, so that it stays in the processor's caches.
    index: HashTable<u32>,
    /// A chunk is allocated whole and never moves, so that a growing store does not pause to copy cells.
    chunks: Vec<Vec<Option<Cell>>>,
    free: Vec<u32>,
}

/// The place of a cell: valid while its key lives, and never valid for another key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    shard: u32,
    slot: u32,
    serial: u64,
}

impl CellMap {
    pub(crate) fn new(time: Time) -> Self {
        Self {
            time,
            shards: (0..SHARDS).map(|_| Shard(ShardMutex::new(Slots::default()))).collect(),
            hasher: RandomState::default(),
            inserted: AtomicU64::new(0),
        }
    }

    pub(crate) const fn time(&self) -> &Time {
        &self.time
    }

    /// Calls `then` with the cell of a key, if there is one.
    #[inline]
    pub(crate) fn with<R>(&self, id: &KeyId, then: impl FnOnce(Option<&mut Cell>) -> R) -> R {
        let hash = self.hash(id);
        let mut slots = self.shard(hash).0.lock();
        let slot = slots.find(hash, id);
        then(slot.and_then(|slot| slots.get_mut(slot)))
    }

    /// Calls `then` with the cell at a place, if its key still lives.
    #[inline]
    pub(crate) fn with_place<R>(
        &self,
        place: Place,
        then: impl FnOnce(Option<&mut Cell>) -> R,
    ) -> R {
        let mut slots = self.shards[place.shard as usize].0.lock();
        then(slots.get_mut(place.slot).filter(|cell| cell.serial == place.serial))
    }

    /// Calls `then` with the cell in a slot of a shard, if there is one. `None` beyond the last slot or the last shard.
    ///
    /// A cell never moves, so a walk over all slots meets each cell that is there from start to end.
    pub(crate) fn with_slot<R>(
        &self,
        shard: usize,
        slot: u32,
        then: impl FnOnce(Option<&Cell>) -> R,
    ) -> Option<R> {
        let slots = self.shards.get(shard)?.0.lock();
        let cell = slots.chunks.get(chunk_of(slot))?.get(within(slot))?;
        Some(then(cell.as_ref()))
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the place of a key's cell, if there is one.
    pub(crate) fn place(&self, id: &KeyId) -> Option<Place> {
        let hash = self.hash(id);
        let mut slots = self.shard(hash).0.lock();
        let slot = slots.find(hash, id)?;
        let serial = slots.get_mut(slot)?.serial;
        Some(Place { shard: shard_of(hash) as u32, slot, serial })
    }

    /// Adds the cell of a key that is not in the map.
    pub(crate) fn insert(&self, id: KeyId, state: KeyState, ledger: Option<Box<Ledger>>) {
        let hash = self.hash(&id);
        let serial = self.inserted.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.shard(hash).0.lock();
        let slot = slots.take_free();
        let Slots { index, chunks, .. } = &mut *slots;
        chunks[chunk_of(slot)][within(slot)] = Some(Cell { id, serial, state, ledger });
        index.insert_unique(hash, slot, |slot| match &chunks[chunk_of(*slot)][within(*slot)] {
            Some(cell) => self.hash(&cell.id),
            None => unreachable!("only slots in use are in the index"),
        });
    }

    pub(crate) fn remove(&self, id: &KeyId) {
        let hash = self.hash(id);
        let mut slots = self.shard(hash).0.lock();
        let Slots { index, chunks, free } = &mut *slots;
        let found = index.find_entry(hash, |slot| is_at(chunks, *slot, id));
        if let Ok(found) = found {
            let (slot, _) = found.remove();
            chunks[chunk_of(slot)][within(slot)] = None;
            free.push(slot);
        }
    }

    #[inline]
    fn hash(&self, id: &KeyId) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(id.as_str().as_bytes());
        hasher.finish()
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[shard_of(hash)]
    }
}

impl Slots {
    #[inline]
    fn find(&self, hash: u64, id: &KeyId) -> Option<u32> {
        self.index.find(hash, |slot| is_at(&self.chunks, *slot, id)).copied()
    }

    #[inline]
    fn get_mut(&mut self, slot: u32) -> Option<&mut Cell> {
        self.chunks.get_mut(chunk_of(slot))?.get_mut(within(slot))?.as_mut()
    }

    /// Takes an empty slot, in a new chunk if all others are in use.
    fn take_free(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(None);
        (chunk * CHUNK + self.chunks[chunk].len() - 1) as u32
    }
}

impl fmt::Debug for CellMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: usize = self.shards.iter().map(|shard| shard.0.lock().index.len()).sum();
        f.debug_struct("CellMap").field("keys", &keys).finish()
    }
}

#[inline]
fn is_at(chunks: &[Vec<Option<Cell>>], slot: u32, id: &KeyId) -> bool {
    chunks[chunk_of(slot)][within(slot)].as_ref().is_some_and(|cell| cell.id == *id)
}

/// Returns the shard of a hash. It uses bits from the middle: the index itself uses both ends.
#[inline]
const fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
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
                cells.insert(id, state, None);
            }
        });
        let bytes = allocated.bytes_current / KEYS;
        println!("{bytes} bytes for each of {KEYS} keys");
        assert!(bytes <= 600, "{bytes} bytes for each key");
    }

    const KEYS: i64 = 200_000;
}
