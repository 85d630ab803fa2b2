//! A workspace begins with an admin key, once, and always keeps one that never expires.

use limiter_core::{KeysError, NewKey};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_workspace_is_bootstrapped_only_once", |world| {
        for name in ["first admin", "another admin"] {
            let again = world.store.bootstrap(workspace("home"), NewKey::admin(named(name)));
            assert_refused!(again.wait(), KeysError::AlreadyBootstrapped);
        }
    });

    suite.story("a_bootstrap_needs_an_admin_that_never_expires", |world| {
        let store = managed(world.empty_store());
        for key in [member("member"), NewKey::admin(named("admin").with_expiry(NOON.after(DAY)))] {
            let refused = store.bootstrap(workspace("home"), key).wait();
            assert_refused!(refused, KeysError::FirstMustBeAdmin);
        }
        let admin = store.bootstrap(workspace("home"), NewKey::admin(named("admin"))).wait();
        assert!(admin.is_ok(), "nothing was created before");
    });

    // Neither a member nor the admin of another workspace replaces it. It may be renamed.
    suite.story("the_last_admin_stays", |world| {
        world.member(named("member"));
        world.admin_of("elsewhere");
        let admin = world.first_admin();
        let before = admin.read();
        assert_refused!(admin.try_delete(), KeysError::LastAdmin);
        for expiry in [NOON.after(DAY), NOON] {
            let refused = admin.try_update(|config| config.expires_at = Some(expiry));
            assert_refused!(refused, KeysError::LastAdmin);
        }
        assert_eq!(admin.read(), before);
        let renamed = admin.update(|config| config.name = named("root").name);
        assert_eq!(renamed.config.name.as_str(), "root");
    });

    // The workspace does not rely on the one that does, which may be deleted.
    suite.story("of_two_admins_only_one_may_expire", |world| {
        let (admin, other) = (world.first_admin(), world.another_admin(named("other")));
        for expiry in [NOON.after(DAY), NOON] {
            other.update(|config| config.expires_at = Some(expiry));
            let refused = admin.try_update(|config| config.expires_at = Some(expiry));
            assert_refused!(refused, KeysError::LastAdmin);
            assert_refused!(admin.try_delete(), KeysError::LastAdmin);
        }
        other.delete();
    });

    suite.story("an_admin_that_no_longer_expires_lets_the_other_go", |world| {
        let other = world.another_admin(named("other").with_expiry(NOON.after(DAY)));
        assert_refused!(world.first_admin().try_delete(), KeysError::LastAdmin);
        other.update(|config| config.expires_at = None);
        world.first_admin().delete();
        assert_refused!(other.keys().delete(&other.id).wait(), KeysError::LastAdmin);
    });
}
