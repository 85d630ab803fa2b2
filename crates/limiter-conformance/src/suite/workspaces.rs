//! Keys of other workspaces appear in no answer: the error equals the one for an id that never existed.

use std::fmt::Debug;

use limiter_core::{KeyConfig, KeysError, NewKey, Search};

use super::prelude::*;
use super::rights::ABOUT_A_KEY;

pub(super) fn stories(suite: &mut Suite) {
    // The admin key is foreign too, and a deleted key is like one that never existed. The foreign key is not changed.
    for (name, ask) in ABOUT_A_KEY {
        suite.story(&format!("a_foreign_key_is_not_there_to_{name}"), move |world| {
            let [stranger, foreign] = elsewhere(world);
            let deleted = world.member(named("ci"));
            for key in [&foreign, &stranger, deleted.delete()] {
                let [refused, never_made] = [&key.id, &key_id("never made")]
                    .map(|id| wording(ask(&world.keys(), id), id.as_str()));
                assert_eq!(refused, never_made);
            }
            assert_refused!(ask(&stranger.keys(), &world.admin), KeysError::NotFound(_));
            assert!(world.store.usage(&foreign.id).wait().expect("the store answers").is_some());
        });
    }

    // Even with the access key a caller does not learn the key's id.
    suite.story("a_foreign_access_key_is_not_there_to_look_up", |world| {
        let [_, foreign] = elsewhere(world);
        let [refused, never_made] = [FOREIGN_SECRET, "nobody-has-this-key"].map(|secret| {
            let secret = access_key(secret);
            wording(world.keys().get_by_access_key(&secret).wait(), &secret.to_string())
        });
        assert_eq!(refused, never_made);
        assert!(!refused.contains(foreign.id.as_str()), "{refused}");
    });

    suite.story("a_search_finds_no_foreign_keys", |world| {
        elsewhere(world);
        assert!(world.search(&Search::all().name_contains("foreign")).keys.is_empty());
    });

    // The same names in both make no difference.
    suite.story("workspaces_share_no_counts", |world| {
        let [_, theirs] = elsewhere(world);
        let ours = world.member(foreign());
        ours.admit(None, 1);
        theirs.admit(None, 1);
    });

    // An id that is a prefix of another is a different id.
    suite.story("workspaces_whose_ids_begin_alike_are_separate", |world| {
        for id in ["home:", "home/1", "hom", "{home}", "HOME", "home "] {
            let keys = world.admin_of(id).keys().search(&Search::all()).wait();
            let keys = keys.expect("an admin searches").keys;
            assert_eq!(keys.len(), 1, "{id:?}");
            assert_eq!(keys[0].workspace, workspace(id));
        }
    });
}

/// Creates the admin key of another workspace, and a member key there that makes one call a day.
fn elsewhere(world: &World) -> [Key<'_>; 2] {
    let stranger = world.admin_of("elsewhere");
    let foreign = NewKey::member(foreign()).with_access_key(access_key(FOREIGN_SECRET));
    let foreign = stranger.keys().create(foreign).wait().expect("an admin creates keys");
    [stranger, world.key(foreign.record.id)]
}

fn foreign() -> KeyConfig {
    named("foreign").with_global(requests_per_day(1))
}

/// Returns the message of an error, without the requested id or access key.
fn wording<R: Debug>(refused: Result<R, KeysError>, asked_for: &str) -> String {
    let error = refused.expect_err("there is no such key here");
    assert!(matches!(&error, KeysError::NotFound(id) if id == asked_for), "{error:?}");
    error.to_string().replace(asked_for, "…")
}

const FOREIGN_SECRET: &str = "held-by-somebody-else";
