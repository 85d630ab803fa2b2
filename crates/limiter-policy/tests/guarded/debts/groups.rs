//! Keys of a group, which are decided without the store and paid to it at every level.

use std::time::Duration;

use limiter_core::{Effective, KeyId, KeyKind, KeyUpdate, Limits, Store, StoreError, Thresholds};
use limiter_memory::MemoryStore;

use super::world::{PROBE_EVERY, World, named, share};

async fn world(keys: &[&str]) -> World {
    let keys = keys.iter().map(|key| id(key)).collect();
    World::of_keys(keys, MemoryStore::builder(), share()).await
}

fn id(id: &str) -> KeyId {
    id.parse().unwrap()
}

async fn limit(world: &World, group: &str, requests_per_day: u64) {
    let record = world.store.read(&id(group)).await.unwrap().unwrap();
    let limits = Limits::builder().requests_per_day(requests_per_day).build().unwrap();
    let update = KeyUpdate {
        id: record.id,
        version: record.version,
        config: record.config.with_global(limits),
        effective: Effective::Now,
        thresholds: Thresholds::DEFAULT,
    };
    world.store.update(&record.workspace, &update).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_allowed_here_is_charged_to_the_key_and_to_each_group() {
    let world = world(&["acme/search/a", "acme/search/b", "acme/c"]).await;
    world.owe_one_each().await;
    let (reserved, [cancelled, settled]) = (&world.keys[0], ["cancelled", "settled"].map(named));
    for id in [&cancelled, &settled] {
        assert!(world.reserve(reserved, id).await.unwrap().is_degraded());
    }
    world.cancel(reserved, &cancelled).await.unwrap();
    world.flaky.comes_back();
    world.until("all is paid", || world.store.is_well()).await;
    let used = |key: &str| world.used(&id(key));
    assert_eq!(["acme/search/a", "acme/search/b", "acme/c"].map(used), [3, 2, 2]);
    assert_eq!(["acme/search", "acme"].map(used), [5, 7]);
}

#[tokio::test(start_paused = true)]
async fn changed_limits_of_a_group_are_learnt_and_a_denial_names_the_group() {
    let world = world(&["acme/a", "acme/b"]).await;
    limit(&world, "acme", 5).await;
    world.pass(Duration::from_secs(60)).await;
    assert!(world.call(&world.keys[0]).await.unwrap().is_charged(), "the third of the group");
    world.pass(PROBE_EVERY).await;
    world.give_up().await;
    let mut allowed = 0;
    let denied = loop {
        let decision = world.call(&world.keys[allowed % 2]).await.unwrap();
        assert!(decision.is_degraded());
        match decision.denied() {
            Some(denied) => break denied.clone(),
            None => allowed += 1,
        }
    };
    assert_eq!(allowed, 5, "the share is the whole limit");
    let binding = denied.exceeded().unwrap().binding().unwrap();
    assert_eq!((binding.group, binding.limit), (Some(id("acme")), 5));
    world.flaky.comes_back();
    world.until("all is paid", || world.store.is_well()).await;
    assert_eq!(world.used(&id("acme")), 3 + 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_group_cannot_be_read_is_not_decided_here_until_it_can() {
    let world = world(&["sound"]).await;
    let (group, key) = (id("acme"), id("acme/a"));
    world.create(&group, KeyKind::Group).await;
    world.create(&key, KeyKind::Member).await;
    world.flaky.damages(&group);
    assert!(world.call(&key).await.unwrap().is_charged());
    world.pass(PROBE_EVERY).await;
    assert!(!world.store.knows(&key));
    world.give_up().await;
    let undecided = world.call(&key).await;
    assert!(matches!(undecided, Err(StoreError::Unavailable(_))), "{undecided:?}");

    world.flaky.repairs(&group);
    world.flaky.comes_back();
    world.until("the store is asked again", || world.store.is_well()).await;
    assert!(world.call(&key).await.unwrap().is_charged());
    world.until("the key is known", || world.store.knows(&key)).await;
    world.give_up().await;
    assert!(world.call(&key).await.unwrap().is_degraded());
}
