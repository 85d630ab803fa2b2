//! More keys than a few: each is itself, also where the place of a deleted one is taken by another.

use limiter_core::{Charge, DenialReason, KeyId, NewKey, Store};

use super::StoreUnderTest;
use super::world::{World, named, requests_per_day};

/// Each key is called another number of times, and counts just these.
pub async fn each_key_counts_for_itself(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let keys = create(&store, &world, "key").await;
    for (calls, key) in (0..).zip(&keys) {
        world.admit(key, None, calls % 4).await;
    }
    for (calls, key) in (0..).zip(&keys) {
        assert_eq!(used(&world, key).await, calls % 4, "{key}");
    }
}

/// Half of the keys are deleted: the others keep their counts.
pub async fn deleted_keys_take_nothing_with_them(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let keys = create(&store, &world, "key").await;
    for key in &keys {
        world.admit(key, None, 2).await;
    }
    for key in keys.iter().step_by(2) {
        world.keys().delete(key).await.expect("an admin deletes");
    }
    for key in keys.iter().skip(1).step_by(2) {
        assert_eq!(used(&world, key).await, 2, "{key}");
    }
}

/// All keys are deleted and as many made anew, while the handles of the old ones are kept: none of them finds a new key.
pub async fn handles_of_deleted_keys_never_find_new_ones(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let old = create(&store, &world, "old").await;
    let mut handles = Vec::new();
    for key in &old {
        let handle = world.engine.handle(key, None).await.expect("the store answers");
        handles.push(handle.expect("the key is known"));
        world.keys().delete(key).await.expect("an admin deletes");
    }
    let new = create(&store, &world, "new").await;
    for handle in handles {
        for decision in [
            handle.check_and_consume(&Charge::request()).await.expect("the store answers"),
            handle.peek(&Charge::request()).await.expect("the store answers"),
        ] {
            let reason = decision.denied().map(|denied| denied.reason());
            assert_eq!(reason, Some(&DenialReason::KeyUnknown));
        }
    }
    for key in &new {
        assert_eq!(used(&world, key).await, 0, "{key}");
    }
}

async fn create<T: StoreUnderTest>(_: &T, world: &World<T::Store>, prefix: &str) -> Vec<KeyId> {
    let count = if T::SLOWNESS < 100 { KEYS } else { KEYS / 10 };
    let new = (0..count).map(|number| {
        let config = named(&format!("{prefix} {number}")).with_global(requests_per_day(3));
        NewKey::member(config).without_access_key()
    });
    let created = world.keys().create_many(new.collect()).await.expect("an admin creates keys");
    created.into_iter().map(|created| created.expect("the name is free").record.id).collect()
}

async fn used<S: Store>(world: &World<S>, key: &KeyId) -> u32 {
    let global = world.usage(key).await.global.expect("the key has global limits");
    u32::try_from(global.day.requests.used).expect("a few calls")
}

/// Enough that places are shared and taken again, whatever the store keeps its keys in.
const KEYS: usize = 1_000;
