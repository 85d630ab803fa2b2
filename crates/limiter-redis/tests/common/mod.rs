//! Empty stores for tests, next to each other on one server.

use std::time::Duration;

use limiter_redis::{RedisStore, RedisStoreBuilder};
use limiter_test_servers::fresh_name;

/// A store under a prefix that no other test uses, with time for a busy machine.
pub(crate) fn empty(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url)
        .key_prefix(fresh_name("test"))
        .connect_deadline(PATIENCE)
        .command_deadline(PATIENCE)
}

/// Tests of decisions, not of speed, run at the same time on few cores.
const PATIENCE: Duration = Duration::from_secs(30);
