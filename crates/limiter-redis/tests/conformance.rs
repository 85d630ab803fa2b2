//! The Redis store passes the suite that every store passes, on one server.

mod common;

use limiter_conformance::servers;
use limiter_conformance::suite::StoreUnderTest;
use limiter_core::ManualClock;
use limiter_redis::RedisStore;

/// A store on the server of this test process, with nothing in it.
#[derive(Debug)]
struct Redis;

impl StoreUnderTest for Redis {
    type Store = RedisStore;
    const SLOWNESS: u32 = SLOWNESS;

    async fn fresh(&self, clock: ManualClock) -> RedisStore {
        let builder = common::empty(servers::shared().url());
        builder.clock(clock).connect().await.expect("the test server accepts a store")
    }
}

/// A history takes some ten milliseconds.
const SLOWNESS: u32 = 10;

limiter_conformance::conformance_tests!(Redis);
