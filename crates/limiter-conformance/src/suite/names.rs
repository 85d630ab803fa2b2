//! A name belongs to one living key of its workspace.

use limiter_core::{KeysError, NewKey};

use super::StoreUnderTest;
use super::world::{NOON, World, assert_refused, named};

/// Creating.
pub async fn a_name_is_not_given_twice(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("ci")).await;
    let again = world.keys().create(NewKey::member(named("ci"))).await;
    assert_refused!(again, KeysError::NameTaken(name) if name == "ci");
}

/// Renaming; nothing is written.
pub async fn a_key_is_not_renamed_to_a_taken_name(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("ci")).await;
    let other = world.member(named("other")).await;
    let before = world.record(&other).await;
    let renamed = world.update(&other, |config| config.name = named("ci").name).await;
    assert_refused!(renamed, KeysError::NameTaken(_));
    assert_eq!(world.record(&other).await, before);
}

/// Names are compared byte by byte.
pub async fn names_that_look_alike_are_different(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for name in ["ci", "CI", "ci ", "cí", "ci\u{301}", "ci\u{200d}"] {
        world.member(named(name)).await;
    }
}

/// Deletion sets a name free; the new key has nothing of the old one.
pub async fn a_name_is_free_again_after_deletion(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let first = world.member(named("ci")).await;
    world.keys().delete(&first).await.expect("an admin deletes");
    assert_ne!(world.member(named("ci")).await, first);
}

/// Renaming sets a name free.
pub async fn a_name_is_free_again_after_renaming(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("old")).await;
    world.update(&key, |config| config.name = named("new").name).await.expect("the name is free");
    world.member(named("old")).await;
    let taken = world.keys().create(NewKey::member(named("new"))).await;
    assert_refused!(taken, KeysError::NameTaken(_));
}

/// An expired key lives, and keeps its name.
pub async fn an_expired_key_keeps_its_name(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("ci").with_expiry(NOON)).await;
    let again = world.keys().create(NewKey::member(named("ci"))).await;
    assert_refused!(again, KeysError::NameTaken(_));
}

/// Each workspace has its own names.
pub async fn another_workspace_may_use_the_same_name(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("ci")).await;
    let stranger = world.admin_of("elsewhere").await;
    let theirs = world.engine.keys_as(&stranger).create(NewKey::member(named("ci"))).await;
    assert!(theirs.is_ok());
}

/// Members and admins share the names of their workspace.
pub async fn an_admin_and_a_member_cannot_share_a_name(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = NewKey::member(named("first admin"));
    assert_refused!(world.keys().create(member).await, KeysError::NameTaken(_));
}
