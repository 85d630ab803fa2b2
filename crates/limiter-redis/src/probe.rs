//! Inspection of a store, and ways to falsify its caches: for tests of this repository alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use limiter_core::{AssetId, RequestId};

use crate::cache::Cached;
use crate::schema::Known;
use crate::store::RedisStore;

/// The cache of a process: limits, windows and counts of keys, and entries of reservations.
#[derive(Clone, Debug, Default)]
pub struct Beliefs {
    known: Cached<Option<AssetId>, Arc<Known>>,
    entries: Cached<RequestId, Vec<u8>>,
}

impl RedisStore {
    /// How often each script was sent since this was asked last.
    pub fn take_trips(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut *self.keys.servers.sent.lock())
    }

    /// Adds this many milliseconds, which may be negative, to the time that the store estimates. The scripts have the right
    /// time.
    pub fn mistake_time_by(&self, ms: i64) {
        self.keys.wrong_by.store(ms, Ordering::Relaxed);
    }

    /// Everything in the cache.
    pub fn beliefs(&self) -> Beliefs {
        Beliefs { known: self.keys.known.all(), entries: self.remembering.entries.all() }
    }

    /// Has this at hand, and nothing else.
    pub fn believe(&self, beliefs: Beliefs) {
        self.keys.known.replace(beliefs.known);
        self.remembering.entries.replace(beliefs.entries);
    }
}
