//! The limits that this process has seen, to explain decisions with. No decision depends on them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use limiter_core::{AssetId, KeyId};
use lru::LruCache;
use parking_lot::Mutex;

use crate::codec::{Limits, Stamp};

/// The limits that were used last.
#[derive(Debug)]
pub(crate) struct KnownLimits(Mutex<LruCache<Called, Arc<Known>>>);

type Called = (KeyId, Option<AssetId>);

/// The limits of a key and of an asset, as they were under this stamp.
#[derive(Debug)]
pub(crate) struct Known {
    stamp: Stamp,
    limits: Limits,
}

impl KnownLimits {
    /// Remembers the limits of at most so many keys and assets, and of one at least.
    pub(crate) fn new(most: usize) -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN))))
    }

    pub(crate) fn of(&self, key: &KeyId, asset: Option<&AssetId>) -> Option<Arc<Known>> {
        self.0.lock().get(&(key.clone(), asset.cloned())).cloned()
    }

    pub(crate) fn forget(&self, key: KeyId, asset: Option<AssetId>) {
        self.0.lock().pop(&(key, asset));
    }

    pub(crate) fn learn(&self, key: KeyId, asset: Option<AssetId>, known: Known) {
        self.0.lock().put((key, asset), Arc::new(known));
    }
}

impl Known {
    pub(crate) const fn new(stamp: Stamp, limits: Limits) -> Self {
        Self { stamp, limits }
    }

    pub(crate) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }
}
