//! Who may do what: each row of the table, for admin keys, member keys, and callers that are none.

use limiter_core::{DenialReason, KeyId, Keys, KeysError, NewKey, Search, Store, Timestamp};

use super::StoreUnderTest;
use super::world::{
    MINUTE, NOON, World, access_key, assert_refused, key_id, named, requests_per_day, tokens,
};

/// Creating is for admins.
pub async fn an_admin_creates_keys_of_both_kinds(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.create(NewKey::member(named("member"))).await.record;
    let admin = world.create(NewKey::admin(named("admin"))).await.record;
    let home = world.record(&world.admin).await.workspace;
    assert_eq!((&member.workspace, &admin.workspace), (&home, &home));
    assert_ne!(member.kind, admin.kind);
}

/// Searching is for admins; it shows all keys of the workspace, the admin's own among them.
pub async fn an_admin_lists_the_keys_of_its_workspace(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("ci")).await;
    world.admin_of("elsewhere").await;
    let page = world.keys().search(&Search::all()).await.expect("an admin searches");
    let names: Vec<_> = page.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["ci", "first admin"]);
}

/// Reading a key is for admins, by its id and by its access key.
pub async fn an_admin_reads_a_key_of_its_workspace(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::member(named("ci"))).await;
    assert_eq!(world.record(&created.record.id).await, created.record);
    let access_key = created.access_key.expect("an access key was made");
    let found = world.keys().get_by_access_key(&access_key).await;
    assert_eq!(found.expect("an admin looks a key up"), created.record);
}

/// Updating a key is for admins.
pub async fn an_admin_updates_a_key_of_its_workspace(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let updated = world.update(&key, |config| config.name = named("renamed").name).await;
    assert_eq!(updated.expect("an admin updates").name.as_str(), "renamed");
}

/// Deleting a key is for admins.
pub async fn an_admin_deletes_a_key_of_its_workspace(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    world.keys().delete(&key).await.expect("an admin deletes");
    assert_refused!(world.keys().get(&key).await, KeysError::NotFound(_));
}

/// Usage is for admins of the workspace, too.
pub async fn an_admin_reads_the_usage_of_any_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_day(5))).await;
    world.admit(&key, None, 2).await;
    let usage = world.keys().usage(&key).await.expect("an admin reads usage");
    assert_eq!(usage.global.map(|global| global.day.requests.used), Some(2));
    assert!(world.keys().usage(&world.admin).await.is_ok());
}

/// Admin keys manage keys and make no calls; the denial charges nothing.
pub async fn an_admin_makes_no_calls(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let admin = world.another_admin(named("admin").with_global(requests_per_day(5))).await;
    let decision = world.check(&admin, "m1", tokens(1, 1)).await;
    assert_eq!(decision.denied().map(|denied| denied.reason()), Some(&DenialReason::AdminKey));
    let usage = world.usage(&admin).await;
    assert_eq!(usage.global.map(|global| global.day.requests.used), Some(0));
}

/// Creating is not for members.
pub async fn a_member_may_not_create_keys(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci")).await;
    let refused = as_caller(&world, &member).create(NewKey::member(named("mine"))).await;
    assert_refused!(refused, KeysError::Forbidden);
    let keys = world.keys().search(&Search::all()).await.expect("an admin searches").keys;
    assert_eq!(keys.len(), 2, "nothing was created");
}

/// Searching is not for members.
pub async fn a_member_may_not_list_keys(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci")).await;
    assert_refused!(as_caller(&world, &member).search(&Search::all()).await, KeysError::Forbidden);
}

/// Reading keys is not for members, not even their own; the answer does not tell whether there is such a key.
pub async fn a_member_may_not_read_keys(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci")).await;
    for key in [&member, &world.admin, &key_id("never made")] {
        assert_refused!(as_caller(&world, &member).get(key).await, KeysError::Forbidden);
    }
    let secret = access_key("nobody-has-this-key");
    let refused = as_caller(&world, &member).get_by_access_key(&secret).await;
    assert_refused!(refused, KeysError::Forbidden);
}

/// Updating is not for members, not even of their own key.
pub async fn a_member_may_not_update_keys(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci")).await;
    let before = world.record(&member).await;
    let raised = before.config().with_global(requests_per_day(1_000_000));
    for key in [&member, &world.admin, &key_id("never made")] {
        let refused = as_caller(&world, &member).update(key, 1, &raised).await;
        assert_refused!(refused, KeysError::Forbidden);
    }
    assert_eq!(world.record(&member).await, before);
}

/// Deleting is not for members, not even of their own key.
pub async fn a_member_may_not_delete_keys(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci")).await;
    let other = world.member(named("other")).await;
    for key in [&member, &other, &key_id("never made")] {
        assert_refused!(as_caller(&world, &member).delete(key).await, KeysError::Forbidden);
    }
    assert!(world.keys().get(&other).await.is_ok(), "nothing was deleted");
}

/// A member reads its own usage, by its id or without it.
pub async fn a_member_reads_its_own_usage(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci").with_global(requests_per_day(5))).await;
    world.admit(&member, None, 2).await;
    let keys = as_caller(&world, &member);
    let usage = keys.usage(&member).await.expect("a member reads its own usage");
    assert_eq!(usage, world.usage(&member).await);
    assert_eq!(keys.own_usage().await.expect("a member reads its own usage"), usage);
}

/// The usage of others is not for members; the answer does not tell whether there is such a key.
pub async fn a_member_may_not_read_the_usage_of_others(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci")).await;
    let other = world.member(named("other")).await;
    let foreign = world.admin_of("elsewhere").await;
    for key in [&other, &world.admin, &foreign, &key_id("never made")] {
        assert_refused!(as_caller(&world, &member).usage(key).await, KeysError::Forbidden);
    }
}

/// Who holds an access key is the key it belongs to, with its rights.
pub async fn an_access_key_has_the_rights_of_its_key(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let admin = world.create(NewKey::admin(named("admin"))).await.access_key;
    let member = world.create(NewKey::member(named("member"))).await.access_key;
    let [admin, member] = [admin, member].map(|key| key.expect("an access key was made"));
    assert!(world.engine.keys(&admin).search(&Search::all()).await.is_ok());
    assert!(world.engine.keys(&member).own_usage().await.is_ok());
    assert_refused!(world.engine.keys(&member).search(&Search::all()).await, KeysError::Forbidden);
}

/// Nobody's access key and an id that never existed have no rights.
pub async fn a_caller_that_never_existed_is_unknown(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let secret = access_key("nobody-has-this-key");
    is_refused_everything(&world, &key_id("never made"), Reason::Unknown).await;
    assert_refused!(
        world.engine.keys(&secret).search(&Search::all()).await,
        KeysError::UnknownCaller
    );
    assert_refused!(world.engine.keys(&secret).own_usage().await, KeysError::UnknownCaller);
}

/// A deleted admin has no rights from then on, also within a `Keys` that it obtained before.
pub async fn a_deleted_caller_is_unknown(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let created = world.create(NewKey::admin(named("admin"))).await;
    let secret = created.access_key.expect("an access key was made");
    let keys = world.engine.keys(&secret);
    assert!(keys.search(&Search::all()).await.is_ok());
    world.keys().delete(&created.record.id).await.expect("an admin deletes another");
    assert_refused!(keys.search(&Search::all()).await, KeysError::UnknownCaller);
    is_refused_everything(&world, &created.record.id, Reason::Unknown).await;
}

/// An admin may delete itself while another remains, and then is unknown.
pub async fn an_admin_may_delete_itself_if_another_remains(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let leaving = world.another_admin(named("leaving")).await;
    as_caller(&world, &leaving).delete(&leaving).await.expect("an admin remains");
    is_refused_everything(&world, &leaving, Reason::Unknown).await;
}

/// From the instant of its expiry on, an admin has no rights; put off by another admin, it has them again.
pub async fn an_expired_caller_has_no_rights(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let admin = world.another_admin(named("admin").with_expiry(NOON.after(MINUTE))).await;
    world.clock.set(Timestamp::from_unix_ms(NOON.after(MINUTE).unix_ms() - 1));
    assert!(as_caller(&world, &admin).search(&Search::all()).await.is_ok());
    world.clock.set(NOON.after(MINUTE));
    is_refused_everything(&world, &admin, Reason::Expired).await;
    let prolonged = world.update(&admin, |config| config.expires_at = None).await;
    prolonged.expect("an admin prolongs another");
    assert!(as_caller(&world, &admin).search(&Search::all()).await.is_ok());
}

/// An expired member does not even read its own usage; its admin does.
pub async fn an_expired_member_reads_nothing(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let member = world.member(named("ci").with_expiry(NOON)).await;
    assert_refused!(as_caller(&world, &member).own_usage().await, KeysError::ExpiredCaller);
    assert!(world.keys().usage(&member).await.is_ok());
}

fn as_caller<'a, S: Store>(world: &'a World<S>, caller: &'a KeyId) -> Keys<'a> {
    world.engine.keys_as(caller)
}

#[derive(Clone, Copy)]
enum Reason {
    Unknown,
    Expired,
}

async fn is_refused_everything<S: Store>(world: &World<S>, caller: &KeyId, reason: Reason) {
    let keys = as_caller(world, caller);
    let refusals = [
        keys.create(NewKey::member(named("mine"))).await.map(drop),
        keys.search(&Search::all()).await.map(drop),
        keys.get(&world.admin).await.map(drop),
        keys.get_by_access_key(&access_key("nobody-has-this-key")).await.map(drop),
        keys.update(&world.admin, 1, &named("mine")).await.map(drop),
        keys.delete(&world.admin).await,
        keys.usage(&world.admin).await.map(drop),
        keys.usage(caller).await.map(drop),
        keys.own_usage().await.map(drop),
    ];
    for refusal in refusals {
        match reason {
            Reason::Unknown => assert_refused!(refusal, KeysError::UnknownCaller),
            Reason::Expired => assert_refused!(refusal, KeysError::ExpiredCaller),
        }
    }
}
