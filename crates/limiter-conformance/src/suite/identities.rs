//! Ids, names and access keys: each identifies one living key.

use std::sync::Mutex;

use limiter_core::{BoxError, KeysError, NewKey};

use super::prelude::*;
use crate::Managed;

pub(super) fn stories(suite: &mut Suite) {
    // A name belongs to its workspace. Calls name no workspace: an id is unique, and an access key resolves to one key.
    type IsExpected = fn(&KeysError) -> bool;
    let is_taken: IsExpected = |error| matches!(error, KeysError::AccessKeyTaken);
    let of_secret = |name, secret| member(name).with_access_key(access_key(secret));
    let of_id = |name| member(name).with_id(key_id("chosen"));
    let [one, alike] = ["abcd-the-first-one-wxyz", "abcd-the-second-one-wxyz"];
    for (name, first, second, is_expected, is_unique) in [
        (
            "a_name_is_given_once",
            member("ci"),
            member("ci"),
            (|error| matches!(error, KeysError::NameTaken(name) if name == "ci")) as IsExpected,
            false,
        ),
        (
            "an_id_is_given_once",
            of_id("ci"),
            of_id("other"),
            |error| matches!(error, KeysError::IdTaken(id) if id == "chosen"),
            true,
        ),
        (
            "an_access_key_is_given_once",
            of_secret("ci", one),
            of_secret("other", one),
            is_taken,
            true,
        ),
    ] {
        suite.story(name, move |world| {
            let (key, secret) = world.with_access_key(first);
            let is_refused = |admin: &Key<'_>, before| {
                let error = admin.keys().create(second.clone()).wait().expect_err("it is taken");
                assert!(is_expected(&error), "{error:?}");
                assert_eq!((key.read(), world.resolved(&secret)), (before, Some(key.id.clone())));
            };
            let (admin, stranger) = (world.first_admin(), world.admin_of("elsewhere"));
            is_refused(&admin, key.read());
            is_refused(&admin, key.update(|config| config.expires_at = Some(NOON)));
            if is_unique {
                is_refused(&stranger, key.read());
            } else {
                let theirs = stranger.keys().create(second.clone()).wait();
                let theirs = theirs.expect("another workspace may use it").record.id;
                stranger.keys().delete(&theirs).wait().expect("an admin deletes keys");
            }
            key.delete();
            world.create(second.clone());
        });
    }

    // As those of providers do, which all begin with `sk-proj-`.
    suite.story("brought_access_keys_may_look_alike", move |world| {
        for (name, secret) in [("ci", one), ("other", alike)] {
            let (key, secret) = world.with_access_key(of_secret(name, secret));
            assert_eq!(world.resolved(&secret), Some(key.id.clone()));
        }
    });

    // Then the name, then the access key.
    suite.story("of_several_reasons_the_id_comes_first", move |world| {
        let first = of_secret("ci", one).with_id(key_id("chosen"));
        world.create(first.clone());
        assert_refused!(world.try_create(first), KeysError::IdTaken(_));
        assert_refused!(world.try_create(of_secret("ci", one)), KeysError::NameTaken(_));
        assert_refused!(world.try_create(of_secret("other", one)), KeysError::AccessKeyTaken);
    });

    // Any text of 1 to 64 bytes without a slash, and each is a key of its own.
    suite.story("odd_ids_are_ids", |world| {
        let longest = "i".repeat(64);
        let odd = ["a", "a:b", "a%2Fb", "{a}", "*", "a b", "é", "🦀", " ", &longest].map(key_id);
        for id in &odd {
            let config = named(&format!("named {id}")).with_global(requests_per_day(1));
            let key = NewKey::member(config).with_id(id.clone()).without_access_key();
            assert_eq!(world.create(key).record.id, *id);
        }
        for id in odd {
            assert_eq!(world.key(id.clone()).admit(None, 1).read().id, id);
        }
    });

    // Text of any script, of the greatest length, right to left, composed. Names are compared byte by byte.
    suite.story("odd_names_are_names", |world| {
        let longest = "n".repeat(256);
        let odd = ["🦀🦀", "👩‍👩‍👧‍👦", "مفتاح", "e\u{301}", " ", "a:b/c{d}", "\"'\\", &longest];
        let alike = ["ci", "CI", "ci ", "cí", "ci\u{301}", "ci\u{200d}"];
        for name in odd.into_iter().chain(alike) {
            assert_eq!(world.member(named(name)).read().config.name.as_str(), name);
        }
    });

    // Nothing is written. Admins and members do not share a name either.
    suite.story("a_key_is_not_renamed_to_a_taken_name", |world| {
        let (_, other) = (world.member(named("ci")), world.member(named("other")));
        let before = other.read();
        for taken in ["ci", "first admin"] {
            let renamed = other.try_update(|config| config.name = named(taken).name);
            assert_refused!(renamed, KeysError::NameTaken(_));
            assert_refused!(world.try_create(member(taken)), KeysError::NameTaken(_));
        }
        assert_eq!(other.read(), before);
    });

    suite.story("a_name_is_free_again_after_renaming", |world| {
        world.member(named("old")).update(|config| config.name = named("new").name);
        world.member(named("old"));
        assert_refused!(world.try_create(member("new")), KeysError::NameTaken(_));
    });

    suite.story("generated_ids_and_access_keys_are_distinct", |world| {
        let (mut ids, mut secrets) = (Vec::new(), Vec::new());
        for number in 0..200 {
            let (key, secret) = world.with_access_key(member(&format!("key {number}")));
            assert_eq!(world.resolved(&secret), Some(key.id.clone()));
            assert_eq!(key.read().access_key, Some(secret.masked()));
            ids.push(key.id.to_string());
            secrets.push(secret.expose().to_owned());
        }
        for made in [&mut ids, &mut secrets] {
            made.sort();
            made.dedup();
            assert_eq!(made.len(), 200);
        }
    });

    // Keys whose ends differ in one character are others.
    suite.story("an_access_key_resolves_only_as_a_whole", move |world| {
        world.create(of_secret("ci", "abcd-first-half-second-half-wxyz"));
        for other in [
            "abcd-first-half-second-half-wxy",
            "abcd-first-half-second-half-wxyzz",
            "abcd-first-half-Second-half-wxyz",
            "abcd-another-middle-part-wxyz",
        ] {
            assert_eq!(world.resolved(&access_key(other)), None, "{other}");
        }
        for ends in ["abcd-the-third-one-wxyy", "abce-the-fourth-one-wxyz"] {
            world.create(of_secret(ends, ends));
        }
    });

    // Services that authenticate their callers themselves need none.
    suite.story("an_access_key_may_be_brought_or_left_out", move |world| {
        let (_, brought) = world.with_access_key(of_secret("ci", one));
        assert_eq!(brought.expose(), one);
        let created = world.create(member("other").without_access_key());
        assert!(created.access_key.is_none());
        assert_eq!(created.record.access_key, None);
        world.key(created.record.id).admit(None, 1);
    });

    suite.story("a_generated_key_that_collides_is_made_again", |world| {
        // Each key draws once for its secret and once for its id: the second secret repeats the first.
        let store = scripted(world, vec![3, 4, 3, 5, 6, 7]);
        let created = ["first", "second"].map(|name| {
            let created = store.keys_as(&key_id("admin")).create(member(name)).wait();
            created.expect("it is drawn again").access_key.expect("an access key was made")
        });
        let first_characters = created.map(|secret| secret.expose().chars().next());
        assert_eq!(first_characters, [Some('3'), Some('6')], "the fourth draw was thrown away");
    });

    // It is an error, not an endless loop.
    suite.story("a_random_source_that_repeats_itself_is_given_up", |world| {
        let store = scripted(world, vec![1]);
        let create = |name| {
            store.keys_as(&key_id("admin")).create(member(name).with_id(key_id(name))).wait()
        };
        create("first").expect("the first secret is free");
        assert_refused!(create("second"), KeysError::AccessKeyTaken);
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

/// An empty store with the key `admin`, whose random source fills each buffer with the next byte of the script, and then
/// with the last for ever.
pub(super) fn scripted(world: &World, script: Vec<u8>) -> Managed {
    let script = Mutex::new(script);
    let store = Managed::new(world.empty_store(), move |bytes| {
        let mut script = script.lock().map_err(|_| BoxError::from("a test panicked"))?;
        bytes.fill(if script.len() > 1 { script.remove(0) } else { script[0] });
        Ok(())
    });
    let admin = NewKey::admin(named("admin")).with_id(key_id("admin")).without_access_key();
    store.bootstrap(workspace("home"), admin).wait().expect("an empty workspace gets an admin key");
    store
}
