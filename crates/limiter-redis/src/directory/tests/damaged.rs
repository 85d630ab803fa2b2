//! One key's data is damaged: it alone cannot be read, and it can be deleted. Once, a workspace could neither be listed
//! nor healed until an operator edited Redis.

use limiter_core::{DamagedKey, KeysError, NewRecord, Search, StoreError};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::chance::Token;
use super::super::change::{Begin, Intent};
use super::super::pointer::Pointer;
use super::{LEASE, World, admin, config, home, id, member, secret_of, with_secret};
use crate::servers::faults::{ALL, Fault};

const SECRET: &str = "abcd-of-the-damaged-wxyz";

/// Damage that another program has done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    StateGone,
    StateShort,
    StateOfAnotherType,
    RecordGone,
    RecordShort,
    RecordWithoutWorkspace,
    RecordOfAnotherType,
    RecordOfAnotherKey,
}

const DAMAGES: [Damage; 8] = [
    Damage::StateGone,
    Damage::StateShort,
    Damage::StateOfAnotherType,
    Damage::RecordGone,
    Damage::RecordShort,
    Damage::RecordWithoutWorkspace,
    Damage::RecordOfAnotherType,
    Damage::RecordOfAnotherKey,
];

async fn damage(world: &World, key: &str, damage: Damage) {
    let (state, record) = (world.keyspace.hot(&id(key)), world.keyspace.record(&id(key)));
    let command = |name: &str, key: &[u8]| {
        let mut command = redis::cmd(name);
        command.arg(key);
        command
    };
    let _: redis::Value = match damage {
        Damage::StateGone => world.command(&mut command("DEL", &state)).await,
        Damage::StateShort => {
            world.command(command("HSET", &state).arg("g").arg(b"\x01short")).await
        }
        Damage::StateOfAnotherType => world.command(command("SET", &state).arg("text")).await,
        Damage::RecordGone => world.command(&mut command("DEL", &record)).await,
        Damage::RecordShort => world.command(command("HDEL", &record).arg("name")).await,
        Damage::RecordWithoutWorkspace => {
            world.command(command("HDEL", &record).arg("workspace").arg("digest")).await
        }
        Damage::RecordOfAnotherType => world.command(command("SET", &record).arg("text")).await,
        Damage::RecordOfAnotherKey => {
            world.command(command("HSET", &record).arg("id").arg("other")).await
        }
    };
}

#[tokio::test]
async fn a_damaged_key_is_named_and_the_others_are_listed() {
    for case in DAMAGES {
        let world = World::new().await;
        for name in ["a", "b", "c"] {
            world.create(member(name)).await.unwrap();
        }
        damage(&world, "b", case).await;
        let page = world.directory.list(&home(), &Search::all()).await.unwrap();
        assert_eq!(names(&page.keys), ["a", "c"], "{case:?}");
        assert_eq!(page.damaged, [DamagedKey { id: id("b"), name: "b".parse().unwrap() }]);
        assert_eq!(page.next, None, "{case:?}");

        // Each row of a page counts, so that no page is longer than asked for.
        let mut search = Some(Search::all().page_size(1));
        let mut rows = Vec::new();
        while let Some(page_of) = search {
            let page = world.directory.list(&home(), &page_of).await.unwrap();
            assert_eq!(page.keys.len() + page.damaged.len(), 1, "{case:?}: {page:?}");
            rows.extend(names(&page.keys));
            rows.extend(page.damaged.iter().map(|key| format!("{} is damaged", key.name)));
            search = page_of.following(&page);
        }
        assert_eq!(rows, ["a", "b is damaged", "c"], "{case:?}");
        assert_eq!(world.indexed_names().await, ["a", "b", "c"], "{case:?}: it keeps its name");

        let config = config("a").with_shadow(true);
        world.directory.update(&home(), &id("a"), 1, &config).await.unwrap();
        world.directory.update(&home(), &id("a"), 2, &super::config("a2")).await.unwrap();
        world.directory.delete(&home(), &id("c")).await.unwrap();
        world.create(member("d")).await.unwrap();
        let updated = world.directory.update(&home(), &id("b"), 1, &super::config("b")).await;
        assert!(matches!(updated, Err(KeysError::Store(StoreError::Corrupt(_)))), "{updated:?}");
    }
}

#[tokio::test]
async fn a_damaged_key_is_deleted_with_all_that_is_known_of_it() {
    for case in DAMAGES {
        let world = World::new().await;
        world.create(admin("first")).await.unwrap();
        let before = (world.keys_in_redis().await, world.taken().await);
        let key = || with_secret(admin("b"), SECRET);
        world.create(key()).await.unwrap();
        damage(&world, "b", case).await;

        for taken in [
            NewRecord { id: id("other"), ..member("b") },
            with_secret(member("other"), "abcd-with-the-same-ends-wxyz"),
            member("b"),
        ] {
            let refused = world.create(taken).await;
            assert!(
                matches!(
                    refused,
                    Err(KeysError::NameTaken(_)
                        | KeysError::AccessKeyTaken
                        | KeysError::IdTaken(_))
                ),
                "{case:?}: {refused:?}"
            );
        }
        let elsewhere = "elsewhere".parse().unwrap();
        let foreign = world.directory.delete(&elsewhere, &id("b")).await;
        assert!(matches!(foreign, Err(KeysError::NotFound(_))), "{case:?}: {foreign:?}");

        world.directory.delete(&home(), &id("b")).await.unwrap();
        let page = world.directory.list(&home(), &Search::all()).await.unwrap();
        assert_eq!((names(&page.keys), page.damaged), (vec!["first".into()], Vec::new()));
        let again = world.directory.delete(&home(), &id("b")).await;
        assert!(matches!(again, Err(KeysError::NotFound(_))), "{case:?}: {again:?}");
        // The first is the last permanent admin again.
        let last = world.directory.delete(&home(), &id("first")).await;
        assert!(matches!(last, Err(KeysError::LastAdmin)), "{case:?}: {last:?}");
        assert_eq!(world.resolve(SECRET).await, None, "{case:?}");
        // Where the record has no digest any more, the pointer stays behind, and blocks no key.
        let digest_known = !matches!(
            case,
            Damage::RecordGone | Damage::RecordOfAnotherType | Damage::RecordWithoutWorkspace
        );
        let left = usize::from(!digest_known);
        let after = (world.keys_in_redis().await - left, world.taken().await);
        assert_eq!(after, before, "{case:?}");
        if digest_known {
            world.create(key()).await.unwrap();
            assert_eq!(world.resolve(SECRET).await, Some(id("b")), "{case:?}");
        } else {
            world.create(NewRecord { secret: None, ..key() }).await.unwrap();
        }
        assert_eq!(world.names().await, ["b", "first"], "{case:?}");
    }
}

#[tokio::test]
async fn the_last_permanent_admin_is_not_deleted_though_damaged() {
    let world = World::new().await;
    world.create(admin("first")).await.unwrap();
    damage(&world, "first", Damage::StateGone).await;
    let last = world.directory.delete(&home(), &id("first")).await;
    assert!(matches!(last, Err(KeysError::LastAdmin)), "{last:?}");
}

#[tokio::test]
async fn what_a_later_version_wrote_is_not_deleted() {
    let world = World::new().await;
    world.create(member("new")).await.unwrap();
    let record = world.keyspace.record(&id("new"));
    let _: () = world.command(redis::cmd("HSET").arg(record).arg("format").arg("9")).await;
    let page = world.directory.list(&home(), &Search::all()).await.unwrap();
    assert_eq!(page.damaged.len(), 1, "{page:?}");
    let deleted = world.directory.delete(&home(), &id("new")).await;
    let Err(KeysError::Store(StoreError::Corrupt(cause))) = deleted else { panic!("{deleted:?}") };
    assert!(cause.to_string().contains("upgrade"), "{cause}");
    assert_eq!(world.indexed_names().await, ["new"]);
}

/// A change that was under way when the key was damaged ends with the lease.
#[tokio::test]
async fn a_change_of_a_damaged_key_that_was_left_behind_blocks_nobody() {
    for next in ["list", "create", "delete"] {
        let world = World::with_short_lease().await;
        world.create(member("a")).await.unwrap();
        world.create(with_secret(member("b"), SECRET)).await.unwrap();
        let digest = secret_of(SECRET).digest;
        let claim = world.directory.pointers.read(&digest).await.unwrap().unwrap().claim;
        let b = id("b");
        let pointer = Some(Pointer { digest, claim });
        let intent = Intent { ceases_as_admin: Some(&b), ..Intent::with_pointer(&b, pointer) };
        let begun = world.directory.changes.begin(&home(), &Token::draw(), &intent).await;
        assert!(matches!(begun, Ok(Begin::Begun(..))), "{begun:?}");
        damage(&world, "b", Damage::StateGone).await;
        sleep(LEASE).await;
        match next {
            "list" => {}
            "create" => drop(world.create(member("c")).await.unwrap()),
            _ => world.directory.delete(&home(), &b).await.unwrap(),
        }
        let page = world.directory.list(&home(), &Search::all()).await.unwrap();
        assert!(names(&page.keys).contains(&"a".to_owned()), "{next}");
        assert_eq!(page.damaged.len(), usize::from(next != "delete"), "{next}: {page:?}");
        assert!(!world.is_changing().await, "{next}");
        world.directory.delete(&home(), &id("a")).await.unwrap();
        if next != "delete" {
            world.directory.delete(&home(), &b).await.unwrap();
        }
        world.create(with_secret(member("b"), SECRET)).await.unwrap();
    }
}

#[tokio::test]
async fn a_deletion_of_a_damaged_key_with_a_fault() {
    let mut cases = JoinSet::new();
    for script in ["remains", "workspace_begin", "remove", "pointer_remove", "workspace_finish"] {
        for fault in ALL {
            cases.spawn(deletion_with(script, fault));
        }
    }
    cases.join_all().await;
}

async fn deletion_with(script: &'static str, fault: Fault) {
    let world = World::with_short_lease().await;
    world.create(member("a")).await.unwrap();
    world.create(with_secret(member("b"), SECRET)).await.unwrap();
    damage(&world, "b", Damage::StateGone).await;
    world.servers.faults.once(script, fault);
    let deleted = world.directory.delete(&home(), &id("b")).await;
    let case = format!("{script} {fault:?}: {deleted:?}");
    assert!(world.servers.faults.have_happened(), "{case}");
    let exists = world.directory.records.read(&id("b")).await.is_err();
    match &deleted {
        Ok(()) => assert!(!exists, "{case}"),
        Err(KeysError::Store(StoreError::Unavailable(_))) => assert!(exists, "{case}"),
        Err(KeysError::Store(StoreError::OutcomeUnknown(_))) => {
            assert_eq!((script, exists), ("remove", fault == Fault::NeverArrived), "{case}");
        }
        Err(_) => panic!("{case}"),
    }
    sleep(LEASE).await;
    let page = world.directory.list(&home(), &Search::all()).await.unwrap();
    assert_eq!((page.keys.len(), page.damaged.len()), (1, usize::from(exists)), "{case}");
    if exists {
        world.directory.delete(&home(), &id("b")).await.unwrap();
    }
    world.create(with_secret(member("b"), SECRET)).await.unwrap();
    assert_eq!(world.names().await, ["a", "b"], "{case}");
    assert!(!world.is_changing().await, "{case}");
}

fn names(keys: &[limiter_core::KeyRecord]) -> Vec<String> {
    keys.iter().map(|key| key.name.to_string()).collect()
}
