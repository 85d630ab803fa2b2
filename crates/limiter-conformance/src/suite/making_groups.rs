//! Groups are created, listed and deleted as keys are. They make no calls, have no access key, and outlive what lies beneath.

use limiter_core::{
    DenialReason, Effective, InvalidValue, KeyConfig, KeyKind, KeysError, Limits, NewKey,
    NewRecord, ReservationError, StoredSecret, Thresholds, Upserted,
};

use super::groups::three_levels;
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_group_is_read_as_it_was_created", |world| {
        let config = named("Acme Inc.").with_global(generous()).with_budget(millionths(5));
        let config = config.with_asset(asset("m1"), requests_per_day(3)).with_shadow(true);
        let config = config.with_other(requests_per_day(9)).with_expiry(MIDNIGHT);
        let created = world.create(NewKey::group(key_id("acme"), config.clone()));
        assert!(created.access_key.is_none());
        let record = world.key(key_id("acme")).read();
        assert_eq!(record, created.record);
        assert_eq!((&record.config, record.version), (&config, 1));
        assert_eq!((record.kind, record.access_key), (KeyKind::Group, None));
        assert_eq!(record.workspace, workspace("home"));
    });

    // A denial gives no other reason, whatever else would hold.
    suite.story("a_group_makes_no_calls", |world| {
        let [acme, search, _] = three_levels(world);
        acme.update(|config| config.expires_at = Some(NOON));
        for group in [&acme, &search] {
            let decisions = [
                group.check(None, requests(1)),
                group.check("m1", tokens(1, 1)),
                group.peek(None, requests(1)),
                group.check_once("q1", None, requests(1)),
                group.try_reserve("r1", None, requests(1), DAY).expect("the store answers"),
                group.try_amend("r1", output(5)).expect("the store answers"),
            ];
            for decision in decisions {
                assert_eq!(reason(&decision), &DenialReason::KeyUnknown);
            }
            assert_refused!(group.try_settle("r1", output(5)), ReservationError::KeyUnknown);
            assert_refused!(group.try_cancel("r1"), ReservationError::KeyUnknown);
            let recorded = group.try_record("c1", None, requests(1), None);
            assert_refused!(recorded, ReservationError::KeyUnknown);
            assert_eq!(group.calls(), 0);
        }
    });

    // Neither one that is brought nor, in the store itself, one that was made.
    suite.story("a_group_has_no_access_key", |world| {
        let secret = access_key("held-by-a-whole-team");
        let group = || NewKey::group(key_id("acme"), named("acme"));
        let brought = world.try_create(group().with_access_key(secret.clone()));
        assert_refused!(brought, KeysError::Invalid(InvalidValue::GroupAccessKey));
        let record = NewRecord {
            secret: Some(StoredSecret::from(&secret)),
            ..record("acme", KeyKind::Group)
        };
        let stored = world.store.create(record).wait();
        assert_refused!(stored, KeysError::Invalid(InvalidValue::GroupAccessKey));
        assert_eq!(
            (world.names(), world.resolved(&secret)),
            (vec!["first admin".to_owned()], None)
        );
        world.create(group());
    });

    suite.story("an_access_key_belongs_to_the_whole_path_of_its_key", |world| {
        world.group(named("acme"));
        let key = NewKey::member(named("ci")).with_id(key_id("acme/ci"));
        let (ci, secret) = world.with_access_key(key);
        assert_eq!(world.resolved(&secret), Some(key_id("acme/ci")));
        let usage = world.store.keys(&secret).own_usage().wait().expect("a member reads its own");
        assert_eq!(usage, ci.usage());
    });

    // The one that is missing: the direct parent, even where its own parent is missing too.
    suite.story("a_key_beneath_no_group_is_not_created", |world| {
        world.group(named("acme"));
        let before = world.names();
        for (path, missing) in
            [("other/ci", "other"), ("acme/search/ci", "acme/search"), ("a/b/c/d", "a/b/c")]
        {
            for key in [at_path(named(path)), NewKey::group(key_id(path), named(path))] {
                let refused = world.try_create(key);
                assert_refused!(refused, KeysError::NoGroup(group) if group == key_id(missing));
            }
            let beneath = NewKey::member(named("ci")).beneath(key_id(missing));
            let refused = world.try_create(beneath);
            assert_refused!(refused, KeysError::NoGroup(group) if group == key_id(missing));
        }
        assert_eq!(world.names(), before, "nothing was created");
    });

    suite.story("a_key_beneath_a_key_is_not_created", |world| {
        let [member, admin] = [NewKey::member(named("ci")), NewKey::admin(named("root"))];
        for (key, id) in [(member, "ci"), (admin, "root")] {
            world.create(key.with_id(key_id(id)).without_access_key());
            let path = format!("{id}/inner");
            let refused = world.try_create(at_path(named(&path)));
            assert_refused!(refused, KeysError::NoGroup(group) if group == key_id(id));
        }
    });

    suite.story("a_key_beneath_a_deleted_group_is_not_created", |world| {
        world.group(named("acme")).delete();
        let refused = world.try_create(at_path(named("acme/ci")));
        assert_refused!(refused, KeysError::NoGroup(group) if group == key_id("acme"));
    });

    // After what is invalid, before a name that is taken.
    suite.story("that_there_is_no_group_comes_after_invalid_and_before_taken", |world| {
        world.member(named("ci"));
        let limits = |count| (0..count).map(|n| (asset(&format!("m{n}")), Limits::NONE)).collect();
        let too_many = KeyConfig { assets: limits(1_025), ..named("ci") };
        let beneath = |config| NewKey::member(config).with_id(key_id("acme/ci"));
        assert_refused!(world.try_create(beneath(too_many)), KeysError::Invalid(_));
        assert_refused!(world.try_create(beneath(named("ci"))), KeysError::NoGroup(_));
        world.group(named("acme"));
        assert_refused!(world.try_create(beneath(named("ci"))), KeysError::NameTaken(_));
        world.member_at(named("acme/ci"));
        assert_refused!(world.try_create(beneath(named("ci"))), KeysError::IdTaken(_));
    });

    suite.story("the_last_segment_beneath_a_group_may_be_drawn", |world| {
        let [acme, search, _] = three_levels(world);
        let new = |name| NewKey::member(named(name)).beneath(search.id.clone());
        let ids = ["one", "two"].map(|name| world.create(new(name)).record.id);
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            assert_eq!((id.depth(), id.group()), (3, Some(search.id.clone())));
            world.key(id).admit(None, 1);
        }
        assert_eq!(acme.calls(), 2);
        let group = NewKey::group(key_id("any"), named("drawn")).beneath(acme.id.clone());
        let group = world.create(group).record;
        assert_eq!((group.kind, group.id.group()), (KeyKind::Group, Some(acme.id.clone())));
    });

    // Admin keys have one segment; the store checks that as well.
    suite.story("an_admin_key_belongs_to_no_group", |world| {
        world.group(named("acme"));
        let admin = || NewKey::admin(named("root")).without_access_key();
        for admin in [admin().with_id(key_id("acme/root")), admin().beneath(key_id("acme"))] {
            let refused = world.try_create(admin);
            let in_group = KeysError::Invalid(InvalidValue::AdminInGroup { segments: 2 });
            assert_eq!(refused.map(|_| ()).map_err(|it| it.to_string()), Err(in_group.to_string()));
        }
        let stored = world.store.create(record("acme/root", KeyKind::Admin)).wait();
        assert_refused!(stored, KeysError::Invalid(InvalidValue::AdminInGroup { segments: 2 }));
        assert_eq!(world.names(), ["acme", "first admin"]);
    });

    suite.story("a_workspace_does_not_begin_with_a_group", |world| {
        let store = managed(world.empty_store());
        let group = NewKey::group(key_id("acme"), named("acme"));
        let refused = store.bootstrap(workspace("home"), group).wait();
        assert_refused!(refused, KeysError::FirstMustBeAdmin);
    });

    // Nothing is deleted with it, and nothing of it changes.
    suite.story("a_group_with_anything_beneath_it_is_not_deleted", |world| {
        let levels = three_levels(world);
        levels[2].admit(None, 1);
        let before = levels.each_ref().map(|level| (level.read(), level.usage()));
        for group in &levels[..2] {
            assert_refused!(group.try_delete(), KeysError::NotEmpty(id) if id == group.id);
        }
        assert_eq!(levels.map(|level| (level.read(), level.usage())), before);
    });

    suite.story("a_group_is_deleted_once_it_is_empty", |world| {
        let levels = three_levels(world);
        for level in levels.iter().rev() {
            level.delete();
            assert_refused!(level.try_delete(), KeysError::NotFound(_));
            assert_refused!(world.keys().get(&level.id).wait(), KeysError::NotFound(_));
        }
        assert_eq!(world.names(), ["first admin"]);
        assert_eq!(reason(&levels[2].check(None, requests(1))), &DenialReason::KeyUnknown);
    });

    // Deletion of what lies beneath another is no reason.
    suite.story("a_group_beside_one_with_keys_is_deleted", |world| {
        three_levels(world);
        for path in ["acmes", "acm", "acme/se", "acme/searches"] {
            world.group(named(path)).delete();
        }
    });

    suite.story("a_key_of_a_group_that_is_created_again_finds_none_of_the_old_counts", |world| {
        let limited = |name: &str| named(name).with_global(requests_per_day(2));
        let create = || {
            let acme = world.group(limited("acme").with_budget(millionths(5)));
            (acme, world.member_at(limited("acme/ci")))
        };
        let (acme, ci) = create();
        ci.admit(None, 1).reserve("r1", requests(1)).denied(None, requests(1));
        for key in [&ci, &acme] {
            key.delete();
        }
        let (acme, ci) = create();
        assert_eq!([&acme, &ci].map(Key::calls), [0, 0]);
        assert!(acme.history(7).is_empty() && ci.history(7).is_empty());
        ci.knows_no("r1").reserve("r1", requests(1)).admit(None, 1).denied(None, requests(1));
        ci.cancel("r1");
        assert_eq!([&acme, &ci].map(Key::calls), [1, 1]);
    });

    // The group, too, if the key alone is created again.
    suite.story("a_group_keeps_what_its_deleted_keys_have_used", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(3)));
        world.member_at(named("acme/ci")).admit(None, 2).delete();
        let ci = world.member_at(named("acme/ci"));
        assert_eq!([&acme, &ci].map(Key::calls), [2, 0]);
        ci.admit(None, 1).denied(None, requests(1));
    });

    suite.story("groups_and_keys_share_the_names_of_a_workspace", |world| {
        world.group(named("acme"));
        let other = NewKey::group(key_id("other"), named("acme"));
        assert_refused!(world.try_create(other), KeysError::NameTaken(_));
        assert_refused!(world.try_create(member("acme")), KeysError::NameTaken(_));
        let taken = NewKey::group(key_id("acme"), named("other"));
        assert_refused!(world.try_create(taken), KeysError::IdTaken(_));
        let renamed = world.key(key_id("acme")).update(|it| it.name = named("Acme").name);
        assert_eq!((renamed.config.name.as_str(), renamed.id), ("Acme", key_id("acme")));
        world.member(named("acme"));
    });

    suite.story("a_group_is_upserted_by_its_name", |world| {
        let upsert = |limits: Limits| {
            let group = NewKey::group(key_id("acme"), named("acme").with_global(limits));
            world.keys().upsert(group, Effective::Now).wait().expect("an admin upserts")
        };
        assert!(matches!(upsert(requests_per_day(1)), Upserted::Created(_)));
        let ci = world.member_at(named("acme/ci"));
        ci.admit(None, 1).denied(None, requests(1));
        assert!(matches!(upsert(requests_per_day(2)), Upserted::Updated(_)));
        ci.admit(None, 1).denied(None, requests(1));
        let of_other_kind = world.keys().upsert(member("acme"), Effective::Now).wait();
        assert_refused!(of_other_kind, KeysError::NameTaken(_));
    });

    // In their order: a group of the same batch is there for the keys behind it.
    suite.story("a_batch_may_create_a_group_and_its_keys", |world| {
        let new = vec![
            at_path(named("acme/early")),
            NewKey::group(key_id("acme"), named("acme")),
            at_path(named("acme/ci")),
            NewKey::group(key_id("acme/search"), named("acme/search")),
            at_path(named("acme/search/ci")),
            at_path(named("acme/ci/ci")),
            NewKey::admin(named("acme/root")).with_id(key_id("acme/root")),
        ];
        let created = world.keys().create_many(new).wait().expect("an admin creates keys");
        let created: Vec<_> =
            created.iter().map(|it| it.as_ref().map(|it| &it.record.id)).collect();
        assert_refused!(created[0], KeysError::NoGroup(_));
        for (number, id) in [(1, "acme"), (2, "acme/ci"), (3, "acme/search"), (4, "acme/search/ci")]
        {
            assert_eq!(created[number].as_ref().ok(), Some(&&key_id(id)));
        }
        assert_refused!(created[5], KeysError::NoGroup(group) if *group == key_id("acme/ci"));
        assert_refused!(created[6], KeysError::Invalid(_));
        world.key(key_id("acme/search/ci")).admit(None, 1);
        assert_eq!(world.key(key_id("acme")).calls(), 1);
    });
}

/// A record without an access key, as a store is given one.
fn record(path: &str, kind: KeyKind) -> NewRecord {
    NewRecord {
        id: key_id(path),
        workspace: workspace("home"),
        kind,
        config: named(path),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}
