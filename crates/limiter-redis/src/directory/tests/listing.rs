//! Pages, and an index that a server has lost parts of.

use limiter_core::{KeyRecord, Search};

use super::{World, home, id, member, set_name};
use crate::keyspace::WorkspaceKey;

#[tokio::test]
async fn pages_hold_every_match_once_and_in_order() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for number in 0..300 {
        let name = format!("{}{number} ÉÀ🦀", if number % 3 == 0 { "Z" } else { "ä" });
        world.create(member(&name)).await.unwrap();
        expected.push(name);
    }
    expected.sort();
    for (size, text) in [(1, "z1"), (7, "éà"), (100, ""), (300, ""), (1_000, "")] {
        let search = Search::all().page_size(size).name_contains(text);
        let wanted =
            expected.iter().filter(|name| search.matches(&name.parse().unwrap(), &id("k")));
        let wanted: Vec<_> = wanted.cloned().collect();
        let mut found: Vec<KeyRecord> = Vec::new();
        let mut pages = 0;
        let mut next = Some(search);
        while let Some(search) = next {
            let page = world.directory.list(&home(), &search).await.unwrap();
            assert!(page.keys.len() <= size);
            next = search.following(&page);
            found.extend(page.keys);
            pages += 1;
        }
        let found: Vec<_> = found.iter().map(|key| key.config.name.to_string()).collect();
        assert_eq!(found, wanted, "pages of {size}");
        assert_eq!(pages, wanted.len().div_ceil(size), "no page is empty");
    }
}

#[tokio::test]
async fn an_entry_without_its_record_is_not_shown_and_goes() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.create(member(name)).await.unwrap();
    }
    let (state, record) = (world.keyspace.hot(&id("b")), world.keyspace.record(&id("b")));
    let _: () = world.command(redis::cmd("DEL").arg(state).arg(record)).await;
    assert_eq!(world.names().await, ["a", "c"]);
    assert_eq!(world.indexed_names().await, ["a", "c"]);
    world.create(member("b")).await.unwrap();
}

#[tokio::test]
async fn an_entry_under_a_wrong_name_is_put_right() {
    let world = World::new().await;
    world.create(member("a")).await.unwrap();
    // The server of the index has lost the last rename.
    set_name(&world, "a", "z").await;
    world.names().await;
    assert_eq!(world.names().await, ["z"]);
    assert_eq!(world.indexed_names().await, ["z"]);
}

#[tokio::test]
async fn keys_that_got_the_names_of_each_other_are_put_right() {
    for renamed in [["b", "a", "c"], ["b", "c", "a"], ["b", "c", "z"], ["0", "a", "b"]] {
        let world = World::new().await;
        let ids = ["a", "b", "c"];
        for name in ids {
            world.create(member(name)).await.unwrap();
        }
        // The server of the index has lost several renames.
        for (key, name) in ids.into_iter().zip(renamed) {
            set_name(&world, key, name).await;
        }
        world.page().await;
        let page = world.page().await;
        assert_eq!((page.keys.len(), page.damaged), (3, Vec::new()), "{renamed:?}");
        for (key, name) in ids.into_iter().zip(renamed) {
            let found = world.directory.find(&home(), &name.parse().unwrap()).await.unwrap();
            assert_eq!(found, Some(id(key)), "{renamed:?}: {name}");
        }
        let mut sorted = renamed;
        sorted.sort_unstable();
        assert_eq!(world.indexed_names().await, sorted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_renamed_all_the_time_is_always_listed() {
    let world = World::new().await;
    for name in ["a", "m", "z"] {
        world.create(member(name)).await.unwrap();
    }
    let directory = world.directory.clone();
    let renaming = tokio::spawn(async move {
        for version in 1..200 {
            let name = if version % 2 == 0 { "m" } else { "n" };
            let update = super::update("m", version, &super::config(name));
            directory.update(&home(), &update).await.unwrap();
        }
    });
    let mut looks = 0;
    while !renaming.is_finished() {
        let names = world.names().await;
        assert_eq!(names.len(), 3, "{names:?}");
        looks += 1;
    }
    renaming.await.unwrap();
    assert!(looks > 10, "{looks}");
}

#[tokio::test]
async fn a_change_from_before_the_clock_stepped_back_blocks_nobody() {
    let world = World::new().await;
    let change = world.keyspace.workspace(WorkspaceKey::Change, &home());
    let mut left = redis::cmd("HSET");
    left.arg(change).arg("token").arg("x").arg("began").arg("9000000000000");
    left.arg("lease").arg("10000").arg("journal").arg("- - 1 a");
    let _: () = world.command(&mut left).await;
    world.create(member("a")).await.unwrap();
}
