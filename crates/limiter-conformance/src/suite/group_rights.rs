//! A group is seen by the admins of its workspace alone.

use limiter_core::{KeyRecord, KeysError, NewKey, Search};

use super::groups::three_levels;
use super::prelude::*;
use super::rights::ABOUT_A_KEY;

pub(super) fn stories(suite: &mut Suite) {
    // Nor is its key, nor what would lie beneath them.
    for (name, ask) in ABOUT_A_KEY {
        suite.story(&format!("a_foreign_group_is_not_there_to_{name}"), move |world| {
            let [_, group, key] = elsewhere(world);
            for id in [&group.id, &key.id, &key_id("theirs/never made"), &key_id("theirs/ci/x")] {
                let [refused, never_made] = [id, &key_id("never/made")].map(|id| {
                    let error = ask(&world.keys(), id).expect_err("there is no such group here");
                    assert!(matches!(&error, KeysError::NotFound(it) if it == id.as_str()));
                    error.to_string().replace(id.as_str(), "…")
                });
                assert_eq!(refused, never_made);
            }
            assert!(world.store.usage(&group.id).wait().expect("the store answers").is_some());
        });
    }

    // Creating beneath it gives the error of a group that never was, and its id is not shown as taken.
    suite.story("beneath_a_foreign_group_no_key_is_created", |world| {
        let [_, _, foreign] = elsewhere(world);
        let refused = |path: &str| {
            let error = world.try_create(at_path(named(path))).expect_err("there is no such group");
            let group = key_id(path).group().expect("it lies in a group");
            assert!(
                matches!(&error, KeysError::NoGroup(missing) if *missing == group),
                "{error:?}"
            );
            error.to_string().replace(group.as_str(), "…")
        };
        let never_made = refused("never made/ci");
        for path in ["theirs/ci", "theirs/other", "theirs/ci/x"] {
            assert_eq!(refused(path), never_made);
        }
        let beneath = NewKey::member(named("ci")).beneath(key_id("theirs"));
        assert_refused!(world.try_create(beneath), KeysError::NoGroup(_));
        foreign.admit(None, 1);
        assert_eq!(world.names(), ["first admin"]);
    });

    suite.story("beneath_a_foreign_group_nothing_is_listed", |world| {
        let [stranger, ..] = elsewhere(world);
        for path in ["theirs", "theirs/ci", "never made"] {
            let page = world.search(&Search::all().beneath(key_id(path)));
            assert!(page.keys.is_empty() && page.next.is_none() && page.damaged.is_empty());
        }
        let theirs = stranger.keys().search(&Search::all().beneath(key_id("theirs"))).wait();
        assert_eq!(theirs.expect("an admin searches").keys.len(), 1);
    });

    // Of a group that it belongs to or not, whether it is there or not.
    for (name, ask) in ABOUT_A_KEY {
        suite.story(&format!("a_member_may_not_{name}_its_group"), move |world| {
            let [acme, search, ci] = three_levels(world);
            let other = world.group(named("other"));
            let before = world.search(&Search::all()).keys;
            for group in [&acme.id, &search.id, &other.id, &key_id("never made")] {
                assert_refused!(ask(&ci.keys(), group), KeysError::Forbidden);
            }
            assert_eq!(world.search(&Search::all()).keys, before, "nothing has changed");
        });
    }

    suite.story("an_admin_reads_the_usage_of_a_group_and_a_member_its_own", |world| {
        let [acme, _, ci] = three_levels(world);
        ci.admit(None, 2);
        let usage = acme.usage();
        assert_eq!(usage.scopes[0].account.requests(), 2);
        let own = ci.keys().usage(&ci.id).wait().expect("a member reads its own usage");
        assert_eq!(own, ci.usage());
    });

    // A group is no caller, whatever is asked for.
    suite.story("a_group_has_no_rights", |world| {
        let [acme, ..] = three_levels(world);
        let keys = acme.keys();
        assert!(keys.search(&Search::all()).wait().is_err());
        assert!(keys.create(member("mine")).wait().is_err());
        for (name, ask) in ABOUT_A_KEY.into_iter().filter(|(name, _)| !name.starts_with("read_the"))
        {
            assert!(ask(&keys, &world.admin).is_err(), "{name}");
        }
        assert!(keys.usage(&world.admin).wait().is_err());
    });

    // Directly or not; not itself, and not what begins alike.
    suite.story("what_lies_beneath_a_group_is_listed", |world| {
        three_levels(world);
        for path in ["acmes", "acme/searches"] {
            world.group(named(path));
        }
        for path in ["acme/ci", "acmes/ci", "acme/searches/ci", "ci"] {
            world.member_at(named(path));
        }
        let beneath = |path| world.search(&Search::all().beneath(key_id(path)));
        for (path, expected) in [
            (
                "acme",
                &["acme/ci", "acme/search", "acme/search/ci", "acme/searches", "acme/searches/ci"]
                    [..],
            ),
            ("acme/search", &["acme/search/ci"]),
            ("acmes", &["acmes/ci"]),
            ("acme/search/ci", &[]),
            ("ci", &[]),
            ("acm", &[]),
        ] {
            assert_eq!(names(&beneath(path).keys), expected, "{path}");
        }
        let directly = world.search(&Search::all().beneath(key_id("acme")).direct());
        assert_eq!(names(&directly.keys), ["acme/ci", "acme/search", "acme/searches"]);
        let in_no_group = world.search(&Search::all().direct());
        assert_eq!(names(&in_no_group.keys), ["acme", "acmes", "ci", "first admin"]);
        world.key(key_id("acme/ci")).delete();
        assert_eq!(beneath("acme").keys.len(), 4);
        for record in beneath("acme").keys {
            assert_eq!(world.key(record.id.clone()).read(), record, "whole records");
        }
    });

    // By the bytes of the names, which are no paths here, and with a part of a name.
    suite.story("what_lies_beneath_a_group_is_listed_page_by_page", |world| {
        let acme = world.group(named("zz acme"));
        assert_eq!(acme.id, key_id("zz acme"));
        for number in 0..9 {
            let parity = if number % 2 == 0 { "even" } else { "odd" };
            let key = NewKey::member(named(&format!("{number} {parity}")));
            world.create(key.beneath(acme.id.clone()).without_access_key());
            world.member(named(&format!("{number} outside")));
        }
        let mut found = Vec::new();
        let mut next =
            Some(Search::all().beneath(acme.id.clone()).name_contains("odd").page_size(3));
        while let Some(search) = next {
            let page = world.search(&search);
            assert!(page.keys.len() <= 3 && found.len() < 9);
            found.extend(names(&page.keys).into_iter().map(str::to_owned));
            next = search.following(&page);
        }
        assert_eq!(found, ["1 odd", "3 odd", "5 odd", "7 odd"]);
    });

    suite.story("groups_are_listed_among_the_keys", |world| {
        three_levels(world);
        assert_eq!(world.names(), ["acme", "acme/search", "acme/search/ci", "first admin"]);
        let found = world.search(&Search::all().name_contains("SEARCH"));
        assert_eq!(names(&found.keys), ["acme/search", "acme/search/ci"]);
    });
}

fn names(keys: &[KeyRecord]) -> Vec<&str> {
    keys.iter().map(|key| key.config.name.as_str()).collect()
}

/// The admin key of another workspace, a group there, and its key, which makes calls.
fn elsewhere(world: &World) -> [Key<'_>; 3] {
    let stranger = world.admin_of("elsewhere");
    let create = |key: NewKey| {
        let created = stranger.keys().create(key).wait().expect("an admin creates keys");
        world.key(created.record.id)
    };
    let group = create(NewKey::group(key_id("theirs"), named("theirs")));
    let key = create(at_path(named("theirs/ci")));
    [stranger, group, key]
}
