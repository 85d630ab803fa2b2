//! A key of another workspace does not exist, as far as any answer tells: it is refused in the very words in which an
//! id that never existed is.

use limiter_core::{KeyId, KeysError, NewKey, Search, Store};

use super::StoreUnderTest;
use super::world::{
    World, access_key, assert_refused, key_id, named, requests_per_day, wording, workspace,
};

/// Reading.
pub async fn a_foreign_key_is_not_there_to_read(store: impl StoreUnderTest) {
    let (world, foreign) = with_foreign_key(&store).await;
    let refused = world.keys().get(&foreign).await;
    let never_made = world.keys().get(&key_id("never made")).await;
    are_told_the_same((refused.map(drop), &foreign), never_made.map(drop));
}

/// Updating, also when the version is that of the foreign key.
pub async fn a_foreign_key_is_not_there_to_update(store: impl StoreUnderTest) {
    let (world, foreign) = with_foreign_key(&store).await;
    let config = named("mine");
    for version in [1, 7] {
        let refused = world.keys().update(&foreign, version, &config).await;
        let never_made = world.keys().update(&key_id("never made"), version, &config).await;
        are_told_the_same((refused.map(drop), &foreign), never_made.map(drop));
    }
}

/// Deleting; the key lives on.
pub async fn a_foreign_key_is_not_there_to_delete(store: impl StoreUnderTest) {
    let (world, foreign) = with_foreign_key(&store).await;
    let refused = world.keys().delete(&foreign).await;
    let never_made = world.keys().delete(&key_id("never made")).await;
    are_told_the_same((refused, &foreign), never_made);
    assert!(world.engine.usage(&foreign).await.expect("the store answers").is_some());
}

/// Reading usage.
pub async fn a_foreign_key_has_no_usage_to_read(store: impl StoreUnderTest) {
    let (world, foreign) = with_foreign_key(&store).await;
    let refused = world.keys().usage(&foreign).await;
    let never_made = world.keys().usage(&key_id("never made")).await;
    are_told_the_same((refused.map(drop), &foreign), never_made.map(drop));
}

/// Looking up an access key: even who holds the secret does not learn the id that it belongs to.
pub async fn a_foreign_access_key_is_not_there_to_look_up(store: impl StoreUnderTest) {
    let (world, foreign) = with_foreign_key(&store).await;
    let (held, made_up) = (access_key(FOREIGN_SECRET), access_key("nobody-has-this-key"));
    let refused = world.keys().get_by_access_key(&held).await.expect_err("the key is foreign");
    let never_made =
        world.keys().get_by_access_key(&made_up).await.expect_err("there is no such key");
    assert_refused!(Err::<(), _>(&refused), KeysError::NotFound(_));
    assert_eq!(wording(&refused, &held.to_string()), wording(&never_made, &made_up.to_string()));
    assert!(!refused.to_string().contains(foreign.as_str()), "{refused}");
}

/// A deleted key is told of like one that never existed.
pub async fn a_deleted_key_is_told_of_like_one_that_never_existed(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    world.keys().delete(&key).await.expect("an admin deletes");
    let refused = world.keys().get(&key).await;
    let never_made = world.keys().get(&key_id("never made")).await;
    are_told_the_same((refused.map(drop), &key), never_made.map(drop));
}

/// Searching finds keys of the own workspace only.
pub async fn a_search_finds_no_foreign_keys(store: impl StoreUnderTest) {
    let (world, _) = with_foreign_key(&store).await;
    let page = world.keys().search(&Search::all().name_contains("foreign")).await;
    assert!(page.expect("an admin searches").keys.is_empty());
}

/// The admins of other workspaces are as foreign as members.
pub async fn the_admin_of_another_workspace_is_foreign(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let stranger = world.admin_of("elsewhere").await;
    assert_refused!(world.keys().get(&stranger).await, KeysError::NotFound(_));
    let strangers_view = world.engine.keys_as(&stranger);
    assert_refused!(strangers_view.get(&world.admin).await, KeysError::NotFound(_));
    assert_refused!(strangers_view.delete(&world.admin).await, KeysError::NotFound(_));
}

/// What is used in one workspace is used in no other, whatever the names.
pub async fn workspaces_share_no_counts(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let stranger = world.admin_of("elsewhere").await;
    let config = named("ci").with_global(requests_per_day(1));
    let ours = world.member(config.clone()).await;
    let theirs = world.engine.keys_as(&stranger).create(NewKey::member(config)).await;
    let theirs = theirs.expect("an admin creates").record.id;
    world.admit(&ours, None, 1).await;
    world.admit(&theirs, None, 1).await;
}

/// Ids that look like parts of others are still whole ids.
pub async fn workspaces_whose_ids_begin_alike_are_apart(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for id in ["home:", "home/1", "hom", "{home}", "HOME", "home "] {
        let stranger = world.admin_of(id).await;
        let keys = world.engine.keys_as(&stranger).search(&Search::all()).await;
        let keys = keys.expect("an admin searches").keys;
        assert_eq!(keys.len(), 1, "{id:?}");
        assert_eq!(keys[0].workspace, workspace(id));
    }
}

async fn with_foreign_key<T: StoreUnderTest>(store: &T) -> (World<T::Store>, KeyId) {
    let world = World::at_noon(store).await;
    let stranger = world.admin_of("elsewhere").await;
    let foreign = NewKey::member(named("foreign")).with_access_key(access_key(FOREIGN_SECRET));
    let foreign = world.engine.keys_as(&stranger).create(foreign).await;
    (world, foreign.expect("an admin creates").record.id)
}

/// Both are refused in the same words, but for the id that was asked for.
fn are_told_the_same(
    (foreign, id): (Result<(), KeysError>, &KeyId),
    never_made: Result<(), KeysError>,
) {
    let foreign = foreign.expect_err("the key is foreign");
    let never_made = never_made.expect_err("there is no such key");
    assert_refused!(Err::<(), _>(&foreign), KeysError::NotFound(_));
    assert_refused!(Err::<(), _>(&never_made), KeysError::NotFound(_));
    assert_eq!(wording(&foreign, id.as_str()), wording(&never_made, "never made"));
}

const FOREIGN_SECRET: &str = "held-by-somebody-else";
