//! Searching by name, page by page.

use limiter_core::{KeyRecord, Search};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // By the bytes of their names.
    suite.story("pages_hold_every_key_once_and_in_order", |world| {
        let mut expected: Vec<_> = (0..25).map(|number| format!("key {number}")).collect();
        for name in &expected {
            world.member(named(name));
        }
        expected.push("first admin".to_owned());
        expected.sort();
        for size in [1, 7, 26, 1_000] {
            let found = all_pages(world, Search::all().page_size(size));
            assert_eq!(names(&found), expected, "pages of {size}");
        }
    });

    // In every script that has upper and lower case. There are no wildcards.
    suite.story("a_search_finds_a_part_of_a_name_and_ignores_case", |world| {
        for name in
            ["100% sure", "CI runner", "a*b", "a?b", "a[b]", "a\\b", "axb", "nightly-ci", "ÉCOLE"]
        {
            world.member(named(name));
        }
        let of_ci = &["CI runner", "nightly-ci"][..];
        for (text, expected) in [
            ("ci", of_ci),
            ("CI", of_ci),
            ("école", &["ÉCOLE"]),
            ("%", &["100% sure"]),
            ("*", &["a*b"]),
            ("?", &["a?b"]),
            ("[b]", &["a[b]"]),
            ("\\", &["a\\b"]),
            ("a.b", &[]),
        ] {
            let found = all_pages(world, Search::all().name_contains(text));
            assert_eq!(names(&found), expected, "{text}");
        }
    });

    // A page is as large as asked for if there is enough, also when other names lie between.
    suite.story("a_page_holds_matches_only", |world| {
        for number in 0..20 {
            let parity = if number % 2 == 0 { "even" } else { "odd" };
            world.member(named(&format!("{number:02} {parity}")));
        }
        let search = Search::all().name_contains("odd").page_size(4);
        let first = world.search(&search);
        assert_eq!(names(&first.keys), ["01 odd", "03 odd", "05 odd", "07 odd"]);
        let second = world.search(&search.following(&first).expect("there are more"));
        assert_eq!(names(&second.keys), ["09 odd", "11 odd", "13 odd", "15 odd"]);
    });

    // The key on which the first page ended is deleted, and keys before and behind it: none is missed or shown twice. Keys
    // that are created meanwhile are shown if their names lie behind.
    suite.story("pages_are_stable_under_changes", |world| {
        let keys = ["a", "b", "c", "d", "e", "f"].map(|letter| world.member(named(letter)));
        let search = Search::all().page_size(3);
        let first = world.search(&search);
        assert_eq!(names(&first.keys), ["a", "b", "c"]);
        for deleted in [0, 2, 3] {
            keys[deleted].delete();
        }
        for name in ["aa", "dd"] {
            world.member(named(name));
        }
        let second = world.search(&search.following(&first).expect("there are more"));
        assert_eq!(names(&second.keys), ["dd", "e", "f"]);
    });

    // Renamed keys are found by their new name, deleted ones not at all, expired ones as before.
    suite.story("a_search_sees_the_present", |world| {
        world.member(named("old name")).update(|config| config.name = named("new name").name);
        world.member(named("deleted name")).delete();
        world.member(named("expired name").with_expiry(NOON));
        let found = all_pages(world, Search::all().name_contains("name"));
        assert_eq!(names(&found), ["expired name", "new name"]);
        for record in found {
            assert_eq!(world.key(record.id.clone()).read(), record, "a page shows whole records");
        }
    });
}

fn all_pages(world: &World, search: Search) -> Vec<KeyRecord> {
    let mut found = Vec::new();
    let mut next = Some(search);
    while let Some(search) = next {
        assert!(found.len() < 1_000, "the pages have no end");
        let page = world.search(&search);
        assert!(page.keys.len() <= search.limit());
        next = search.following(&page);
        found.extend(page.keys);
    }
    found
}

fn names(keys: &[KeyRecord]) -> Vec<&str> {
    keys.iter().map(|key| key.config.name.as_str()).collect()
}
