//! Calls that meet groups, each with the mistake that it once showed.

use std::time::Duration;

use limiter_conformance::fixtures::{
    DAY, MINUTE, NOON, key_id, limits, named, requests_per_minute, workspace,
};
use limiter_core::{
    Charge, Decision, KeyConfig, KeyKind, Limits, ManualClock, NewRecord, Store, Thresholds,
    Timestamp, with_causes,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{fresh_name, shared};

use crate::common;

/// `take` refused it again and again, since it does not leave a level out.
#[tokio::test]
async fn a_call_that_does_not_fit_in_a_group_in_shadow_comes_to_an_end() {
    let world = World::new(named("g").with_global(requests_per_minute(1)).with_shadow(true)).await;
    for call in 1..=5 {
        assert!(world.call("g/k").await.is_allowed(), "{call}");
        assert_eq!(world.requests("g/k").await, call);
        assert_eq!(world.requests("g").await, 1, "it is not charged where it does not fit");
    }
}

/// The first try went by the short form, in which a call that reaches a threshold does not fit, and left the group out.
#[tokio::test]
async fn a_call_that_reaches_a_threshold_of_a_group_in_shadow_is_charged_to_it() {
    let world = World::new(named("g").with_global(requests_per_minute(1)).with_shadow(true)).await;
    assert!(world.call("g/k").await.is_allowed());
    // A day that ends is closed by `apply`.
    for wait in [MINUTE, DAY, DAY] {
        world.clock.advance(wait);
        let Decision::Allowed(allowed) = world.call("g/k").await else { panic!("it is denied") };
        assert_eq!(allowed.crossed().len(), 2, "{wait:?}: both thresholds");
        let usage = world.store.usage(&key_id("g")).await.expect("an answer").expect("a group");
        assert_eq!(usage.scopes[0].rules[0].used, 1, "{wait:?}");
    }
}

/// A call of the group itself stored that its windows were rebased.
#[tokio::test]
async fn a_call_of_a_group_changes_nothing() {
    let world = World::new(named("g").with_global(limits(|it| it.requests_per_day(5)))).await;
    let before = world.store.state(&key_id("g")).await.expect("an answer");
    world.clock.set(Timestamp::from_unix_ms(NOON.unix_ms() - 3 * DAY.as_millis() as i64));
    for _ in 0..2 {
        assert_eq!(world.call("g").await, Decision::key_unknown(Some(&key_id("g")), None));
    }
    assert_eq!(world.store.state(&key_id("g")).await.expect("an answer"), before);
}

/// The error named the key of the call, and an operator deleted that one.
#[tokio::test]
async fn a_damaged_group_is_named_by_the_error_of_its_keys() {
    for (damaged, other) in [("{g}", "{g}/k"), ("{g}/k", "{g}")] {
        let world = World::new(named("g")).await;
        let hash = format!("{}:k:{damaged}", world.prefix);
        shared().command(&["HSET", &hash, "g", "no record"]);
        let decided = world.store.check_and_consume(&key_id("g/k"), None, &Charge::request()).await;
        let error = with_causes(&decided.expect_err("it cannot be decided"));
        assert!(error.contains(&format!("{hash}\"")), "{error}");
        assert!(!error.contains(&format!(":k:{other}\"")), "{error}");
    }
}

/// The group `g`, and its key `g/k` without limits.
struct World {
    store: RedisStore,
    clock: ManualClock,
    prefix: String,
}

impl World {
    async fn new(group: KeyConfig) -> Self {
        let clock = ManualClock::at(NOON);
        let prefix = fresh_name("groups");
        let store = common::empty(shared().url()).key_prefix(&prefix).clock(clock.clone());
        let store = store.command_deadline(Duration::from_secs(5)).connect().await;
        let store = store.expect("the test server accepts a store");
        let key = named("k").with_global(Limits::NONE);
        for (id, kind, config) in [("g", KeyKind::Group, group), ("g/k", KeyKind::Member, key)] {
            let new = NewRecord {
                id: key_id(id),
                workspace: workspace("home"),
                kind,
                config,
                thresholds: Thresholds::DEFAULT,
                secret: None,
                bootstraps: false,
            };
            store.create(new).await.expect("the id is free");
        }
        Self { store, clock, prefix }
    }

    async fn call(&self, id: &str) -> Decision {
        let decision = self.store.check_and_consume(&key_id(id), None, &Charge::request()).await;
        decision.expect("an answer")
    }

    /// The requests that a level has counted today.
    async fn requests(&self, id: &str) -> u64 {
        let usage = self.store.usage(&key_id(id)).await.expect("an answer").expect("a level");
        usage.scopes[0].account.requests()
    }
}
