//! Key ids: made by the engine, or chosen by the caller.

use limiter_core::{KeysError, NewKey};

use super::StoreUnderTest;
use super::world::{World, assert_refused, key_id, named, requests_per_day};

/// A chosen id is the key's id.
pub async fn a_caller_may_choose_the_id(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::member(named("ci")).with_id(key_id("team-a/ci"))).await;
    assert_eq!(created.record.id, key_id("team-a/ci"));
    world.admit(&key_id("team-a/ci"), None, 1).await;
}

/// No two living keys have one id; the first stays as it is.
pub async fn a_chosen_id_is_not_given_twice(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let first = NewKey::member(named("ci").with_global(requests_per_day(1)));
    let first = world.create(first.with_id(key_id("chosen"))).await.record;
    let again = world.keys().create(NewKey::admin(named("other")).with_id(key_id("chosen"))).await;
    assert_refused!(again, KeysError::IdTaken(id) if id == "chosen");
    assert_eq!(world.record(&first.id).await, first);
}

/// Ids are those of all workspaces: calls name no workspace.
pub async fn a_chosen_id_is_taken_for_every_workspace(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.create(NewKey::member(named("ci")).with_id(key_id("chosen"))).await;
    let stranger = world.admin_of("elsewhere").await;
    let theirs = NewKey::member(named("ci")).with_id(key_id("chosen"));
    let refused = world.engine.keys_as(&stranger).create(theirs).await;
    assert_refused!(refused, KeysError::IdTaken(_));
}

/// What was asked for first is refused first: the id, then the name, then the access key.
pub async fn of_several_reasons_the_id_comes_first(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let secret = || super::world::access_key("abcd-the-first-one-wxyz");
    let first = NewKey::member(named("ci")).with_id(key_id("chosen")).with_access_key(secret());
    world.create(first.clone()).await;
    assert_refused!(world.keys().create(first).await, KeysError::IdTaken(_));
    let another_id = NewKey::member(named("ci")).with_access_key(secret());
    assert_refused!(world.keys().create(another_id).await, KeysError::NameTaken(_));
    let another_name = NewKey::member(named("other")).with_access_key(secret());
    assert_refused!(world.keys().create(another_name).await, KeysError::AccessKeyTaken);
}

/// An id is any text of 1 to 128 bytes, and each is a key of its own.
pub async fn odd_ids_are_ids(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let longest = "i".repeat(128);
    let odd = ["a", "a:b", "a/b", "{a}", "*", "a b", "é", "🦀", " ", &longest];
    for id in odd {
        let config = named(&format!("named {id}")).with_global(requests_per_day(1));
        world.create(NewKey::member(config).with_id(key_id(id)).without_access_key()).await;
    }
    for id in odd {
        world.admit(&key_id(id), None, 1).await;
        assert_eq!(world.record(&key_id(id)).await.id, key_id(id));
    }
}
