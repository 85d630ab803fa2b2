//! Caches of the keys that this process has seen. Operations are prepared from them; none relies on them.

use std::hash::Hash;
use std::sync::Arc;

use limiter_core::{AssetId, KeyId, RequestId, WorkspaceId};
use lru::LruCache;
use parking_lot::Mutex;

use crate::schema::{Known, Stamp};

/// The values that were used last, each of a part of a key. It grows with its use.
#[derive(Debug)]
pub(crate) struct Cache<P: Eq + Hash, V> {
    used: Mutex<LruCache<(KeyId, P), V>>,
    most: usize,
}

/// Everything in a cache, the value that was used last at the end.
#[cfg(feature = "fuzzing")]
pub(crate) type Cached<P, V> = Vec<((KeyId, P), V)>;

/// Keys and assets: limits, windows, and counts as of then.
pub(crate) type KnownKeys = Cache<Option<AssetId>, Arc<Known>>;

/// The workspaces of groups, by their stamps: one that is deleted may come back in another workspace, but with another stamp.
pub(crate) type Workspaces = Cache<Stamp, WorkspaceId>;

/// Entries of reservations that this process has made or changed, as they were then. They save a settlement a trip.
pub(crate) type Entries = Cache<RequestId, Vec<u8>>;

impl<P: Eq + Hash + Clone, V: Clone> Cache<P, V> {
    /// Remembers at most this many values, and at least one.
    pub(crate) fn new(most: usize) -> Self {
        Self { used: Mutex::new(LruCache::unbounded()), most: most.max(1) }
    }

    pub(crate) fn of(&self, key: &KeyId, part: P) -> Option<V> {
        self.used.lock().get(&(key.clone(), part)).cloned()
    }

    pub(crate) fn take(&self, key: &KeyId, part: P) -> Option<V> {
        self.used.lock().pop(&(key.clone(), part))
    }

    pub(crate) fn forget(&self, key: &KeyId, part: P) {
        drop(self.take(key, part));
    }

    pub(crate) fn learn(&self, key: &KeyId, part: P, value: V) {
        let mut used = self.used.lock();
        used.put((key.clone(), part), value);
        if used.len() > self.most {
            used.pop_lru();
        }
    }

    #[cfg(feature = "fuzzing")]
    pub(crate) fn all(&self) -> Cached<P, V> {
        let used = self.used.lock();
        used.iter().rev().map(|(of, value)| (of.clone(), value.clone())).collect()
    }

    /// These and no others.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn replace(&self, with: Cached<P, V>) {
        let mut used = self.used.lock();
        used.clear();
        with.into_iter().for_each(|(of, value)| drop(used.put(of, value)));
    }
}
