//! Changes of limits that take effect at once, each with the mistake that it once showed.

use limiter_conformance::fixtures::{
    DAY, MINUTE, NOON, asset, key_id, limits, named, tokens, workspace,
};
use limiter_core::{
    Charge, Effective, KeyConfig, KeyId, KeyKind, KeyState, KeyUpdate, Limits, ManualClock,
    NewRecord, Store, Thresholds,
};
use limiter_redis::RedisStore;
use limiter_test_servers::shared;

use crate::common;
use crate::update::update;

/// The script filled the new window by the new limit, and then took the difference of the limits from it.
#[tokio::test]
async fn a_limit_changed_in_a_new_window_leaves_all_of_it() {
    for (before, after) in [(10, 4), (4, 10), (1_000, 1)] {
        let world = World::new(limits(|it| it.requests_per_minute(before))).await;
        assert!(world.admits(&Charge::request()).await);
        world.clock.advance(MINUTE);
        world.change(limits(|it| it.requests_per_minute(after))).await;
        for call in 0..=after {
            let admitted = world.admits(&Charge::request()).await;
            assert_eq!(admitted, call < after, "call {call} of {after} after {before}");
        }
    }
}

/// The script summed two accounts beyond 2^53, where Lua rounds: of odd limits one token too many was left.
#[tokio::test]
async fn a_limit_of_tokens_starts_at_what_the_day_has_counted() {
    for limit in [100, 101] {
        let world = World::new(Limits::NONE).await;
        assert!(world.admits(&tokens(30, 41)).await);
        world.change(limits(|it| it.tokens_per_day(limit))).await;
        assert!(!world.admits(&tokens(limit - 70, 0)).await, "{limit}");
        assert!(world.admits(&tokens(0, limit - 71)).await, "{limit}");
        assert!(!world.admits(&Charge::request()).await, "{limit}");
    }
}

/// Lua returns at most 8,000 values at once, and a script writes two for each record.
#[tokio::test]
async fn all_that_a_key_may_count_is_changed_and_reset_at_once() {
    let world = World::new(limits(|it| it.requests_per_minute(5))).await;
    let mut version = 1;
    for round in 0..KeyState::MAX_COUNTED_ASSETS / KeyConfig::MAX_ASSETS {
        let listed = (0..KeyConfig::MAX_ASSETS).map(|number| asset(&format!("{round}/{number}")));
        let config =
            listed.fold(named("ci"), |config, asset| config.with_asset(asset, Limits::NONE));
        world.save(version, &config).await;
        version += 1;
    }
    let state = async || world.store.state(&world.key).await.expect("an answer").expect("a key");
    assert_eq!(state().await.assets().count(), KeyState::MAX_COUNTED_ASSETS);
    assert!(world.admits(&Charge::request()).await);
    world.store.reset(&workspace("home"), &world.key).await.expect("a key");
    let listed = state().await.configured().1;
    let config = KeyConfig { assets: listed, ..named("ci") };
    let thresholds = Thresholds::new([50]).expect("rising");
    world.save(version, &config.with_thresholds(thresholds)).await;
    assert_eq!(state().await.thresholds(), thresholds);
    world.clock.advance(DAY);
    let updated = named("ci").with_global(limits(|it| it.requests_per_minute(1)));
    world.save(version + 1, &updated).await;
    assert!(state().await.assets().count() <= KeyConfig::MAX_ASSETS);
}

/// A key, and the clock of its store.
struct World {
    store: RedisStore,
    clock: ManualClock,
    key: KeyId,
}

impl World {
    async fn new(limits: Limits) -> Self {
        let clock = ManualClock::at(NOON);
        let store = common::empty(shared().url()).clock(clock.clone()).connect().await;
        let store = store.expect("the test server accepts a store");
        let key = NewRecord {
            id: key_id("ci"),
            workspace: workspace("home"),
            kind: KeyKind::Member,
            config: named("ci").with_global(limits),
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        };
        let key = store.create(key).await.expect("an empty store").id;
        Self { store, clock, key }
    }

    async fn change(&self, limits: Limits) {
        let config: KeyConfig = named("ci").with_global(limits);
        let update = KeyUpdate { effective: Effective::Now, ..update(&self.key, 1, &config) };
        self.store.update(&workspace("home"), &update).await.expect("the version is right");
    }

    async fn save(&self, version: u64, config: &KeyConfig) {
        let update = update(&self.key, version, config);
        self.store.update(&workspace("home"), &update).await.expect("the version is right");
    }

    async fn admits(&self, charge: &Charge) -> bool {
        let decision = self.store.check_and_consume(&self.key, None, charge).await;
        decision.expect("an answer").is_allowed()
    }
}
