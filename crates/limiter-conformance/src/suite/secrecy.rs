//! The access key is shown once, to whoever created it, and nowhere else.

use std::fmt::Debug;

use limiter_core::{KeyRecord, NewKey, Search};

use super::StoreUnderTest;
use super::world::{World, access_key, named};

/// What creating answers has the secret, and prints its ends only.
pub async fn a_created_key_prints_masked(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::member(named("ci"))).await;
    let secret = created.access_key.clone().expect("an access key was made");
    hides(&created, secret.expose());
    hides(&secret, secret.expose());
    assert!(!secret.to_string().contains(&secret.expose()[4..]), "{secret}");
    assert_eq!(
        secret.to_string(),
        format!("{}****{}", &secret.expose()[..4], &secret.expose()[32..])
    );
}

/// Whoever logs what is about to be created logs no secret.
pub async fn a_new_key_prints_masked(store: impl StoreUnderTest) {
    let new = NewKey::admin(named("ci")).with_access_key(access_key(SECRET));
    hides(&new, SECRET);
    let world = World::at_noon(&store).await;
    hides(&world.create(new).await, SECRET);
}

/// Records, in every form, have the ends only.
pub async fn a_record_holds_no_access_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let new = NewKey::member(named("ci")).with_access_key(access_key(SECRET));
    let key = world.create(new).await.record.id;
    let by_secret = world.keys().get_by_access_key(&access_key(SECRET)).await;
    let listed = world.keys().search(&Search::all()).await.expect("an admin searches").keys;
    let records = listed.into_iter().chain([world.record(&key).await]).chain(by_secret);
    for record in records {
        hides(&record, SECRET);
        let json = serde_json::to_string(&record).expect("a record is JSON");
        hides(&json, SECRET);
        let again: KeyRecord = serde_json::from_str(&json).expect("what was written is read");
        assert_eq!(again, record);
    }
}

/// A view of the keys, held by access key, prints masked.
pub async fn a_view_of_the_keys_prints_masked(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let secret = access_key(SECRET);
    world.create(NewKey::admin(named("admin")).with_access_key(secret.clone())).await;
    hides(&world.engine.keys(&secret), SECRET);
}

/// Engine, store and handles hold no secret that they could print.
pub async fn engine_and_store_print_no_access_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let new = NewKey::member(named("ci")).with_access_key(access_key(SECRET));
    let key = world.create(new).await.record.id;
    let handle = world.engine.handle(&key, None).await.expect("the store answers");
    hides(&world.engine, SECRET);
    hides(world.engine.store(), SECRET);
    hides(&handle, SECRET);
}

/// Errors name an access key by its ends.
pub async fn errors_name_an_access_key_by_its_ends(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let unknown =
        world.keys().get_by_access_key(&access_key(SECRET)).await.expect_err("no such key");
    hides(&unknown, SECRET);
    assert!(unknown.to_string().contains("top-****-key"), "{unknown}");
    world.create(NewKey::member(named("ci")).with_access_key(access_key(SECRET))).await;
    let again = NewKey::member(named("other")).with_access_key(access_key(SECRET));
    hides(&world.keys().create(again).await.expect_err("it is taken"), SECRET);
}

/// Prints nothing of a secret but its ends.
fn hides(value: &impl Debug, secret: &str) {
    let middle = &secret[4..secret.len() - 4];
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!shown.contains(middle), "{shown}");
    }
}

const SECRET: &str = "top-secret-access-key";
