//! The owner of a workspace manages its keys without a key of its own.

use limiter_core::{Effective, KeysError, NewKey, Rotation, Search, Upserted};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // In an empty store: no admin key is needed first.
    suite.story("an_owner_does_what_an_admin_may", |world| {
        let store = managed(world.empty_store());
        let keys = store.workspace(workspace("home"));
        let group = NewKey::group(key_id("acme"), named("acme"));
        for created in keys.create_many(vec![group, member("ci")]).wait().expect("it may") {
            created.expect("nothing is in the way");
        }
        let found = keys.search(&Search::all()).wait().expect("it may");
        let [acme, ci] = &found.keys[..] else { panic!("{found:?}") };
        assert_eq!(
            (acme.workspace.clone(), ci.workspace.clone()),
            (workspace("home"), workspace("home"))
        );
        let config = named("ci").with_global(requests_per_day(1));
        let upserted = keys.upsert(NewKey::member(config.clone()), Effective::Now).wait();
        assert!(matches!(upserted, Ok(Upserted::Updated(_))), "{upserted:?}");
        assert_eq!(keys.get(&ci.id).wait().expect("it may").config, config);
        keys.update(&ci.id, 2, &named("renamed")).wait().expect("it may");
        keys.reset(&ci.id).wait().expect("it may");
        keys.rotate(&ci.id, &Rotation::at_once()).wait().expect("it may");
        keys.usage(&ci.id).wait().expect("it may");
        keys.history(&ci.id, 7).wait().expect("it may");
        for id in [&ci.id, &acme.id] {
            keys.delete(id).wait().expect("it may");
        }
    });

    suite.story("an_owner_sees_its_own_workspace_alone", |world| {
        let ci = world.member(named("ci"));
        let keys = world.store.workspace(workspace("elsewhere"));
        assert!(keys.search(&Search::all()).wait().expect("it may").keys.is_empty());
        assert_refused!(keys.get(&ci.id).wait(), KeysError::NotFound(_));
        assert_refused!(keys.delete(&ci.id).wait(), KeysError::NotFound(_));
        assert_refused!(keys.usage(&ci.id).wait(), KeysError::NotFound(_));
        let beneath = member("key").with_id(key_id("acme/key"));
        world.group(named("acme"));
        assert_refused!(keys.create(beneath).wait(), KeysError::NoGroup(_));
    });

    suite.story("an_owner_has_no_usage_of_its_own", |world| {
        let usage = world.store.workspace(workspace("home")).own_usage().wait();
        assert_refused!(usage, KeysError::OwnerIsNoKey);
    });

    // Else an admin could lock all others out by a mistake of the service.
    suite.story("an_owner_leaves_the_last_admin", |world| {
        let keys = world.store.workspace(workspace("home"));
        assert_refused!(keys.delete(&world.admin).wait(), KeysError::LastAdmin);
    });

    // The caller repeats the access key that it brought; or, for a key without one, the id that it chose.
    suite.story("a_bootstrap_may_be_repeated", |world| {
        let admin = NewKey::admin(named("admin"));
        let secret = access_key("the-admin-access-key");
        for new in [
            admin.clone().with_access_key(secret.clone()),
            admin.with_id(key_id("chosen")).without_access_key(),
        ] {
            let store = managed(world.empty_store());
            let start = || store.bootstrap(workspace("home"), new.clone()).wait();
            let first = start().expect("an empty workspace gets its first admin key");
            let again = start().expect("it is there already");
            assert_eq!(again.record, first.record);
            let shown = [first.access_key, again.access_key].map(|it| it.map(|it| it.to_string()));
            assert_eq!(shown[0], shown[1]);
            // Elsewhere it is not there, and its id and its access key are taken.
            let elsewhere = store.bootstrap(workspace("elsewhere"), new.clone()).wait();
            assert_refused!(elsewhere, KeysError::IdTaken(_) | KeysError::AccessKeyTaken);
        }
    });

    // The key of that access key may have become another's.
    suite.story("a_bootstrap_is_repeated_by_the_admin_alone", |world| {
        let brought = || access_key("the-access-key-of-a-member");
        world.create(member("ci").with_access_key(brought()));
        let again = NewKey::admin(named("admin")).with_access_key(brought());
        let again = world.store.bootstrap(workspace("home"), again).wait();
        assert_refused!(again, KeysError::AlreadyBootstrapped);
    });
}
