//! Deletion takes effect at once, for everybody, and for ever.

use limiter_core::{Charge, Decision, DenialReason, KeysError, NewKey, Store};

use super::StoreUnderTest;
use super::world::{DAY, World, assert_refused, asset, named, requests_per_day};

/// Calls by key.
pub async fn a_deleted_key_makes_no_calls(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    world.admit(&key, "m1", 1).await;
    world.keys().delete(&key).await.expect("an admin deletes");
    assert!(is_unknown(&world.check(&key, "m1", Charge::request()).await));
    assert!(is_unknown(&world.peek(&key, "m1", Charge::request()).await));
}

/// Calls through handles that were obtained before, and their clones.
pub async fn a_handle_sees_the_deletion_of_its_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(9))).await;
    for called in [None, Some(asset("m1")), Some(asset("m2"))] {
        let handle = world.engine.handle(&key, called.as_ref()).await.expect("the store answers");
        let handle = handle.expect("the key is known");
        let allowed = handle.check_and_consume(&Charge::request()).await;
        assert!(allowed.expect("the store answers").is_allowed());
        if called == Some(asset("m2")) {
            world.keys().delete(&key).await.expect("an admin deletes");
            for handle in [handle.clone(), handle] {
                assert!(is_unknown(
                    &handle.check_and_consume(&Charge::request()).await.expect("an answer")
                ));
                assert!(is_unknown(&handle.peek(&Charge::request()).await.expect("an answer")));
            }
        }
    }
}

/// A key that is not known has no handle, and one that was deleted has none any more.
pub async fn a_deleted_key_has_no_handle(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    world.keys().delete(&key).await.expect("an admin deletes");
    assert!(world.engine.handle(&key, None).await.expect("the store answers").is_none());
}

/// The secret.
pub async fn a_deleted_key_is_not_authenticated(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::member(named("ci"))).await;
    let secret = created.access_key.expect("an access key was made");
    world.keys().delete(&created.record.id).await.expect("an admin deletes");
    assert_eq!(world.engine.authenticate(&secret).await.expect("the store answers"), None);
    let looked_up = world.keys().get_by_access_key(&secret).await;
    assert_refused!(looked_up, KeysError::NotFound(_));
}

/// Records and usage.
pub async fn nothing_is_left_to_read_of_a_deleted_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_day(5))).await;
    world.keys().delete(&key).await.expect("an admin deletes");
    assert_eq!(world.engine.usage(&key).await.expect("the store answers"), None);
    assert_refused!(world.keys().usage(&key).await, KeysError::NotFound(_));
    assert_refused!(world.keys().get(&key).await, KeysError::NotFound(_));
}

/// It is irreversible: neither an update, nor a second deletion, nor time brings the key back.
pub async fn a_deleted_key_stays_deleted(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let record = world.record(&key).await;
    world.keys().delete(&key).await.expect("an admin deletes");
    let updated = world.keys().update(&key, record.version, &record.config()).await;
    assert_refused!(updated, KeysError::NotFound(_));
    assert_refused!(world.keys().delete(&key).await, KeysError::NotFound(_));
    world.advance(DAY);
    assert!(is_unknown(&world.check(&key, None, Charge::request()).await));
}

/// The handle of a deleted key is not that of the key that takes its name.
pub async fn a_handle_does_not_pass_to_the_next_key_of_the_name(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let handle = world.engine.handle(&key, None).await.expect("the store answers");
    world.keys().delete(&key).await.expect("an admin deletes");
    world.member(named("ci")).await;
    let decision = handle.expect("the key was known").check_and_consume(&Charge::request()).await;
    assert!(is_unknown(&decision.expect("the store answers")));
}

/// Others go on as if nothing had happened.
pub async fn a_deletion_leaves_other_keys_alone(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let config = named("other").with_global(requests_per_day(5));
    let (gone, other) = (world.member(named("ci")).await, world.member(config).await);
    world.admit(&other, None, 2).await;
    let before = (world.usage(&other).await, world.record(&other).await);
    world.keys().delete(&gone).await.expect("an admin deletes");
    assert_eq!((world.usage(&other).await, world.record(&other).await), before);
}

fn is_unknown(decision: &Decision) -> bool {
    decision.denied().is_some_and(|denied| denied.reason() == &DenialReason::KeyUnknown)
}
