//! A workspace begins with an admin key, once, and always keeps one that never expires.

use limiter_core::{KeysError, NewKey};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    let tomorrow = Some(NOON.after(DAY));

    suite.story("a_workspace_is_bootstrapped_only_once", |world| {
        for name in ["first admin", "another admin"] {
            let again = world.store.bootstrap(workspace("home"), NewKey::admin(named(name)));
            assert_refused!(again.wait(), KeysError::AlreadyBootstrapped);
        }
    });

    suite.story("a_bootstrap_needs_an_admin_that_never_expires", |world| {
        let store = managed(world.empty_store());
        let expiring = named("admin").with_expiry(NOON.after(DAY));
        for key in [NewKey::member(named("member")), NewKey::admin(expiring)] {
            let refused = store.bootstrap(workspace("home"), key).wait();
            assert_refused!(refused, KeysError::FirstMustBeAdmin);
        }
        let admin = store.bootstrap(workspace("home"), NewKey::admin(named("admin"))).wait();
        assert!(admin.is_ok(), "nothing was created before");
    });

    suite.story("the_last_admin_cannot_be_deleted", |world| {
        world.member(named("member"));
        assert_refused!(world.first_admin().try_delete(), KeysError::LastAdmin);
        world.first_admin().read();
    });

    suite.story("the_last_admin_cannot_be_given_an_expiry", |world| {
        let admin = world.first_admin();
        let before = admin.read();
        for expiry in [NOON.after(DAY), NOON] {
            let refused = admin.try_update(|config| config.expires_at = Some(expiry));
            assert_refused!(refused, KeysError::LastAdmin);
        }
        assert_eq!(admin.read(), before);
    });

    suite.story("the_last_admin_may_be_renamed", |world| {
        let renamed = world.first_admin().update(|config| config.name = named("root").name);
        assert_eq!(renamed.name.as_str(), "root");
    });

    suite.story("of_two_admins_only_one_may_expire", move |world| {
        let (admin, other) = (world.first_admin(), world.another_admin(named("other")));
        other.update(|config| config.expires_at = tomorrow);
        let refused = admin.try_update(|config| config.expires_at = tomorrow);
        assert_refused!(refused, KeysError::LastAdmin);
        assert_refused!(admin.try_delete(), KeysError::LastAdmin);
    });

    // The workspace does not rely on it.
    suite.story("an_admin_with_an_expiry_may_be_deleted", |world| {
        let passing = world.another_admin(named("passing").with_expiry(NOON.after(DAY)));
        passing.update(|config| config.expires_at = Some(NOON));
        passing.delete();
    });

    suite.story("an_admin_that_no_longer_expires_lets_the_other_go", |world| {
        let other = world.another_admin(named("other").with_expiry(NOON.after(DAY)));
        assert_refused!(world.first_admin().try_delete(), KeysError::LastAdmin);
        other.update(|config| config.expires_at = None);
        world.first_admin().delete();
        assert_refused!(other.keys().delete(&other.id).wait(), KeysError::LastAdmin);
    });

    suite.story("the_admin_of_another_workspace_does_not_count", |world| {
        world.admin_of("elsewhere");
        assert_refused!(world.first_admin().try_delete(), KeysError::LastAdmin);
    });
}
