//! The map from key ids to cells, in shards, so that callers of different keys rarely meet.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use limiter_core::KeyId;
use parking_lot::RwLock;

use crate::cell::Cell;

/// All living cells. The id of a key is stored in its cell alone.
pub(crate) struct CellMap {
    shards: Box<[Shard]>,
    /// Seeded at random, so that nobody can choose ids that collide.
    hasher: RandomState,
}

/// On a cache line of its own: a shard that is busy must not slow its neighbours.
#[repr(align(64))]
#[derive(Default)]
struct Shard(RwLock<HashTable<Arc<Cell>>>);

impl CellMap {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::default(),
        }
    }

    /// Calls `then` with the cell of a key, if there is one. The shard is locked for reading meanwhile.
    #[inline]
    pub(crate) fn with<R>(&self, id: &KeyId, then: impl FnOnce(Option<&Arc<Cell>>) -> R) -> R {
        let hash = self.hash(id);
        let cells = self.shard(hash).read();
        then(cells.find(hash, |cell| cell.id() == id))
    }

    pub(crate) fn get(&self, id: &KeyId) -> Option<Arc<Cell>> {
        self.with(id, |cell| cell.cloned())
    }

    /// Adds a cell whose id is not in the map.
    pub(crate) fn insert(&self, cell: Arc<Cell>) {
        let hash = self.hash(cell.id());
        let mut cells = self.shard(hash).write();
        cells.insert_unique(hash, cell, |cell| self.hash(cell.id()));
    }

    pub(crate) fn remove(&self, id: &KeyId) -> Option<Arc<Cell>> {
        let hash = self.hash(id);
        let mut cells = self.shard(hash).write();
        cells.find_entry(hash, |cell| cell.id() == id).ok().map(|entry| entry.remove().0)
    }

    #[inline]
    fn hash(&self, id: &KeyId) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(id.as_str().as_bytes());
        hasher.finish()
    }

    /// Chosen by bits from the middle of the hash: the table itself uses both ends.
    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<HashTable<Arc<Cell>>> {
        &self.shards[(hash >> 32) as usize % SHARDS].0
    }
}

impl fmt::Debug for CellMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: usize = self.shards.iter().map(|shard| shard.0.read().len()).sum();
        f.debug_struct("CellMap").field("keys", &keys).finish()
    }
}

/// More than the threads of any machine that decides in memory; an empty shard costs one cache line.
const SHARDS: usize = 256;
