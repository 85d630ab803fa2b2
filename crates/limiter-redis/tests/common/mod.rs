//! Empty stores for tests: each has a key prefix of its own on a server that the test process shares.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use limiter_conformance::servers;
use limiter_conformance::suite::StoreUnderTest;
use limiter_core::ManualClock;
use limiter_redis::{RedisStore, RedisStoreBuilder};

/// A store on the server of this test process, with nothing in it.
#[derive(Debug)]
pub(crate) struct Redis;

impl StoreUnderTest for Redis {
    type Store = RedisStore;
    const SLOWNESS: u32 = SLOWNESS;

    async fn fresh(&self, clock: ManualClock) -> RedisStore {
        let builder = empty(servers::shared().url());
        builder.clock(clock).connect().await.expect("the test server accepts a store")
    }
}

/// A store under a prefix that no other test uses, with time for a busy machine.
pub(crate) fn empty(url: &str) -> RedisStoreBuilder {
    static STORES: AtomicU64 = AtomicU64::new(0);
    let number = STORES.fetch_add(1, Ordering::Relaxed);
    let prefix = format!("test-{}-{number}", process::id());
    RedisStore::builder(url).key_prefix(prefix).command_deadline(PATIENCE)
}

/// Tests of what is decided, not of how fast, run beside each other on few cores.
const PATIENCE: Duration = Duration::from_secs(10);
/// A history takes some ten milliseconds.
const SLOWNESS: u32 = 10;
