//! The Redis store passes the suite that every store passes, on a cluster of three masters.
//!
//! All in one test: a cluster takes seconds to start, and test runners give each test a process of its own.

mod common;

use std::time::Duration;

use limiter_conformance::suite::{StoreUnderTest, run_all};
use limiter_core::{LedgerBounds, ManualClock};
use limiter_redis::RedisStore;
use limiter_test_servers::RedisCluster;

#[derive(Debug)]
struct OnCluster(String);

impl StoreUnderTest for OnCluster {
    type Store = RedisStore;
    const SLOWNESS: u32 = SLOWNESS;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> RedisStore {
        let builder = common::empty(&self.0).management_lease(LEASE).ledger_bounds(bounds);
        builder.clock(clock).connect().await.expect("the cluster accepts a store")
    }
}

#[test]
fn the_suite_passes_on_a_cluster() {
    let cluster = RedisCluster::run();
    let url = cluster.url();
    run_all(OnCluster(url), AT_ONCE);
    for node in cluster.nodes() {
        let keys: usize = node.text(&["DBSIZE"]).parse().expect("a number");
        assert!(keys > 500, "the keys are spread over all masters, but one has {keys}");
    }
}

/// Each store connects to three servers, and what is specific to a cluster shows in few histories.
const SLOWNESS: u32 = 100;
/// Some parts wait, and some compute.
const AT_ONCE: usize = 4;

/// No change of keys is taken over because the machine is busy.
const LEASE: Duration = Duration::from_secs(60);
