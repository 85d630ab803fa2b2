//! Access keys: made or brought, resolved while their key lives, and told apart by their ends.

use std::sync::Mutex;

use crate::engine::Engine;
use limiter_core::{AccessKey, BoxError, KeysError, ManualClock, NewKey, Store};

use super::StoreUnderTest;
use super::world::{NOON, World, access_key, assert_refused, key_id, named, workspace};

/// The secret that was shown once is the one that resolves.
pub async fn a_generated_access_key_resolves_to_its_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::member(named("ci"))).await;
    let secret = created.access_key.expect("an access key was made");
    assert_eq!(world.engine.authenticate(&secret).await.ok().flatten(), Some(created.record.id));
    assert_eq!(created.record.access_key, Some(secret.masked()));
}

/// Two keys never get the same secret or id.
pub async fn generated_ids_and_access_keys_are_distinct(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let (mut ids, mut secrets) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let created = world.create(NewKey::member(named(&format!("key {number}")))).await;
        ids.push(created.record.id.to_string());
        secrets.push(created.access_key.expect("an access key was made").expose().to_owned());
    }
    for made in [&mut ids, &mut secrets] {
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 200);
    }
}

/// What is like it in all but one character belongs to nobody.
pub async fn an_access_key_resolves_only_as_a_whole(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    create_with(&world, "ci", "abcd-first-half-second-half-wxyz").await.expect("a free access key");
    for other in [
        "abcd-first-half-second-half-wxy",
        "abcd-first-half-second-half-wxyzz",
        "abcd-first-half-Second-half-wxyz",
        "abcd-another-middle-part-wxyz",
    ] {
        let resolved = world.engine.authenticate(&access_key(other)).await;
        assert_eq!(resolved.expect("the store answers"), None, "{other}");
    }
}

/// A caller may bring its own secret, and is handed the same back.
pub async fn a_brought_access_key_is_taken_as_it_is(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let brought = access_key("brought-by-its-caller");
    let created = world.create(NewKey::member(named("ci")).with_access_key(brought.clone())).await;
    assert_eq!(created.access_key.as_ref().map(AccessKey::expose), Some(brought.expose()));
    assert_eq!(world.engine.authenticate(&brought).await.ok().flatten(), Some(created.record.id));
}

/// Services that authenticate their callers themselves need no secrets.
pub async fn a_key_may_have_no_access_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::member(named("ci")).without_access_key()).await;
    assert!(created.access_key.is_none());
    assert_eq!(created.record.access_key, None);
    world.admit(&created.record.id, None, 1).await;
}

/// People tell keys apart by the first and last four characters.
pub async fn a_brought_access_key_with_the_ends_of_another_is_refused(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    create_with(&world, "ci", "abcd-the-first-one-wxyz").await.expect("a free access key");
    let alike = create_with(&world, "other", "abcd-the-second-one-wxyz").await;
    assert_refused!(alike, KeysError::AccessKeyTaken);
    for ends in ["abcd-the-third-one-wxyy", "abce-the-fourth-one-wxyz"] {
        create_with(&world, ends, ends).await.expect("both ends together must differ");
    }
}

/// Only within a workspace: people of another one do not see these keys.
pub async fn another_workspace_may_use_the_same_ends(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    create_with(&world, "ci", "abcd-the-first-one-wxyz").await.expect("a free access key");
    let stranger = world.admin_of("elsewhere").await;
    let alike = NewKey::member(named("ci")).with_access_key(access_key("abcd-the-second-one-wxyz"));
    assert!(world.engine.keys_as(&stranger).create(alike).await.is_ok());
}

/// A whole secret belongs to one key of all workspaces, or it would resolve to two.
pub async fn another_workspace_cannot_bring_the_same_access_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let secret = "abcd-the-first-one-wxyz";
    let ours = create_with(&world, "ci", secret).await.expect("a free access key");
    let stranger = world.admin_of("elsewhere").await;
    let same = NewKey::member(named("ci")).with_access_key(access_key(secret));
    let refused = world.engine.keys_as(&stranger).create(same).await;
    assert_refused!(refused, KeysError::AccessKeyTaken);
    let resolved = world.engine.authenticate(&access_key(secret)).await;
    assert_eq!(resolved.expect("the store answers"), Some(ours));
}

/// Deletion sets the ends free for other keys.
pub async fn the_ends_of_a_deleted_key_are_free_again(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key =
        create_with(&world, "ci", "abcd-the-first-one-wxyz").await.expect("a free access key");
    world.keys().delete(&key).await.expect("an admin deletes");
    create_with(&world, "ci", "abcd-the-second-one-wxyz").await.expect("the ends are free");
}

/// An expired key is still found by its secret: its calls say why they are denied.
pub async fn an_expired_key_is_still_resolved(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::member(named("ci").with_expiry(NOON))).await;
    let secret = created.access_key.expect("an access key was made");
    assert_eq!(world.engine.authenticate(&secret).await.ok().flatten(), Some(created.record.id));
}

/// The random source repeats itself once: the second key would have the ends of the first, and is made again.
pub async fn a_generated_key_that_collides_is_made_again(store: impl StoreUnderTest) {
    let store = store.fresh(ManualClock::at(NOON)).await;
    // Each key draws once for its secret and once for its id: the third secret repeats the second.
    let engine = scripted(store, vec![1, 2, 3, 4, 3, 5, 6, 7]);
    let admin = engine.bootstrap(workspace("home"), NewKey::admin(named("admin"))).await;
    let admin = admin.expect("the first secret is free").record.id;
    let keys = engine.keys_as(&admin);
    let first = keys.create(NewKey::member(named("first"))).await.expect("the second is free");
    let second = keys.create(NewKey::member(named("second"))).await.expect("the fourth is free");
    assert_ne!(first.record.access_key, second.record.access_key);
    let [first, second] = [first, second]
        .map(|created| created.access_key.expect("an access key was made").expose().chars().next());
    assert_eq!((first, second), (Some('3'), Some('6')), "the fifth draw was thrown away");
}

/// A random source that only ever repeats itself is an error, not an endless loop.
pub async fn a_random_source_that_repeats_itself_is_given_up(store: impl StoreUnderTest) {
    let store = store.fresh(ManualClock::at(NOON)).await;
    let engine = scripted(store, vec![1]);
    let admin = NewKey::admin(named("admin")).with_id(key_id("admin"));
    engine.bootstrap(workspace("home"), admin).await.expect("the first secret is free");
    let admin = key_id("admin");
    let key = NewKey::member(named("ci")).with_id(key_id("ci"));
    assert_refused!(engine.keys_as(&admin).create(key).await, KeysError::AccessKeyTaken);
}

/// Without random bytes there is no key, and nothing was created.
pub async fn without_random_bytes_there_is_no_key(store: impl StoreUnderTest) {
    let store = store.fresh(ManualClock::at(NOON)).await;
    let engine = Engine::new(store, |_| Err("the source is dry".into()));
    let dry = engine.bootstrap(workspace("home"), NewKey::admin(named("admin"))).await;
    assert_refused!(dry, KeysError::Entropy(source) if source.to_string() == "the source is dry");
    let brings_all = NewKey::admin(named("admin")).with_id(key_id("chosen")).without_access_key();
    assert!(
        engine.bootstrap(workspace("home"), brings_all).await.is_ok(),
        "no randomness is needed"
    );
}

async fn create_with<S: Store>(
    world: &World<S>,
    name: &str,
    secret: &str,
) -> Result<limiter_core::KeyId, KeysError> {
    let key = NewKey::member(named(name)).with_access_key(access_key(secret));
    world.keys().create(key).await.map(|created| created.record.id)
}

/// An engine whose random source fills each buffer with the next byte of the script, and then with the last for ever.
fn scripted<S: Store>(store: S, script: Vec<u8>) -> Engine<S> {
    let script = Mutex::new(script);
    Engine::new(store, move |bytes| {
        let mut script = script.lock().map_err(|_| BoxError::from("a test panicked"))?;
        bytes.fill(if script.len() > 1 { script.remove(0) } else { script[0] });
        Ok(())
    })
}
