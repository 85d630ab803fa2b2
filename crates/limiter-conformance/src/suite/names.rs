//! A name belongs to one living key of its workspace.

use limiter_core::{KeysError, NewKey};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    let another_ci = || NewKey::member(named("ci"));

    suite.story("a_name_is_not_given_twice", move |world| {
        world.member(named("ci"));
        let again = world.try_create(another_ci());
        assert_refused!(again, KeysError::NameTaken(name) if name == "ci");
    });

    // Nothing is written.
    suite.story("a_key_is_not_renamed_to_a_taken_name", |world| {
        let (_, other) = (world.member(named("ci")), world.member(named("other")));
        let before = other.read();
        let renamed = other.try_update(|config| config.name = named("ci").name);
        assert_refused!(renamed, KeysError::NameTaken(_));
        assert_eq!(other.read(), before);
    });

    // They are compared byte by byte.
    suite.story("names_that_look_alike_are_different", |world| {
        for name in ["ci", "CI", "ci ", "cí", "ci\u{301}", "ci\u{200d}"] {
            world.member(named(name));
        }
    });

    suite.story("a_name_is_free_again_after_deletion", |world| {
        let first = world.member(named("ci"));
        first.delete();
        assert_ne!(world.member(named("ci")).id, first.id);
    });

    suite.story("a_name_is_free_again_after_renaming", |world| {
        world.member(named("old")).update(|config| config.name = named("new").name);
        world.member(named("old"));
        let taken = world.try_create(NewKey::member(named("new")));
        assert_refused!(taken, KeysError::NameTaken(_));
    });

    suite.story("an_expired_key_keeps_its_name", move |world| {
        world.member(named("ci").with_expiry(NOON));
        assert_refused!(world.try_create(another_ci()), KeysError::NameTaken(_));
    });

    suite.story("another_workspace_may_use_the_same_name", move |world| {
        world.member(named("ci"));
        assert!(world.admin_of("elsewhere").keys().create(another_ci()).wait().is_ok());
    });

    suite.story("an_admin_and_a_member_cannot_share_a_name", |world| {
        let member = NewKey::member(named("first admin"));
        assert_refused!(world.try_create(member), KeysError::NameTaken(_));
    });
}
