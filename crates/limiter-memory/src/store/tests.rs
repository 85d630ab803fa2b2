//! Snapshots and long searches while other work goes on.

use limiter_conformance::fixtures::{NOON, named, requests_per_day};
use limiter_core::{Charge, Effective, KeyConfig, KeyKind, ManualClock, Thresholds};

use super::*;

fn home() -> WorkspaceId {
    "home".parse().unwrap()
}

fn id(number: usize) -> KeyId {
    format!("key-{number}").parse().unwrap()
}

fn config(name: &str) -> KeyConfig {
    named(name).with_global(requests_per_day(1_000))
}

/// The first update of a key.
fn update(id: &KeyId, name: &str) -> KeyUpdate {
    let (id, config, effective) = (id.clone(), config(name), Effective::Next);
    KeyUpdate { id, version: 1, config, effective, thresholds: Thresholds::DEFAULT }
}

fn create(store: &MemoryStore, id: KeyId, name: &str) {
    let (workspace, kind) = (home(), KeyKind::Member);
    let record = NewRecord {
        id,
        workspace,
        kind,
        config: config(name),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(record).unwrap();
}

fn store_with(keys: usize) -> MemoryStore {
    let clock = ManualClock::at(NOON);
    let store = MemoryStore::builder().clock(clock).build();
    for number in 0..keys {
        create(&store, id(number), &format!("name-{number}"));
    }
    store
}

/// All runs on one thread: if a lock were held between two keys, the test would never end.
#[test]
fn between_any_two_keys_of_a_snapshot_calls_and_changes_go_on() {
    let store = store_with(20);
    let mut steps = 0;
    let snapshot = store.snapshot_in_steps(|| {
        let key = id(steps % 20);
        assert!(store.check_and_consume(&key, None, &Charge::request()).is_allowed());
        create(&store, id(100 + steps), &format!("new-{steps}"));
        assert!(store.resolve(&KeyDigest::try_from("0".repeat(64)).unwrap()).is_none());
        steps += 1;
    });
    assert!(steps >= 20, "{steps}");
    assert_eq!(snapshot.len(), 20 + steps);
}

/// Names move between keys, and deleted keys come back with the same id. The snapshot has each key once, in its last
/// form.
#[test]
fn the_keys_of_a_snapshot_are_those_of_one_moment() {
    for change_at in 0..20 {
        let store = store_with(20);
        let mut steps = 0;
        let snapshot = store.snapshot_in_steps(|| {
            if steps == change_at {
                for number in 0..10 {
                    let (old, new) = (id(number), id(number + 10));
                    let name = format!("name-{number}");
                    store.update(&home(), &update(&old, &format!("was-{number}"))).unwrap();
                    store.update(&home(), &update(&new, &name)).unwrap();
                    store.delete(&home(), &old).unwrap();
                    create(&store, old, &format!("again-{number}"));
                }
                create(&store, id(20), "the last one");
            }
            steps += 1;
        });
        let restored = store.builder_like().restore(snapshot).expect("no two keys share a name");
        let all = Search::all();
        assert_eq!(restored.list(&home(), &all), store.list(&home(), &all), "at {change_at}");
    }
}

#[test]
fn a_long_search_looks_at_the_directory_again_and_again_and_finds_all() {
    let store = store_with(2_000);
    for (text, found) in [("name-1", 1_111), ("name-1999", 1), ("", 2_000), ("none", 0)] {
        let mut search = Some(Search::all().name_contains(text).page_size(300));
        let mut names = Vec::new();
        while let Some(page_of) = search {
            let page = store.list(&home(), &page_of);
            assert!(page.keys.len() == 300 || page.next.is_none(), "pages are full");
            assert!(!page.keys.is_empty() || names.is_empty(), "no page after the last key");
            names.extend(page.keys.iter().map(|key| key.config.name.clone()));
            search = page_of.following(&page);
        }
        assert!(names.is_sorted());
        assert_eq!(names.len(), found, "{text:?}");
    }
}

impl MemoryStore {
    /// Creates settings for a store on the same clock.
    fn builder_like(&self) -> MemoryStoreBuilder {
        MemoryStoreBuilder { time: self.cells.time().clone(), ..Self::builder() }
    }
}
