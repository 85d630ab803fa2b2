//! Entries of reservations that are at hand, though the id is that of a later reservation by now.

use std::time::Duration;

use limiter_conformance::fixtures::{NOON, asset, output, tokens};
use limiter_core::{
    KeyConfig, KeyId, KeyKind, Limits, ManualClock, NewRecord, RequestId, Store, Thresholds,
};
use limiter_redis::RedisStore;
use limiter_test_servers::shared;

use crate::common;

/// An amendment was decided by the reservation before.
#[tokio::test]
async fn an_amendment_is_one_of_the_reservation_that_is_there() {
    let world = World::new().await;
    let [one, other] = &world.processes;
    world.reserve(one, None, 5).await;
    world.clock.advance(TTL);
    world.reserve(other, None, 2).await;
    let amended = one.amend(&world.key, &world.id, &output(4)).await.expect("it grows");
    assert!(amended.is_charged());
    assert_eq!(world.used_by_all().await, 4);
}

/// The refund went to the asset of the reservation before, or to none.
#[tokio::test]
async fn a_settlement_corrects_the_asset_of_the_reservation_that_is_there() {
    let world = World::new().await;
    let [one, other] = &world.processes;
    world.reserve(one, Some("m1"), 5).await;
    world.clock.advance(TTL);
    world.reserve(other, Some("m2"), 7).await;
    one.settle(&world.key, &world.id, &output(1)).await.expect("it is open");
    let usage = other.usage(&world.key).await.expect("an answer").expect("a key");
    let used = usage.scopes.iter().skip(1).map(|asset| asset.account.output_tokens());
    assert_eq!(used.collect::<Vec<_>>(), [5, 1]);
}

/// A member key, and two processes that share it.
struct World {
    clock: ManualClock,
    processes: [RedisStore; 2],
    key: KeyId,
    id: RequestId,
}

impl World {
    async fn new() -> Self {
        // Noon, in 2025.
        let clock = ManualClock::at(NOON);
        let builder = common::empty(shared().url()).clock(clock.clone());
        let connect =
            || async { builder.clone().connect().await.expect("the test server accepts it") };
        let processes = [connect().await, connect().await];
        let limits = Limits::builder().tokens_per_minute(100).tokens_per_day(100).build();
        let limits = limits.expect("limits within bounds");
        let id = |id: &str| id.parse().expect("an id");
        let config = KeyConfig::named("ci").expect("a name").with_global(limits.clone());
        let config = config.with_asset("m1".parse().expect("an id"), limits.clone());
        let config = config.with_asset("m2".parse().expect("an id"), limits);
        let admin = KeyConfig::named("admin").expect("a name");
        for (key, kind, config) in
            [("admin", KeyKind::Admin, admin), ("ci", KeyKind::Member, config)]
        {
            let workspace = "home".parse().expect("an id");
            let new = NewRecord {
                id: id(key),
                workspace,
                kind,
                config,
                thresholds: Thresholds::DEFAULT,
                secret: None,
                bootstraps: false,
            };
            processes[0].create(new).await.expect("the id is free");
        }
        Self { clock, processes, key: id("ci"), id: "r1".parse().expect("an id") }
    }

    async fn reserve(&self, process: &RedisStore, called: Option<&str>, output: u64) {
        let asset = called.map(asset);
        let estimate = tokens(0, output);
        let reserved = process.reserve(&self.key, asset.as_ref(), &estimate, &self.id, TTL).await;
        assert!(reserved.expect("an answer").is_charged());
    }

    /// Tokens of this minute, over all assets.
    async fn used_by_all(&self) -> u64 {
        let usage = self.processes[1].usage(&self.key).await.expect("an answer").expect("a key");
        usage.scopes[0].rules[0].used
    }
}

/// A minute, so that each reservation is charged to a window of its own.
const TTL: Duration = Duration::from_secs(60);
