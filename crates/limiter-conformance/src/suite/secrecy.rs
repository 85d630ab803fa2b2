//! The access key is shown once, to its creator, and nowhere else.

use std::fmt::Debug;

use limiter_core::{KeyRecord, Search};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    let new = || member("ci").with_access_key(access_key(SECRET));

    // Its ends are printed, and no more.
    suite.story("a_new_key_prints_masked", move |world| {
        hides(&new(), SECRET);
        hides(&world.create(new()), SECRET);
        let created = world.create(member("other"));
        let secret = created.access_key.clone().expect("an access key was made");
        hides(&created, secret.expose());
        hides(&secret, secret.expose());
        assert!(!secret.to_string().contains(&secret.expose()[4..]), "{secret}");
        let ends = [&secret.expose()[..4], &secret.expose()[32..]];
        assert_eq!(secret.to_string(), ends.join("****"));
    });

    // In every form, written and read.
    suite.story("a_record_holds_no_access_key", move |world| {
        let (key, _) = world.with_access_key(new());
        let by_secret = world.keys().get_by_access_key(&access_key(SECRET)).wait();
        let listed = world.search(&Search::all()).keys;
        for record in listed.into_iter().chain([key.read()]).chain(by_secret) {
            hides(&record, SECRET);
            let json = serde_json::to_string(&record).expect("a record is JSON");
            hides(&json, SECRET);
            let again: KeyRecord = serde_json::from_str(&json).expect("what was written is read");
            assert_eq!(again, record);
        }
    });

    suite.story("engine_and_store_print_no_access_key", move |world| {
        world.create(new());
        hides(&world.store.keys(&access_key(SECRET)), SECRET);
        hides(&world.store, SECRET);
        hides(&world.store.store(), SECRET);
    });

    suite.story("errors_name_an_access_key_by_its_ends", move |world| {
        let unknown = world.keys().get_by_access_key(&access_key(SECRET)).wait();
        let unknown = unknown.expect_err("no such key");
        hides(&unknown, SECRET);
        assert!(unknown.to_string().contains("top-****-key"), "{unknown}");
        world.create(new());
        let again = member("other").with_access_key(access_key(SECRET));
        hides(&world.try_create(again).expect_err("it is taken"), SECRET);
    });
}

/// Asserts that a value prints nothing of a secret but its ends.
fn hides(value: &impl Debug, secret: &str) {
    let middle = &secret[4..secret.len() - 4];
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!shown.contains(middle), "{shown}");
    }
}

const SECRET: &str = "top-secret-access-key";
