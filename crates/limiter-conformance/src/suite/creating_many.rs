//! Many keys at once: each has a result of its own, as if they were created one by one.

use std::collections::BTreeSet;

use limiter_core::{
    CreatedKey, InvalidValue, KeyConfig, KeyKind, Keys, KeysError, NewKey, NewRecord, Thresholds,
};

use super::extremes::with_assets;
use super::identities::scripted;
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // More than a store is asked for at a time. Limits are in force at once, and each access key belongs to its key.
    suite.story("many_keys_are_created_in_order", |world| {
        let count = if world.source.slowness >= 100 { 120 } else { 250 };
        let new = |number: u64| {
            let config = named(&format!("key {number}")).with_global(requests_per_day(number));
            NewKey::member(config)
        };
        let created = create_many(world, (0..count).map(new).collect());
        assert_eq!(created.len() as u64, count);
        let mut ids = BTreeSet::new();
        for (number, created) in (0..).zip(created) {
            let CreatedKey { record, access_key, .. } = created.expect("the name is free");
            assert_eq!(record.config.name.as_str(), format!("key {number}"));
            assert_eq!(record.config.global, requests_per_day(number));
            let access_key = access_key.expect("it was drawn");
            assert_eq!(record.access_key, Some(access_key.masked()));
            assert_eq!(world.resolved(&access_key).as_ref(), Some(&record.id));
            // 0 allows nothing, from the first call on.
            let allowed = world.key(record.id.clone()).peek(None, requests(1)).is_allowed();
            assert_eq!(allowed, number > 0, "{number}");
            ids.insert(record.id);
        }
        assert_eq!(ids.len() as u64, count);
        assert_eq!(world.names().len() as u64, count + 1);
    });

    // Each refusal is that of a key that is created alone.
    suite.story("one_that_is_refused_does_not_stop_the_others", |world| {
        let with_secret = |name, secret| member(name).with_access_key(access_key(secret));
        let taken = with_secret("taken", "abcd-the-first-one-wxyz").with_id(key_id("taken"));
        world.create(taken);
        let keys = [
            (member("a"), "a"),
            (member("taken"), "name"),
            (member("taken").with_id(key_id("taken")), "id"),
            (NewKey::admin(named("b")).without_access_key(), "b"),
            (with_secret("c", "abcd-the-first-one-wxyz"), "access key"),
            (with_secret("d", "abcd-of-same-ends-wxyz"), "d"),
            (NewKey::member(with_assets(KeyConfig::MAX_ASSETS + 1)), "invalid"),
            (member("f").with_id(key_id("chosen")), "f"),
        ];
        let created = creates(world, keys);
        assert_eq!(world.names(), ["a", "b", "d", "f", "first admin", "taken"]);
        assert!(created[3].as_ref().is_ok_and(|created| created.record.kind == KeyKind::Admin));
        assert_eq!(world.key(key_id("chosen")).read().config.name.as_str(), "f");
    });

    // A name, id or access key that two keys of a batch ask for goes to the first, unless that key is refused.
    suite.story("what_a_batch_takes_is_taken_within_it", |world| {
        let secret = || access_key("abcd-brought-with-two-wxyz");
        let new = |name, id| member(name).with_id(key_id(id));
        let keys = [
            (new("a", "1"), "a"),
            (new("a", "2"), "name"),
            (new("b", "1"), "id"),
            (new("b", "2").with_access_key(secret()), "b"),
            (new("c", "3").with_access_key(secret()), "access key"),
            (new("c", "3"), "c"),
        ];
        creates(world, keys);
        assert_eq!(world.names(), ["a", "b", "c", "first admin"]);
    });

    suite.story("many_keys_belong_to_the_workspace_of_their_admin", |world| {
        let stranger = world.admin_of("elsewhere");
        let created = stranger.keys().create_many(vec![member("a"), member("b")]).wait();
        for created in created.expect("an admin creates keys") {
            assert_eq!(created.expect("the name is free").record.workspace, workspace("elsewhere"));
        }
        assert_eq!(world.names(), ["first admin"]);
    });

    // One more is an error, and nothing is created. No key at all is none.
    suite.story("a_call_creates_a_bounded_number_of_keys", |world| {
        let max = Keys::MAX_CREATED_AT_ONCE;
        let keys = (0..=max).map(|number| member(&format!("{number}")));
        let refused = world.keys().create_many(keys.collect()).wait();
        assert_refused!(
            refused,
            KeysError::Invalid(InvalidValue::TooManyKeys { count, .. }) if count == max + 1
        );
        assert!(create_many(world, Vec::new()).is_empty());
        assert_eq!(world.names(), ["first admin"]);
    });

    suite.story("a_batch_bootstraps_no_second_time", |world| {
        let record = |name: &str, bootstraps| NewRecord {
            id: key_id(name),
            workspace: workspace("home"),
            kind: KeyKind::Admin,
            config: named(name),
            thresholds: Thresholds::default(),
            secret: None,
            bootstraps,
        };
        let records = vec![record("a", false), record("b", true), record("c", false)];
        let created = world.store.store().create_many(records).wait().expect("the store answers");
        let one_is_refused =
            matches!(created[..], [Ok(_), Err(KeysError::AlreadyBootstrapped), Ok(_)]);
        assert!(one_is_refused, "{created:?}");
        assert_eq!(world.names(), ["a", "c", "first admin"]);
    });

    // A batch that loses a name still gets its others.
    suite.story("batches_that_race_give_each_name_once", |world| {
        let batches = at_once(TASKS, |task| {
            let shared = (0..NAMES).map(|number| format!("shared {number}"));
            let own = (0..NAMES).map(|number| format!("of {task} {number}"));
            create_many(world, shared.chain(own).map(|it| member(&it)).collect())
        });
        let mut shared = 0;
        for (place, created) in batches.into_iter().flat_map(|batch| (0..).zip(batch)) {
            match created {
                Ok(_) => shared += usize::from(place < NAMES),
                Err(KeysError::NameTaken(_)) if place < NAMES => {}
                Err(error) => panic!("{place}: {error:?}"),
            }
        }
        assert_eq!(shared, NAMES);
        assert_eq!(world.names().len(), 1 + NAMES + TASKS * NAMES);
    });

    suite.story("generated_keys_that_collide_within_a_batch_are_made_again", |world| {
        let store = scripted(world, vec![1, 1, 2]);
        let new = |name: &str| member(name).with_id(key_id(name));
        let created = store.keys_as(&key_id("admin")).create_many(vec![new("a"), new("b")]).wait();
        let created = created.expect("an admin creates keys").into_iter();
        let access_keys = created.map(|created| {
            let access_key = created.expect("the name is free").access_key.expect("it was drawn");
            access_key.expose().to_owned()
        });
        assert_eq!(access_keys.collect::<Vec<_>>(), ["1".repeat(36), "2".repeat(36)]);
    });
}

fn create_many(world: &World, keys: Vec<NewKey>) -> Vec<Result<CreatedKey, KeysError>> {
    world.keys().create_many(keys).wait().expect("an admin creates keys").into_iter().collect()
}

/// Creates keys, and asserts for each its name, or what it was refused for.
#[track_caller]
fn creates<const COUNT: usize>(
    world: &World,
    keys: [(NewKey, &str); COUNT],
) -> Vec<Result<CreatedKey, KeysError>> {
    let (keys, expected): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let created = create_many(world, keys);
    let outcomes = created.iter().map(|created| match created {
        Ok(created) => created.record.config.name.as_str(),
        Err(KeysError::NameTaken(_)) => "name",
        Err(KeysError::IdTaken(_)) => "id",
        Err(KeysError::AccessKeyTaken) => "access key",
        Err(KeysError::Invalid(_)) => "invalid",
        Err(error) => panic!("{error:?}"),
    });
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
    created
}

const TASKS: usize = 4;
const NAMES: usize = 30;
