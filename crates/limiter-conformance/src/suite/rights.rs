//! The rights of admin keys, of member keys, and of callers that are none.

use limiter_core::{
    DenialReason, Effective, KeyId, KeyKind, Keys, KeysError, NewKey, Rotation, Search,
};

use super::plans::{free, name};
use super::prelude::*;

/// A question about the keys of a workspace, and maybe about one of them.
pub(super) type Ask = fn(&Keys<'_>, &KeyId) -> Result<(), KeysError>;

/// The questions about one key.
pub(super) const ABOUT_A_KEY: [(&str, Ask); 9] = [
    ("read", |keys, key| keys.get(key).wait().map(drop)),
    ("update", |keys, key| keys.update(key, 1, &named("mine")).wait().map(drop)),
    ("update_later", |keys, key| keys.update(key, 7, &named("mine")).wait().map(drop)),
    ("update_now", |keys, key| keys.update_now(key, 1, &named("mine")).wait().map(drop)),
    ("reset", |keys, key| keys.reset(key).wait()),
    ("rotate", |keys, key| keys.rotate(key, &Rotation::at_once()).wait().map(drop)),
    ("delete", |keys, key| keys.delete(key).wait()),
    ("read_the_usage_of", |keys, key| keys.usage(key).wait().map(drop)),
    ("read_the_history_of", |keys, key| keys.history(key, 7).wait().map(drop)),
];

const ABOUT_ALL: [(&str, Ask); 9] = [
    ("create", |keys, _| keys.create(member("mine")).wait().map(drop)),
    ("upsert", |keys, _| keys.upsert(member("mine"), Effective::Next).wait().map(drop)),
    ("create_many", |keys, _| keys.create_many(vec![member("a"), member("b")]).wait().map(drop)),
    ("list", |keys, _| keys.search(&Search::all()).wait().map(drop)),
    ("look_up", |keys, _| {
        keys.get_by_access_key(&access_key("nobody-has-this-key")).wait().map(drop)
    }),
    ("save_plans_of", |keys, _| keys.save_plan(free(requests_per_day(1))).wait().map(drop)),
    ("list_plans_of", |keys, _| keys.plans().wait().map(drop)),
    ("look_up_plans_of", |keys, _| keys.plan(&name("free")).wait().map(drop)),
    ("delete_plans_of", |keys, _| keys.delete_plan(&name("free")).wait()),
];

pub(super) fn stories(suite: &mut Suite) {
    // Of both kinds; its own key is among them.
    suite.story("an_admin_manages_the_keys_of_its_workspace", |world| {
        let (ci, secret) = world.with_access_key(member("ci"));
        let admin = world.create(NewKey::admin(named("admin"))).record;
        world.admin_of("elsewhere");
        assert_eq!(world.names(), ["admin", "ci", "first admin"]);
        let record = ci.read();
        assert_eq!((record.kind, admin.kind), (KeyKind::Member, KeyKind::Admin));
        assert_eq!(
            [record.workspace.clone(), admin.workspace.clone()],
            [workspace("home"), workspace("home")]
        );
        assert_eq!(world.key(admin.id.clone()).read(), admin);
        let found = world.keys().get_by_access_key(&secret).wait();
        assert_eq!(found.expect("an admin looks a key up"), record);
        assert_eq!(ci.update(|it| it.name = named("renamed").name).config.name.as_str(), "renamed");
        ci.usage();
        world.first_admin().usage();
        ci.delete();
        assert_refused!(world.keys().get(&ci.id).wait(), KeysError::NotFound(_));
    });

    // The denial charges nothing.
    suite.story("an_admin_makes_no_calls", |world| {
        let admin = world.another_admin(named("admin").with_global(requests_per_day(5)));
        assert_eq!(reason(&admin.check("m1", tokens(1, 1))), &DenialReason::AdminKey);
        admin.uses([0, 0, 0, 0]);
    });

    // Not even its own, but for its usage; and the answer does not show whether there is such a key.
    for (name, ask) in ABOUT_A_KEY.into_iter().chain(ABOUT_ALL) {
        suite.story(&format!("a_member_may_not_{name}_keys"), move |world| {
            let (member, other) = (world.member(named("ci")), world.member(named("other")));
            let foreign = world.admin_of("elsewhere");
            let before = world.search(&Search::all()).keys;
            let own = (!name.starts_with("read_the_")).then_some(&member.id);
            let others = [&other.id, &world.admin, &foreign.id, &key_id("never made")];
            for key in others.into_iter().chain(own) {
                assert_refused!(ask(&member.keys(), key), KeysError::Forbidden);
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

    suite.story("an_access_key_has_the_rights_of_its_key", |world| {
        let new = [NewKey::admin(named("admin")), member("member")];
        let secrets = new.map(|key| world.with_access_key(key).1);
        let [admin, member] = secrets.each_ref().map(|secret| world.store.keys(secret));
        assert!(admin.search(&Search::all()).wait().is_ok());
        assert!(member.own_usage().wait().is_ok());
        assert_refused!(member.search(&Search::all()).wait(), KeysError::Forbidden);
    });

    suite.story("a_caller_that_never_existed_is_unknown", |world| {
        let never_made = world.key(key_id("never made"));
        refused_everything(&never_made.keys(), &never_made, is_unknown);
        let secret = access_key("nobody-has-this-key");
        refused_everything(&world.store.keys(&secret), &never_made, is_unknown);
    });

    // Also within a `Keys` that it obtained before, and if it deletes itself, as it may if another admin remains.
    suite.story("a_deleted_caller_is_unknown", |world| {
        let (admin, secret) = world.with_access_key(NewKey::admin(named("admin")));
        let keys = world.store.keys(&secret);
        assert!(keys.search(&Search::all()).wait().is_ok());
        keys.delete(&admin.id).wait().expect("an admin remains");
        for keys in [keys, admin.keys()] {
            refused_everything(&keys, &admin, is_unknown);
        }
    });

    // From the instant of its expiry on; prolonged by another admin, it has its rights again.
    suite.story("an_expired_caller_has_no_rights", |world| {
        let admin = world.another_admin(named("admin").with_expiry(NOON.after(MINUTE)));
        world.at(59_999);
        assert!(admin.keys().search(&Search::all()).wait().is_ok());
        world.at(60_000);
        let has_expired = |error: &KeysError| matches!(error, KeysError::ExpiredCaller);
        refused_everything(&admin.keys(), &admin, has_expired);
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

/// Asserts that a caller is refused whatever it asks for, of an admin or of itself, for this reason; and creates nothing.
fn refused_everything(keys: &Keys<'_>, caller: &Key<'_>, is_expected: impl Fn(&KeysError) -> bool) {
    let before = caller.world.names();
    let own: (&str, Ask) = ("read_its_own_usage", |keys, _| keys.own_usage().wait().map(drop));
    for (name, ask) in ABOUT_A_KEY.into_iter().chain(ABOUT_ALL).chain([own]) {
        for key in [&caller.world.admin, &caller.id] {
            let refusal = ask(keys, key);
            assert!(refusal.as_ref().is_err_and(&is_expected), "{name}: {refusal:?}");
        }
    }
    assert_eq!(caller.world.names(), before);
}
