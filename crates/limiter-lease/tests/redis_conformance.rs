//! The suite that every store passes, on leases of a store on Redis.

mod common;

use std::time::Duration;

use limiter_conformance::suite::{self, StoreUnderTest};
use limiter_core::{LedgerBounds, ManualClock};
use limiter_lease::LeasedStore;
use limiter_redis::RedisStore;
use limiter_test_servers::{fresh_name, shared};

struct LeasedRedis;

impl StoreUnderTest for LeasedRedis {
    type Store = LeasedStore;
    const LEASES: bool = true;
    const SLOWNESS: u32 = SLOWNESS;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> LeasedStore {
        let builder = RedisStore::builder(shared().url())
            .key_prefix(fresh_name("leased"))
            .connect_deadline(PATIENCE)
            .command_deadline(PATIENCE)
            .management_lease(PATIENCE)
            .ledger_bounds(bounds)
            .clock(clock.clone());
        let store = builder.connect().await.expect("the test server accepts a store");
        common::leased(store, clock)
    }
}

fn main() {
    suite::main(LeasedRedis);
}

/// Each call of a history waits for the server, and for the lease that it asks for.
const SLOWNESS: u32 = 20;
/// Tests of decisions, not of speed, run at the same time on few cores.
const PATIENCE: Duration = Duration::from_secs(60);
