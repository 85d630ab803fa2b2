//! Access keys: drawn or brought, resolved as long as their key lives, and distinct by their ends.

use std::sync::Mutex;

use std::sync::Arc;

use limiter_core::{AccessKey, BoxError, KeyId, KeysError, NewKey, Store};

use super::prelude::*;
use crate::Managed;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_generated_access_key_resolves_to_its_key", |world| {
        let created = world.create(NewKey::member(named("ci")));
        let secret = created.access_key.expect("an access key was made");
        assert_eq!(resolved(world, &secret), Some(created.record.id));
        assert_eq!(created.record.access_key, Some(secret.masked()));
    });

    suite.story("generated_ids_and_access_keys_are_distinct", |world| {
        let (mut ids, mut secrets) = (Vec::new(), Vec::new());
        for number in 0..200 {
            let created = world.create(NewKey::member(named(&format!("key {number}"))));
            ids.push(created.record.id.to_string());
            secrets.push(created.access_key.expect("an access key was made").expose().to_owned());
        }
        for made in [&mut ids, &mut secrets] {
            made.sort();
            made.dedup();
            assert_eq!(made.len(), 200);
        }
    });

    suite.story("an_access_key_resolves_only_as_a_whole", |world| {
        create_with(world, "ci", "abcd-first-half-second-half-wxyz").expect("a free access key");
        for other in [
            "abcd-first-half-second-half-wxy",
            "abcd-first-half-second-half-wxyzz",
            "abcd-first-half-Second-half-wxyz",
            "abcd-another-middle-part-wxyz",
        ] {
            assert_eq!(resolved(world, &access_key(other)), None, "{other}");
        }
    });

    suite.story("a_brought_access_key_is_taken_as_it_is", |world| {
        let brought = access_key("brought-by-its-caller");
        let created = world.create(NewKey::member(named("ci")).with_access_key(brought.clone()));
        assert_eq!(created.access_key.as_ref().map(AccessKey::expose), Some(brought.expose()));
        assert_eq!(resolved(world, &brought), Some(created.record.id));
    });

    // Services that authenticate their callers themselves need none.
    suite.story("a_key_may_have_no_access_key", |world| {
        let created = world.create(NewKey::member(named("ci")).without_access_key());
        assert!(created.access_key.is_none());
        assert_eq!(created.record.access_key, None);
        world.key(created.record.id).admit(None, 1);
    });

    // People distinguish keys by the first and last four characters.
    suite.story("a_brought_access_key_with_the_ends_of_another_is_refused", |world| {
        create_with(world, "ci", "abcd-the-first-one-wxyz").expect("a free access key");
        let alike = create_with(world, "other", "abcd-the-second-one-wxyz");
        assert_refused!(alike, KeysError::AccessKeyTaken);
        for ends in ["abcd-the-third-one-wxyy", "abce-the-fourth-one-wxyz"] {
            create_with(world, ends, ends).expect("both ends together must differ");
        }
    });

    suite.story("another_workspace_may_use_the_same_ends", |world| {
        create_with(world, "ci", "abcd-the-first-one-wxyz").expect("a free access key");
        let alike = access_key("abcd-the-second-one-wxyz");
        let alike = NewKey::member(named("ci")).with_access_key(alike);
        assert!(world.admin_of("elsewhere").keys().create(alike).wait().is_ok());
    });

    // Otherwise it would resolve to two keys.
    suite.story("another_workspace_cannot_bring_the_same_access_key", |world| {
        let secret = "abcd-the-first-one-wxyz";
        let ours = create_with(world, "ci", secret).expect("a free access key");
        let same = NewKey::member(named("ci")).with_access_key(access_key(secret));
        let refused = world.admin_of("elsewhere").keys().create(same).wait();
        assert_refused!(refused, KeysError::AccessKeyTaken);
        assert_eq!(resolved(world, &access_key(secret)), Some(ours));
    });

    suite.story("the_ends_of_a_deleted_key_are_free_again", |world| {
        let key = create_with(world, "ci", "abcd-the-first-one-wxyz").expect("a free access key");
        world.key(key).delete();
        create_with(world, "ci", "abcd-the-second-one-wxyz").expect("the ends are free");
    });

    // Its calls say why they are denied.
    suite.story("an_expired_key_is_still_resolved", |world| {
        let created = world.create(NewKey::member(named("ci").with_expiry(NOON)));
        let secret = created.access_key.expect("an access key was made");
        assert_eq!(resolved(world, &secret), Some(created.record.id));
    });

    suite.story("a_generated_key_that_collides_is_made_again", |world| {
        // Each key draws once for its secret and once for its id: the third secret repeats the second.
        let store = scripted(world.empty_store(), vec![1, 2, 3, 4, 3, 5, 6, 7]);
        let admin = store.bootstrap(workspace("home"), NewKey::admin(named("admin"))).wait();
        let admin = admin.expect("the first secret is free").record.id;
        let keys = store.keys_as(&admin);
        let created = ["first", "second"].map(|name| keys.create(NewKey::member(named(name))));
        let [first, second] = created.map(|key| key.wait().expect("it is drawn again"));
        assert_ne!(first.record.access_key, second.record.access_key);
        let first_characters = [first, second].map(|created| {
            created.access_key.expect("an access key was made").expose().chars().next()
        });
        assert_eq!(first_characters, [Some('3'), Some('6')], "the fifth draw was thrown away");
    });

    // It is an error, not an endless loop.
    suite.story("a_random_source_that_repeats_itself_is_given_up", |world| {
        let store = scripted(world.empty_store(), vec![1]);
        let admin = NewKey::admin(named("admin")).with_id(key_id("admin"));
        store.bootstrap(workspace("home"), admin).wait().expect("the first secret is free");
        let admin = key_id("admin");
        let key = NewKey::member(named("ci")).with_id(key_id("ci"));
        assert_refused!(store.keys_as(&admin).create(key).wait(), KeysError::AccessKeyTaken);
    });

    suite.story("without_random_bytes_there_is_no_key", |world| {
        let store = Managed::new(world.empty_store(), |_| Err("the source is dry".into()));
        let admin = NewKey::admin(named("admin"));
        let dry = store.bootstrap(workspace("home"), admin.clone()).wait();
        assert_refused!(dry, KeysError::Entropy(source) if source.to_string() == "the source is dry");
        let brings_all = admin.with_id(key_id("chosen")).without_access_key();
        let created = store.bootstrap(workspace("home"), brings_all).wait();
        assert!(created.is_ok(), "no randomness is needed, and nothing was created before");
    });
}

fn create_with(world: &World, name: &str, secret: &str) -> Result<KeyId, KeysError> {
    let key = NewKey::member(named(name)).with_access_key(access_key(secret));
    world.try_create(key).map(|created| created.record.id)
}

fn resolved(world: &World, secret: &AccessKey) -> Option<KeyId> {
    world.store.authenticate(secret).wait().expect("the store answers")
}

/// A store whose random source fills each buffer with the next byte of the script, and then with the last for ever.
pub(super) fn scripted(store: Arc<dyn Store>, script: Vec<u8>) -> Managed {
    let script = Mutex::new(script);
    Managed::new(store, move |bytes| {
        let mut script = script.lock().map_err(|_| BoxError::from("a test panicked"))?;
        bytes.fill(if script.len() > 1 { script.remove(0) } else { script[0] });
        Ok(())
    })
}
