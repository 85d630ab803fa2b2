//! A key of another workspace does not exist in any answer: the error has the words of one for an id that never existed.

use limiter_core::{KeyId, KeysError, NewKey, Search};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_foreign_key_is_not_there_to_read", |world| {
        is_not_there(&foreign_key(world), |id| world.keys().get(id).wait().map(drop));
    });

    // Also when the version is that of the foreign key.
    suite.story("a_foreign_key_is_not_there_to_update", |world| {
        let (foreign, config) = (foreign_key(world), named("mine"));
        for version in [1, 7] {
            let update = |id: &KeyId| world.keys().update(id, version, &config).wait().map(drop);
            is_not_there(&foreign, update);
        }
    });

    // The key lives on.
    suite.story("a_foreign_key_is_not_there_to_delete", |world| {
        let foreign = foreign_key(world);
        is_not_there(&foreign, |id| world.keys().delete(id).wait());
        assert!(world.store.usage(&foreign.id).wait().expect("the store answers").is_some());
    });

    suite.story("a_foreign_key_has_no_usage_to_read", |world| {
        is_not_there(&foreign_key(world), |id| world.keys().usage(id).wait().map(drop));
    });

    // Even a caller that has the secret does not learn the id that it belongs to.
    suite.story("a_foreign_access_key_is_not_there_to_look_up", |world| {
        let foreign = foreign_key(world);
        let [refused, never_made] = [FOREIGN_SECRET, "nobody-has-this-key"].map(|secret| {
            let secret = access_key(secret);
            let error = world.keys().get_by_access_key(&secret).wait().expect_err("no such key");
            assert!(matches!(error, KeysError::NotFound(_)), "{error:?}");
            wording(&error, &secret.to_string())
        });
        assert_eq!(refused, never_made);
        assert!(!refused.contains(foreign.id.as_str()), "{refused}");
    });

    suite.story("a_deleted_key_is_not_found_like_one_that_never_existed", |world| {
        let key = world.member(named("ci"));
        is_not_there(key.delete(), |id| world.keys().get(id).wait().map(drop));
    });

    suite.story("a_search_finds_no_foreign_keys", |world| {
        foreign_key(world);
        assert!(world.search(&Search::all().name_contains("foreign")).keys.is_empty());
    });

    // As foreign as members.
    suite.story("the_admin_of_another_workspace_is_foreign", |world| {
        let stranger = world.admin_of("elsewhere");
        assert_refused!(world.keys().get(&stranger.id).wait(), KeysError::NotFound(_));
        assert_refused!(stranger.keys().get(&world.admin).wait(), KeysError::NotFound(_));
        assert_refused!(stranger.keys().delete(&world.admin).wait(), KeysError::NotFound(_));
    });

    // Whatever the names.
    suite.story("workspaces_share_no_counts", |world| {
        let config = named("ci").with_global(requests_per_day(1));
        let ours = world.member(config.clone());
        let theirs = world.admin_of("elsewhere").keys().create(NewKey::member(config)).wait();
        let theirs = world.key(theirs.expect("an admin creates").record.id);
        ours.admit(None, 1);
        theirs.admit(None, 1);
    });

    // Ids that look like parts of others are still whole ids.
    suite.story("workspaces_whose_ids_begin_alike_are_apart", |world| {
        for id in ["home:", "home/1", "hom", "{home}", "HOME", "home "] {
            let keys = world.admin_of(id).keys().search(&Search::all()).wait();
            let keys = keys.expect("an admin searches").keys;
            assert_eq!(keys.len(), 1, "{id:?}");
            assert_eq!(keys[0].workspace, workspace(id));
        }
    });
}

/// A key of another workspace.
fn foreign_key(world: &World) -> Key<'_> {
    let foreign = NewKey::member(named("foreign")).with_access_key(access_key(FOREIGN_SECRET));
    let foreign = world.admin_of("elsewhere").keys().create(foreign).wait();
    world.key(foreign.expect("an admin creates").record.id)
}

/// Asserts that what is asked of a key is refused in the same words as for an id that never existed.
fn is_not_there(key: &Key<'_>, ask: impl Fn(&KeyId) -> Result<(), KeysError>) {
    let [refused, never_made] = [&key.id, &key_id("never made")].map(|id| {
        let error = ask(id).expect_err("there is no such key here");
        assert!(matches!(error, KeysError::NotFound(_)), "{error:?}");
        wording(&error, id.as_str())
    });
    assert_eq!(refused, never_made);
}

/// The sentence of an error, without the id that was asked for.
fn wording(error: &KeysError, asked_for: &str) -> String {
    error.to_string().replace(asked_for, "…")
}

const FOREIGN_SECRET: &str = "held-by-somebody-else";
