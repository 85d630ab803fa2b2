//! The rights of admin keys, of member keys, and of callers that are none.

use limiter_core::{DenialReason, KeyId, KeysError, NewKey, Search};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("an_admin_creates_keys_of_both_kinds", |world| {
        let member = world.create(NewKey::member(named("member"))).record;
        let admin = world.create(NewKey::admin(named("admin"))).record;
        let home = workspace("home");
        assert_eq!((&member.workspace, &admin.workspace), (&home, &home));
        assert_ne!(member.kind, admin.kind);
    });

    // Its own key is among them.
    suite.story("an_admin_lists_the_keys_of_its_workspace", |world| {
        world.member(named("ci"));
        world.admin_of("elsewhere");
        assert_eq!(world.names(), ["ci", "first admin"]);
    });

    // By its id and by its access key.
    suite.story("an_admin_reads_a_key_of_its_workspace", |world| {
        let created = world.create(NewKey::member(named("ci")));
        assert_eq!(world.key(created.record.id.clone()).read(), created.record);
        let access_key = created.access_key.expect("an access key was made");
        let found = world.keys().get_by_access_key(&access_key).wait();
        assert_eq!(found.expect("an admin looks a key up"), created.record);
    });

    suite.story("an_admin_updates_a_key_of_its_workspace", |world| {
        let updated = world.member(named("ci")).update(|it| it.name = named("renamed").name);
        assert_eq!(updated.name.as_str(), "renamed");
    });

    suite.story("an_admin_deletes_a_key_of_its_workspace", |world| {
        let key = world.member(named("ci"));
        key.delete();
        assert_refused!(world.keys().get(&key.id).wait(), KeysError::NotFound(_));
    });

    suite.story("an_admin_reads_the_usage_of_any_key", |world| {
        let key = world.limited(requests_per_day(5));
        assert_eq!(key.admit(None, 2).used()[2], 2);
        world.first_admin().usage();
    });

    // The denial charges nothing.
    suite.story("an_admin_makes_no_calls", |world| {
        let admin = world.another_admin(named("admin").with_global(requests_per_day(5)));
        assert_eq!(reason(&admin.check("m1", tokens(1, 1))), &DenialReason::AdminKey);
        admin.uses([0, 0, 0, 0]);
    });

    // Not even its own; and the answer does not show whether there is such a key.
    type Ask = fn(&Key<'_>, &KeyId) -> Result<(), KeysError>;
    let asked: [(&str, Ask); 6] = [
        ("a_member_may_not_create_keys", |member, _| {
            member.keys().create(NewKey::member(named("mine"))).wait().map(drop)
        }),
        ("a_member_may_not_list_keys", |member, _| {
            member.keys().search(&Search::all()).wait().map(drop)
        }),
        ("a_member_may_not_read_keys", |member, key| member.keys().get(key).wait().map(drop)),
        ("a_member_may_not_look_access_keys_up", |member, _| {
            let secret = access_key("nobody-has-this-key");
            member.keys().get_by_access_key(&secret).wait().map(drop)
        }),
        ("a_member_may_not_update_keys", |member, key| {
            let raised = named("ci").with_global(requests_per_day(1_000_000));
            member.keys().update(key, 1, &raised).wait().map(drop)
        }),
        ("a_member_may_not_delete_keys", |member, key| member.keys().delete(key).wait()),
    ];
    for (name, ask) in asked {
        suite.story(name, move |world| {
            let (member, other) = (world.member(named("ci")), world.member(named("other")));
            let before = world.search(&Search::all()).keys;
            for key in [&member.id, &other.id, &world.admin, &key_id("never made")] {
                assert_refused!(ask(&member, key), KeysError::Forbidden);
            }
            assert_eq!(world.search(&Search::all()).keys, before, "nothing has changed");
        });
    }

    // By its id or without it.
    suite.story("a_member_reads_its_own_usage", |world| {
        let member = world.limited(requests_per_day(5));
        let expected = member.admit(None, 2).usage();
        let keys = member.keys();
        for usage in [keys.usage(&member.id).wait(), keys.own_usage().wait()] {
            assert_eq!(usage.expect("a member reads its own usage"), expected);
        }
    });

    // The answer does not show whether there is such a key.
    suite.story("a_member_may_not_read_the_usage_of_others", |world| {
        let (member, other) = (world.member(named("ci")), world.member(named("other")));
        let foreign = world.admin_of("elsewhere");
        for key in [&other.id, &world.admin, &foreign.id, &key_id("never made")] {
            assert_refused!(member.keys().usage(key).wait(), KeysError::Forbidden);
        }
    });

    suite.story("an_access_key_has_the_rights_of_its_key", |world| {
        let new = [NewKey::admin(named("admin")), NewKey::member(named("member"))];
        let [admin, member] =
            new.map(|key| world.create(key).access_key.expect("an access key was made"));
        let [admin, member] = [&admin, &member].map(|key| world.store.keys(key));
        assert!(admin.search(&Search::all()).wait().is_ok());
        assert!(member.own_usage().wait().is_ok());
        assert_refused!(member.search(&Search::all()).wait(), KeysError::Forbidden);
    });

    suite.story("a_caller_that_never_existed_is_unknown", |world| {
        refused_everything(&world.key(key_id("never made")), is_unknown);
        let secret = access_key("nobody-has-this-key");
        let keys = world.store.keys(&secret);
        assert_refused!(keys.search(&Search::all()).wait(), KeysError::UnknownCaller);
        assert_refused!(keys.own_usage().wait(), KeysError::UnknownCaller);
    });

    // Also within a `Keys` that it obtained before.
    suite.story("a_deleted_caller_is_unknown", |world| {
        let created = world.create(NewKey::admin(named("admin")));
        let secret = created.access_key.expect("an access key was made");
        let keys = world.store.keys(&secret);
        assert!(keys.search(&Search::all()).wait().is_ok());
        let deleted = world.key(created.record.id);
        deleted.delete();
        assert_refused!(keys.search(&Search::all()).wait(), KeysError::UnknownCaller);
        refused_everything(&deleted, is_unknown);
    });

    suite.story("an_admin_may_delete_itself_if_another_remains", |world| {
        let leaving = world.another_admin(named("leaving"));
        leaving.keys().delete(&leaving.id).wait().expect("an admin remains");
        refused_everything(&leaving, is_unknown);
    });

    // From the instant of its expiry on; prolonged by another admin, it has its rights again.
    suite.story("an_expired_caller_has_no_rights", |world| {
        let admin = world.another_admin(named("admin").with_expiry(NOON.after(MINUTE)));
        world.at(59_999);
        assert!(admin.keys().search(&Search::all()).wait().is_ok());
        world.at(60_000);
        refused_everything(&admin, |error| matches!(error, KeysError::ExpiredCaller));
        admin.update(|config| config.expires_at = None);
        assert!(admin.keys().search(&Search::all()).wait().is_ok());
    });

    // Not even its own usage; its admin does.
    suite.story("an_expired_member_reads_nothing", |world| {
        let member = world.member(named("ci").with_expiry(NOON));
        assert_refused!(member.keys().own_usage().wait(), KeysError::ExpiredCaller);
        member.usage();
    });
}

fn is_unknown(error: &KeysError) -> bool {
    matches!(error, KeysError::UnknownCaller)
}

/// Asserts that this caller is refused whatever it asks for, for this reason.
fn refused_everything(caller: &Key<'_>, is_expected: impl Fn(&KeysError) -> bool) {
    let (keys, admin) = (caller.keys(), &caller.world.admin);
    for refusal in [
        keys.create(NewKey::member(named("mine"))).wait().map(drop),
        keys.search(&Search::all()).wait().map(drop),
        keys.get(admin).wait().map(drop),
        keys.get_by_access_key(&access_key("nobody-has-this-key")).wait().map(drop),
        keys.update(admin, 1, &named("mine")).wait().map(drop),
        keys.delete(admin).wait(),
        keys.usage(admin).wait().map(drop),
        keys.usage(&caller.id).wait().map(drop),
        keys.own_usage().wait().map(drop),
    ] {
        assert!(refusal.as_ref().is_err_and(&is_expected), "{refusal:?}");
    }
}
