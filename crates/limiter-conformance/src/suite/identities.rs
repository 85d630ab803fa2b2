//! Key ids: made by the engine, or chosen by the caller.

use limiter_core::{KeysError, NewKey};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_caller_may_choose_the_id", |world| {
        let created = world.create(NewKey::member(named("ci")).with_id(key_id("team-a/ci")));
        assert_eq!(created.record.id, key_id("team-a/ci"));
        world.key(key_id("team-a/ci")).admit(None, 1);
    });

    // The first key stays as it is.
    suite.story("a_chosen_id_is_not_given_twice", |world| {
        let first = NewKey::member(named("ci").with_global(requests_per_day(1)));
        let first = world.create(first.with_id(key_id("chosen"))).record;
        let again = world.try_create(NewKey::admin(named("other")).with_id(key_id("chosen")));
        assert_refused!(again, KeysError::IdTaken(id) if id == "chosen");
        assert_eq!(world.key(first.id.clone()).read(), first);
    });

    // Calls name no workspace.
    suite.story("a_chosen_id_is_taken_for_every_workspace", |world| {
        let of_this_id = || NewKey::member(named("ci")).with_id(key_id("chosen"));
        world.create(of_this_id());
        let refused = world.admin_of("elsewhere").keys().create(of_this_id()).wait();
        assert_refused!(refused, KeysError::IdTaken(_));
    });

    // Then the name, then the access key.
    suite.story("of_several_reasons_the_id_comes_first", |world| {
        let new = |name| {
            NewKey::member(named(name)).with_access_key(access_key("abcd-the-first-one-wxyz"))
        };
        let first = new("ci").with_id(key_id("chosen"));
        world.create(first.clone());
        assert_refused!(world.try_create(first), KeysError::IdTaken(_));
        assert_refused!(world.try_create(new("ci")), KeysError::NameTaken(_));
        assert_refused!(world.try_create(new("other")), KeysError::AccessKeyTaken);
    });

    // Any text of 1 to 128 bytes, and each is a key of its own.
    suite.story("odd_ids_are_ids", |world| {
        let longest = "i".repeat(128);
        let odd = ["a", "a:b", "a/b", "{a}", "*", "a b", "é", "🦀", " ", &longest];
        for id in odd {
            let config = named(&format!("named {id}")).with_global(requests_per_day(1));
            world.create(NewKey::member(config).with_id(key_id(id)).without_access_key());
        }
        for id in odd {
            assert_eq!(world.key(key_id(id)).admit(None, 1).read().id, key_id(id));
        }
    });
}
