//! Searching by name, page by page.

use limiter_core::{KeyRecord, Page, Search, Store};

use super::StoreUnderTest;
use super::world::{NOON, World, named};

/// The keys of all pages, by the bytes of their names.
pub async fn pages_hold_every_key_once_and_in_order(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let mut expected = vec!["first admin".to_owned()];
    for number in 0..25 {
        let name = format!("key {number}");
        world.member(named(&name)).await;
        expected.push(name);
    }
    expected.sort();
    for size in [1, 7, 26, 1_000] {
        let found = all_pages(&world, Search::all().page_size(size)).await;
        assert_eq!(names(&found), expected, "pages of {size}");
    }
}

/// Upper and lower case are the same to a search, of every script that has both.
pub async fn a_search_ignores_case(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for name in ["CI runner", "nightly-ci", "ÉCOLE", "prod"] {
        world.member(named(name)).await;
    }
    for (text, expected) in [
        ("ci", vec!["CI runner", "nightly-ci"]),
        ("CI", vec!["CI runner", "nightly-ci"]),
        ("école", vec!["ÉCOLE"]),
    ] {
        let found = all_pages(&world, Search::all().name_contains(text)).await;
        assert_eq!(names(&found), expected, "{text}");
    }
}

/// What a search looks for is text, not a pattern.
pub async fn a_search_knows_no_wildcards(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for name in ["100% sure", "a*b", "a?b", "a[b]", "a\\b", "axb"] {
        world.member(named(name)).await;
    }
    for (text, expected) in
        [("%", "100% sure"), ("*", "a*b"), ("?", "a?b"), ("[b]", "a[b]"), ("\\", "a\\b")]
    {
        let found = all_pages(&world, Search::all().name_contains(text)).await;
        assert_eq!(names(&found), [expected], "{text}");
    }
    assert!(all_pages(&world, Search::all().name_contains("a.b")).await.is_empty());
}

/// A page is as large as asked for if there is enough, also when other names lie between.
pub async fn a_page_holds_matches_only(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for number in 0..20 {
        world
            .member(named(&format!("{number:02} {}", if number % 2 == 0 { "even" } else { "odd" })))
            .await;
    }
    let search = Search::all().name_contains("odd").page_size(4);
    let first = page(&world, &search).await;
    assert_eq!(names(&first.keys), ["01 odd", "03 odd", "05 odd", "07 odd"]);
    let second = page(&world, &search.following(&first).expect("there are more")).await;
    assert_eq!(names(&second.keys), ["09 odd", "11 odd", "13 odd", "15 odd"]);
}

/// Between two pages, the key on which the first ended is deleted, and keys before and behind it: none is missed or
/// shown twice.
pub async fn pages_are_stable_under_deletion(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let mut keys = Vec::new();
    for letter in ["a", "b", "c", "d", "e", "f"] {
        keys.push(world.member(named(letter)).await);
    }
    let search = Search::all().page_size(3);
    let first = page(&world, &search).await;
    assert_eq!(names(&first.keys), ["a", "b", "c"]);
    for deleted in [0, 2, 3] {
        world.keys().delete(&keys[deleted]).await.expect("an admin deletes");
    }
    let second = page(&world, &search.following(&first).expect("there are more")).await;
    assert_eq!(names(&second.keys), ["e", "f", "first admin"]);
}

/// A key created between two pages is shown if its name lies behind.
pub async fn pages_show_keys_created_meanwhile(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("b")).await;
    let search = Search::all().page_size(1);
    let first = page(&world, &search).await;
    for name in ["a", "c"] {
        world.member(named(name)).await;
    }
    let second = page(&world, &search.following(&first).expect("there are more")).await;
    assert_eq!(names(&second.keys), ["c"]);
}

/// Renamed keys are found by their new name, deleted ones not at all, expired ones as before.
pub async fn a_search_sees_the_present(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let renamed = world.member(named("old name")).await;
    let deleted = world.member(named("deleted name")).await;
    world.member(named("expired name").with_expiry(NOON)).await;
    world.update(&renamed, |config| config.name = named("new name").name).await.expect("an update");
    world.keys().delete(&deleted).await.expect("an admin deletes");
    let found = all_pages(&world, Search::all().name_contains("name")).await;
    assert_eq!(names(&found), ["expired name", "new name"]);
}

/// A page shows the same records as reading each key does.
pub async fn a_page_shows_whole_records(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    world.member(named("ci").with_global(super::world::requests_per_minute(5))).await;
    for record in all_pages(&world, Search::all()).await {
        assert_eq!(record, world.record(&record.id).await);
    }
}

async fn page<S: Store>(world: &World<S>, search: &Search) -> Page {
    world.keys().search(search).await.expect("an admin searches")
}

async fn all_pages<S: Store>(world: &World<S>, search: Search) -> Vec<KeyRecord> {
    let mut found = Vec::new();
    let mut next = Some(search);
    while let Some(search) = next {
        assert!(found.len() < 1_000, "the pages have no end");
        let page = page(world, &search).await;
        assert!(page.keys.len() <= search.limit());
        next = search.following(&page);
        found.extend(page.keys);
    }
    found
}

fn names(keys: &[KeyRecord]) -> Vec<&str> {
    keys.iter().map(|key| key.name.as_str()).collect()
}
