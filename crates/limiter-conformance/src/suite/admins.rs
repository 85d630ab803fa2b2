//! A workspace begins with an admin key, once, and always keeps one that never expires.

use limiter_core::{KeysError, ManualClock, NewKey};

use super::StoreUnderTest;
use super::world::{DAY, NOON, World, assert_refused, engine, named, workspace};

/// The second bootstrap is refused, whatever it brings.
pub async fn a_workspace_is_bootstrapped_only_once(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for name in ["first admin", "another admin"] {
        let again = world.engine.bootstrap(workspace("home"), NewKey::admin(named(name))).await;
        assert_refused!(again, KeysError::AlreadyBootstrapped);
    }
}

/// A member, or an admin that will expire, does not keep a workspace manageable.
pub async fn a_bootstrap_needs_an_admin_that_never_expires(store: impl StoreUnderTest) {
    let engine = engine(store.fresh(ManualClock::at(NOON)).await);
    let expiring = named("admin").with_expiry(NOON.after(DAY));
    for key in [NewKey::member(named("member")), NewKey::admin(expiring)] {
        assert_refused!(
            engine.bootstrap(workspace("home"), key).await,
            KeysError::FirstMustBeAdmin
        );
    }
    let admin = engine.bootstrap(workspace("home"), NewKey::admin(named("admin"))).await;
    assert!(admin.is_ok(), "nothing was created before");
}

/// Deletion of the last admin.
pub async fn the_last_admin_cannot_be_deleted(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("member")).await;
    assert_refused!(world.keys().delete(&world.admin).await, KeysError::LastAdmin);
    assert!(world.keys().get(&world.admin).await.is_ok());
}

/// An expiry of the last admin, in the future or in the past.
pub async fn the_last_admin_cannot_be_given_an_expiry(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let before = world.record(&world.admin).await;
    for expiry in [NOON.after(DAY), NOON] {
        let refused = world.update(&world.admin, |config| config.expires_at = Some(expiry)).await;
        assert_refused!(refused, KeysError::LastAdmin);
    }
    assert_eq!(world.record(&world.admin).await, before);
}

/// The last admin may be changed in every other way.
pub async fn the_last_admin_may_be_renamed(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let renamed = world.update(&world.admin, |config| config.name = named("root").name).await;
    assert_eq!(renamed.expect("it keeps its rights").name.as_str(), "root");
}

/// Of two admins, the first may be given an expiry, and then the second is the last.
pub async fn of_two_admins_only_one_may_expire(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let other = world.another_admin(named("other")).await;
    let expires = world.update(&other, |config| config.expires_at = Some(NOON.after(DAY))).await;
    expires.expect("the first admin remains");
    let refused = world.update(&world.admin, |c| c.expires_at = Some(NOON.after(DAY))).await;
    assert_refused!(refused, KeysError::LastAdmin);
    assert_refused!(world.keys().delete(&world.admin).await, KeysError::LastAdmin);
}

/// An admin that will expire may go at any time: it is not the one that the workspace relies on.
pub async fn an_admin_with_an_expiry_may_be_deleted(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let passing = world.another_admin(named("passing").with_expiry(NOON.after(DAY))).await;
    let sooner = world.update(&passing, |config| config.expires_at = Some(NOON)).await;
    sooner.expect("an expiry is changed");
    world.keys().delete(&passing).await.expect("the first admin remains");
}

/// An admin whose expiry is taken away counts again.
pub async fn an_admin_that_no_longer_expires_lets_the_other_go(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let other = world.another_admin(named("other").with_expiry(NOON.after(DAY))).await;
    assert_refused!(world.keys().delete(&world.admin).await, KeysError::LastAdmin);
    world.update(&other, |config| config.expires_at = None).await.expect("an expiry is taken away");
    world.keys().delete(&world.admin).await.expect("the other remains");
    assert_refused!(world.engine.keys_as(&other).delete(&other).await, KeysError::LastAdmin);
}

/// The admins of other workspaces do not count.
pub async fn the_admin_of_another_workspace_does_not_count(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.admin_of("elsewhere").await;
    assert_refused!(world.keys().delete(&world.admin).await, KeysError::LastAdmin);
}
