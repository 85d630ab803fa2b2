//! An update is made from the version that was read; one that is stale writes nothing.

use limiter_core::{Credits, KeyConfig, KeysError};

use super::StoreUnderTest;
use super::world::{
    DAY, MINUTE, NOON, World, assert_refused, asset, key_id, named, requests_per_day,
    requests_per_minute,
};

/// A new key is at version 1, and each change counts one.
pub async fn each_change_counts_a_version(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    assert_eq!(world.record(&key).await.version, 1);
    let changes: [fn(&mut KeyConfig); 5] = [
        |config| config.name = named("renamed").name,
        |config| config.global = requests_per_day(1),
        |config| config.assets = [(asset("m1"), requests_per_day(1))].into(),
        |config| config.budget = Some(Credits::ZERO),
        |config| config.expires_at = Some(NOON.after(DAY)),
    ];
    for (version, change) in (2..).zip(changes) {
        let updated = world.update(&key, change).await.expect("the version is the one read");
        assert_eq!(updated.version, version);
        assert_eq!(world.record(&key).await, updated);
    }
}

/// Both versions are named, and nothing is written.
pub async fn a_stale_update_is_a_conflict_that_writes_nothing(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let stale = world.record(&key).await;
    world.update(&key, |config| config.global = requests_per_day(5)).await.expect("an update");
    let before = world.record(&key).await;
    let all = stale
        .config()
        .with_budget(Credits::ZERO)
        .with_global(requests_per_day(9))
        .with_expiry(NOON);
    let refused = world.keys().update(&key, stale.version, &all).await.expect_err("it is stale");
    assert_refused!(Err::<(), _>(&refused), KeysError::Conflict { expected: 1, actual: 2 });
    let told = refused.to_string();
    assert!(told.contains("version 1") && told.contains("version 2"), "{told}");
    assert_eq!(world.record(&key).await, before);
}

/// A version that is not reached yet is as wrong as one that has passed.
pub async fn a_version_of_the_future_is_a_conflict(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let refused = world.keys().update(&key, 2, &named("renamed")).await;
    assert_refused!(refused, KeysError::Conflict { expected: 2, actual: 1 });
}

/// A stale update is told so also when it asks for nothing new, or for what would be refused anyway.
pub async fn a_conflict_is_told_before_anything_else(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let same = world.record(&key).await.config();
    assert_refused!(world.keys().update(&key, 7, &same).await, KeysError::Conflict { .. });
    let taken = named("first admin");
    assert_refused!(world.keys().update(&key, 7, &taken).await, KeysError::Conflict { .. });
    let expiring = world.record(&world.admin).await.config().with_expiry(NOON);
    let last_admin = world.keys().update(&world.admin, 7, &expiring).await;
    assert_refused!(last_admin, KeysError::Conflict { .. });
}

/// There is nothing to be in conflict with.
pub async fn an_update_of_no_key_is_not_found(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let refused = world.keys().update(&key_id("never made"), 1, &named("ci")).await;
    assert_refused!(refused, KeysError::NotFound(id) if id == "never made");
}

/// Not even the version, neither at once, nor while a change is pending, nor windows later.
pub async fn saving_what_is_configured_changes_nothing(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let config = named("ci")
        .with_global(requests_per_minute(5))
        .with_asset(asset("m1"), requests_per_day(3));
    let key =
        world.member(config.with_budget(Credits::MAX).with_expiry(NOON.after(30 * DAY))).await;
    world.admit(&key, "m1", 1).await;
    world.update(&key, |config| config.global = requests_per_minute(6)).await.expect("an update");
    for _ in 0..3 {
        let (record, usage) = (world.record(&key).await, world.usage(&key).await);
        let saved = world.update(&key, |_| {}).await.expect("nothing is asked for");
        assert_eq!(saved, record);
        assert_eq!((world.record(&key).await, world.usage(&key).await), (record, usage));
        world.advance(MINUTE);
    }
}

/// Calls are no changes of the key.
pub async fn calls_count_no_version(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_day(1))).await;
    world.admit(&key, None, 1).await;
    assert!(!world.check(&key, None, limiter_core::Charge::request()).await.is_allowed());
    assert_eq!(world.record(&key).await.version, 1);
}
