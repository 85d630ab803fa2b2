//! Empty stores for tests, next to each other on one server.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use limiter_redis::{RedisStore, RedisStoreBuilder};

/// A store under a prefix that no other test uses, with time for a busy machine.
pub(crate) fn empty(url: &str) -> RedisStoreBuilder {
    static STORES: AtomicU64 = AtomicU64::new(0);
    let number = STORES.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("test-{}-{number}", process::id());
    RedisStore::builder(url)
        .key_prefix(prefix)
        .connect_deadline(PATIENCE)
        .command_deadline(PATIENCE)
}

/// Tests of decisions, not of speed, run at the same time on few cores.
const PATIENCE: Duration = Duration::from_secs(30);
