//! One key's data is damaged: it alone cannot be read, and it can be deleted. Once, a workspace could neither be listed
//! nor healed until an operator edited Redis.

use limiter_core::{DamagedKey, KeysError, NewRecord, Search, StoreError};
use tokio::time::sleep;

use super::super::change::Intent;
use super::super::pointer::Pointer;
use super::{
    LEASE, World, admin, config, home, id, member, names, secret_of, set_name, some_day,
    with_secret,
};

const SECRET: &str = "abcd-of-the-damaged-wxyz";

/// Damage that another program does to a key: what, whether the digest of its access key is left, whether it hits the
/// record or else the state, and the command.
pub(super) type Damage = (&'static str, bool, bool, &'static [&'static str]);

pub(super) const STATE_GONE: Damage = ("no state", true, false, &["DEL"]);
const DAMAGES: [Damage; 8] = [
    STATE_GONE,
    ("a short state", true, false, &["HSET", "g", "\x01short"]),
    ("a state of another type", true, false, &["SET", "text"]),
    ("no record", false, true, &["DEL"]),
    ("a short record", true, true, &["HDEL", "name"]),
    ("a record without workspace", false, true, &["HDEL", "workspace", "digest"]),
    ("a record of another type", false, true, &["SET", "text"]),
    ("the record of another key", true, true, &["HSET", "id", "other"]),
];

pub(super) async fn damage(world: &World, key: &str, (_, _, is_record, command): Damage) {
    let (key, keyspace) = (id(key), &world.keyspace);
    let key = if is_record { keyspace.record(&key) } else { keyspace.hot(&key) };
    let [name, arguments @ ..] = command else { panic!("no command") };
    let _: redis::Value = world.command(redis::cmd(name).arg(key).arg(arguments)).await;
}

#[tokio::test]
async fn a_damaged_key_is_named_and_the_others_are_listed() {
    for done in DAMAGES {
        let case = done.0;
        let world = World::new().await;
        for name in ["a", "b", "c"] {
            world.create(member(name)).await.unwrap();
        }
        damage(&world, "b", done).await;
        let page = world.page().await;
        assert_eq!(names(&page.keys), ["a", "c"], "{case}");
        assert_eq!(page.damaged, [DamagedKey { id: id("b"), name: "b".parse().unwrap() }]);
        assert_eq!(page.next, None, "{case}");

        // Each row of a page counts, so that no page is longer than asked for.
        let mut search = Some(Search::all().page_size(1));
        let mut rows = Vec::new();
        while let Some(page_of) = search {
            let page = world.directory.list(&home(), &page_of).await.unwrap();
            assert_eq!(page.keys.len() + page.damaged.len(), 1, "{case}: {page:?}");
            rows.extend(names(&page.keys));
            rows.extend(page.damaged.iter().map(|key| format!("{} is damaged", key.name)));
            search = page_of.following(&page);
        }
        assert_eq!(rows, ["a", "b is damaged", "c"], "{case}");
        assert_eq!(world.indexed_names().await, ["a", "b", "c"], "{case}: it keeps its name");

        let config = config("a").with_shadow(true);
        world.update("a", 1, &config).await.unwrap();
        world.update("a", 2, &super::config("a2")).await.unwrap();
        world.delete("c").await.unwrap();
        world.create(member("d")).await.unwrap();
        let updated = world.update("b", 1, &super::config("b")).await;
        assert_is!(updated, Err(KeysError::Store(StoreError::Corrupt(_))));
    }
}

#[tokio::test]
async fn a_damaged_key_is_deleted_with_all_that_is_known_of_it() {
    for done in DAMAGES {
        let case = done.0;
        let world = World::new().await;
        world.create(admin("first")).await.unwrap();
        let before = (world.keys_in_redis().await, world.taken().await);
        let key = || with_secret(admin("b"), SECRET);
        world.create(key()).await.unwrap();
        damage(&world, "b", done).await;

        for taken in [
            NewRecord { id: id("other"), ..member("b") },
            with_secret(member("other"), "abcd-with-the-same-ends-wxyz"),
            member("b"),
        ] {
            let refused = world.create(taken).await;
            assert_is!(
                refused,
                Err(KeysError::NameTaken(_) | KeysError::AccessKeyTaken | KeysError::IdTaken(_)),
                "{case}"
            );
        }
        let elsewhere = "elsewhere".parse().unwrap();
        let foreign = world.directory.delete(&elsewhere, &id("b")).await;
        assert_is!(foreign, Err(KeysError::NotFound(_)), "{case}");

        world.delete("b").await.unwrap();
        let page = world.page().await;
        assert_eq!((names(&page.keys), page.damaged), (vec!["first".into()], Vec::new()));
        let again = world.delete("b").await;
        assert_is!(again, Err(KeysError::NotFound(_)), "{case}");
        // The first is the last permanent admin again.
        assert_is!(world.delete("first").await, Err(KeysError::LastAdmin), "{case}");
        assert_eq!(world.resolve(SECRET).await, None, "{case}");
        // Where the record has no digest any more, the pointer stays behind, and blocks no key.
        let (_, digest_known, ..) = done;
        let left = usize::from(!digest_known);
        let after = (world.keys_in_redis().await - left, world.taken().await);
        assert_eq!(after, before, "{case}");
        if digest_known {
            world.create(key()).await.unwrap();
            assert_eq!(world.resolve(SECRET).await, Some(id("b")), "{case}");
        } else {
            world.create(NewRecord { secret: None, ..key() }).await.unwrap();
        }
        assert_eq!(world.names().await, ["b", "first"], "{case}");
    }
}

/// Once, the index was repaired by a damaged record that had the name of another key. The other key was not listed any more,
/// not even after the damaged one was restored.
#[tokio::test]
async fn a_record_with_the_name_of_another_key_does_not_take_it() {
    for taken in ["a", "c"] {
        let world = World::new().await;
        for name in ["a", "b", "c"] {
            world.create(member(name)).await.unwrap();
        }
        let damaged = [DamagedKey { id: id("b"), name: "b".parse().unwrap() }];
        for _ in 0..2 {
            set_name(&world, "b", taken).await;
            let page = world.page().await;
            assert_eq!(
                (names(&page.keys), &page.damaged[..]),
                (vec!["a".into(), "c".into()], &damaged[..])
            );
            // The name of its record is on another page than that of its entry.
            let after_a = Search::all().page_size(1).after("a".parse().unwrap());
            let page = world.directory.list(&home(), &after_a).await.unwrap();
            assert_eq!((names(&page.keys), &page.damaged[..]), (Vec::new(), &damaged[..]));
            assert_eq!(world.indexed_names().await, ["a", "b", "c"], "{taken}");
            let found = world.directory.find(&home(), &taken.parse().unwrap()).await.unwrap();
            assert_eq!(found, Some(id(taken)));

            set_name(&world, "b", "b").await;
            let page = world.page().await;
            assert_eq!(
                (names(&page.keys), page.damaged),
                (["a", "b", "c"].map(Into::into).into(), Vec::new())
            );
        }
        // Another name, or a deletion, ends it too.
        set_name(&world, "b", taken).await;
        world.update("b", 1, &config("d")).await.unwrap();
        assert_eq!(world.names().await, ["a", "c", "d"]);
        set_name(&world, "b", taken).await;
        world.delete("b").await.unwrap();
        assert_eq!(world.names().await, ["a", "c"]);
        assert_eq!(world.indexed_names().await, ["a", "c"]);
    }
}

/// A change makes the index agree with the record, whether its own client ends it or another one.
#[tokio::test]
async fn a_change_of_a_record_with_the_name_and_the_mask_of_another_key_takes_neither() {
    let world = World::with_short_lease().await;
    let of_a = "abcd-of-the-other-wxyz";
    world.create(with_secret(member("a"), of_a)).await.unwrap();
    world.create(with_secret(admin("b"), "efgh-of-the-damaged-stuv")).await.unwrap();
    world.create(admin("c")).await.unwrap();
    let masked = secret_of(of_a).masked.to_string();
    let record = world.keyspace.record(&id("b"));
    let mut claims = redis::cmd("HSET");
    claims.arg(record).arg("name").arg("a").arg("masked").arg(masked);
    let _: () = world.command(&mut claims).await;
    let before = world.taken().await;

    world.begin(&Intent::of(&id("b"))).await;
    let page = world.page().await;
    assert!(page.keys.iter().any(|key| key.id == id("a")), "under way: {page:?}");
    sleep(LEASE).await;
    let page = world.page().await;
    assert_eq!((names(&page.keys), page.damaged.len()), (vec!["a".into(), "c".into()], 1));
    assert!(!world.is_changing().await, "the change that was left behind is finished");
    // It is no permanent admin any more, so that its entry is written.
    world.update("b", 1, &config("a").with_expiry(some_day())).await.unwrap();
    let page = world.page().await;
    assert_eq!((names(&page.keys), page.damaged.len()), (vec!["a".into(), "c".into()], 1));
    assert_eq!(
        (world.indexed_names().await, world.taken().await),
        (["a", "b", "c"].map(Into::into).into(), before)
    );

    world.delete("b").await.unwrap();
    for taken in [member("a"), with_secret(member("d"), "abcd-with-the-same-ends-wxyz")] {
        let refused = world.create(NewRecord { id: id("d"), ..taken }).await;
        assert_is!(refused, Err(KeysError::NameTaken(_) | KeysError::AccessKeyTaken));
    }
}

#[tokio::test]
async fn the_last_permanent_admin_is_not_deleted_though_damaged() {
    let world = World::new().await;
    world.create(admin("first")).await.unwrap();
    damage(&world, "first", STATE_GONE).await;
    assert_is!(world.delete("first").await, Err(KeysError::LastAdmin));
}

#[tokio::test]
async fn what_a_later_version_wrote_is_not_deleted() {
    let world = World::new().await;
    world.create(member("new")).await.unwrap();
    let record = world.keyspace.record(&id("new"));
    let _: () = world.command(redis::cmd("HSET").arg(record).arg("format").arg("9")).await;
    let page = world.page().await;
    assert_eq!(page.damaged.len(), 1, "{page:?}");
    let deleted = world.delete("new").await;
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
        let pointers = vec![Pointer { digest, claim }];
        let intent = Intent { ceases_as_admin: Some(&b), ..Intent::with_pointers(&b, pointers) };
        world.begin(&intent).await;
        damage(&world, "b", STATE_GONE).await;
        sleep(LEASE).await;
        match next {
            "list" => {}
            "create" => drop(world.create(member("c")).await.unwrap()),
            _ => world.delete("b").await.unwrap(),
        }
        let page = world.page().await;
        assert!(names(&page.keys).contains(&"a".to_owned()), "{next}");
        assert_eq!(page.damaged.len(), usize::from(next != "delete"), "{next}: {page:?}");
        assert!(!world.is_changing().await, "{next}");
        world.delete("a").await.unwrap();
        if next != "delete" {
            world.delete("b").await.unwrap();
        }
        world.create(with_secret(member("b"), SECRET)).await.unwrap();
    }
}
