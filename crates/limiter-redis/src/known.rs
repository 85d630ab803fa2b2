//! Cache of the keys that this process has seen. Operations are prepared from it; none relies on it.

use std::sync::Arc;

use limiter_core::{AssetId, KeyId};
use lru::LruCache;
use parking_lot::Mutex;

use crate::schema::Known;

/// The scopes that were used last: limits, windows, and counts as of then.
#[derive(Debug)]
pub(crate) struct KnownKeys {
    /// It grows with its use.
    used: Mutex<LruCache<Called, Arc<Known>>>,
    most: usize,
}

pub(crate) type Called = (KeyId, Option<AssetId>);

impl KnownKeys {
    /// Remembers at most this many keys and assets, and at least one.
    pub(crate) fn new(most: usize) -> Self {
        Self { used: Mutex::new(LruCache::unbounded()), most: most.max(1) }
    }

    pub(crate) fn of(&self, key: &KeyId, asset: Option<&AssetId>) -> Option<Arc<Known>> {
        self.used.lock().get(&(key.clone(), asset.cloned())).cloned()
    }

    pub(crate) fn forget(&self, key: &KeyId, asset: Option<&AssetId>) {
        self.used.lock().pop(&(key.clone(), asset.cloned()));
    }

    pub(crate) fn learn(&self, key: &KeyId, asset: Option<&AssetId>, known: Arc<Known>) {
        let mut used = self.used.lock();
        used.put((key.clone(), asset.cloned()), known);
        if used.len() > self.most {
            used.pop_lru();
        }
    }

    /// All of them, the one that was used last at the end.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn all(&self) -> Vec<(Called, Arc<Known>)> {
        let known = self.used.lock();
        known.iter().rev().map(|(called, known)| (called.clone(), Arc::clone(known))).collect()
    }

    /// These and no others.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn replace(&self, with: Vec<(Called, Arc<Known>)>) {
        let mut known = self.used.lock();
        known.clear();
        with.into_iter().for_each(|(called, with)| drop(known.put(called, with)));
    }
}
