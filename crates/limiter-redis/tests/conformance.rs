//! The Redis store passes the suite that every store passes, on one server.

mod common;

use std::time::Duration;

use limiter_conformance::suite::{self, StoreUnderTest};
use limiter_core::{LedgerBounds, ManualClock};
use limiter_redis::RedisStore;
use limiter_test_servers::shared;

/// A store on the server of this test process, with nothing in it.
#[derive(Debug)]
struct Redis;

impl StoreUnderTest for Redis {
    type Store = RedisStore;
    const SLOWNESS: u32 = SLOWNESS;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> RedisStore {
        let builder = common::empty(shared().url()).management_lease(LEASE);
        let builder = builder.ledger_bounds(bounds);
        builder.clock(clock).connect().await.expect("the test server accepts a store")
    }
}

fn main() {
    suite::main(Redis);
}

/// A history takes some ten milliseconds.
const SLOWNESS: u32 = 10;
/// No change of keys is taken over because the machine is busy.
const LEASE: Duration = Duration::from_secs(60);
