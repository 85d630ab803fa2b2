//! The journal receives each change of a key before it takes effect, and a snapshot with its journal restores a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{admit, home, requests, secret_of, update_of};
use limiter_conformance::fixtures::{DAY, MINUTE, NOON, asset, named};
use limiter_core::{
    Effective, KeyConfig, KeyId, KeyKind, KeyUpdate, KeysError, ManualClock, NewRecord, Page,
    Search, StoreError, StoredSecret, Thresholds, Timestamp,
};
use limiter_memory::{Journal, KeyAction, KeyChange, MemoryStore, RestoreError, Snapshot};
use parking_lot::Mutex;

/// A journal in memory that can be made to fail.
#[derive(Clone, Debug, Default)]
struct Paper {
    changes: Arc<Mutex<Vec<KeyChange>>>,
    is_full: Arc<AtomicBool>,
}

impl Journal for Paper {
    fn append(&self, change: &KeyChange) -> Result<(), StoreError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("the paper is full"));
        }
        self.changes.lock().push(change.clone());
        Ok(())
    }
}

impl Paper {
    fn changes(&self) -> Vec<KeyChange> {
        self.changes.lock().clone()
    }
}

fn store(now: Timestamp) -> (MemoryStore, Paper, ManualClock) {
    let (paper, clock) = (Paper::default(), ManualClock::at(now));
    let store = MemoryStore::builder().clock(clock.clone()).journal(paper.clone()).build();
    (store, paper, clock)
}

fn restored(
    snapshot: &Snapshot,
    changes: Vec<KeyChange>,
    now: Timestamp,
) -> Result<MemoryStore, RestoreError> {
    let builder = MemoryStore::builder().clock(ManualClock::at(now));
    builder.restore_with(snapshot.clone(), changes)
}

fn new(id: &str, kind: KeyKind, config: KeyConfig) -> NewRecord {
    let secret = Some(StoredSecret::from(&secret_of(id)));
    let (id, workspace) = (id.parse().expect("an id"), home());
    NewRecord {
        id,
        workspace,
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret,
        bootstraps: false,
    }
}

fn member(store: &MemoryStore, id: &str) -> KeyId {
    let config = named(id).with_global(requests(Some(10), Some(100)));
    store.create(new(id, KeyKind::Member, config)).expect("the key is new").id
}

fn all(store: &MemoryStore) -> Page {
    store.list(&home(), &Search::all().page_size(Search::MAX_PAGE_SIZE))
}

#[test]
fn a_store_comes_back_from_its_journal_alone() {
    let (store, paper, clock) = store(NOON);
    let [first, second] = ["first", "second"].map(|id| member(&store, id));
    let other = named("renamed").with_asset(asset("m1"), requests(Some(3), None));
    store.update(&home(), &update_of(&first, 1, &other)).expect("the version is right");
    clock.set(NOON.after(MINUTE));
    let expiring = other.with_expiry(NOON.after(DAY));
    store.update(&home(), &update_of(&first, 2, &expiring)).expect("it is right");
    store.delete(&home(), &second).expect("it is there");
    let third = member(&store, "second");
    let limits = named("second").with_global(requests(Some(7), None));
    let update = KeyUpdate { effective: Effective::Now, ..update_of(&third, 1, &limits) };
    store.update(&home(), &update).expect("it is right");
    store.reset(&home(), &third).expect("it is there");

    let empty = MemoryStore::new().snapshot();
    let now = NOON.after(MINUTE);
    let again = restored(&empty, paper.changes(), now).expect("the journal is whole");
    assert_eq!(all(&again), all(&store));
    assert_eq!(again.usage(&third), store.usage(&third));
    assert_eq!(again.resolve(&secret_of("first").digest()), Some(first));
    let numbers: Vec<u64> = paper.changes().iter().map(|change| change.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_change_survives_json() {
    let (store, paper, _clock) = store(NOON);
    let key = member(&store, "ci");
    store.update(&home(), &update_of(&key, 1, &named("ci"))).expect("the version is right");
    store.reset(&home(), &key).expect("it is there");
    store.delete(&home(), &key).expect("it is there");
    let json = serde_json::to_string(&paper.changes()).expect("changes are JSON");
    let read: Vec<KeyChange> = serde_json::from_str(&json).expect("written changes can be read");
    assert_eq!(read, paper.changes());
    assert!(!json.contains("secret-part"), "digests are kept, no access keys: {json}");
    let misspelled = json.replace("\"delete\"", "\"delete_all\"");
    assert!(serde_json::from_str::<Vec<KeyChange>>(&misspelled).is_err());
}

#[test]
fn what_the_journal_does_not_take_is_not_done() {
    let (store, paper, _clock) = store(NOON);
    let key = member(&store, "ci");
    let before = (all(&store), paper.changes().len());
    paper.is_full.store(true, Ordering::Relaxed);
    let results = [
        store.create(new("other", KeyKind::Member, named("other"))).map(drop),
        store.update(&home(), &update_of(&key, 1, &named("renamed"))).map(drop),
        store.reset(&home(), &key),
        store.delete(&home(), &key),
    ];
    for result in results {
        assert!(matches!(result, Err(KeysError::Store(StoreError::Unavailable(_)))), "{result:?}");
    }
    assert_eq!((all(&store), paper.changes().len()), before);
    paper.is_full.store(false, Ordering::Relaxed);
    let renamed = update_of(&key, 1, &named("renamed"));
    store.update(&home(), &renamed).expect("the version is still the first");
    assert_eq!(
        paper.changes().last().map(|change| change.number),
        Some(2),
        "no number is left out"
    );
}

#[test]
fn what_is_refused_or_changes_nothing_is_not_in_the_journal() {
    let (store, paper, _clock) = store(NOON);
    let key = member(&store, "ci");
    let config = store.read(&key).expect("the key lives").config;
    let same = store.update(&home(), &update_of(&key, 1, &config));
    assert_eq!(same.map(|updated| updated.record.version).ok(), Some(1));
    assert!(store.update(&home(), &update_of(&key, 7, &named("renamed"))).is_err());
    assert!(store.reset(&home(), &"none".parse().expect("an id")).is_err());
    assert!(store.create(new("ci", KeyKind::Member, named("ci"))).is_err());
    assert!(store.delete(&home(), &"none".parse().expect("an id")).is_err());
    assert_eq!(paper.changes().len(), 1);
}

#[test]
fn changes_that_are_in_the_snapshot_are_not_made_again() {
    let (store, paper, _clock) = store(NOON);
    let key = member(&store, "ci");
    admit(&store, &key, None, 3);
    store.update(&home(), &update_of(&key, 1, &named("renamed"))).expect("the version is right");
    let snapshot = store.snapshot();
    assert_eq!(snapshot.last_change(), 2);
    member(&store, "later");
    let again = restored(&snapshot, paper.changes(), NOON).expect("they belong together");
    assert_eq!(all(&again), all(&store));
    assert_eq!(again.usage(&key), store.usage(&key), "counts from before the snapshot");
    assert_eq!(again.snapshot().last_change(), 3);
}

#[test]
fn a_journal_of_another_snapshot_is_refused() {
    let (store, paper, _clock) = store(NOON);
    for id in ["a", "b", "c"] {
        member(&store, id);
    }
    let empty = MemoryStore::new().snapshot();
    let gap = restored(&empty, paper.changes().split_off(1), NOON);
    assert!(matches!(gap, Err(RestoreError::Gap { expected: 1, found: 2 })), "{gap:?}");
    let twice = paper.changes().into_iter().map(|change| KeyChange { number: 4, ..change });
    let twice = restored(&store.snapshot(), twice.collect(), NOON);
    assert!(
        matches!(twice, Err(RestoreError::Change { number: 4, source: KeysError::IdTaken(_) })),
        "{twice:?}"
    );
}

/// Random creations, updates and deletions, with snapshots in between: each snapshot, with the changes after it,
/// restores the same keys.
#[test]
fn any_history_comes_back_from_any_of_its_snapshots() {
    for seed in 1..=20_u64 {
        let mut random = seed;
        let mut draw = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (store, paper, clock) = store(NOON);
        store.create(new("admin", KeyKind::Admin, named("admin"))).expect("it is new");
        let mut snapshots = vec![MemoryStore::new().snapshot()];
        for step in 0..200 {
            let (id, name) = (format!("k{}", draw(8)), format!("n{}", draw(8)));
            let limits = requests(Some(draw(5)), Some(draw(500)));
            let config = named(&name).with_global(limits.clone()).with_asset(asset(&id), limits);
            let key: KeyId = id.parse().expect("an id");
            // Many changes are refused: the name is taken, or the key does not exist.
            match draw(5) {
                0 => drop(store.create(new(&id, KeyKind::Member, config))),
                1 => drop(store.delete(&home(), &key)),
                2 => drop(store.reset(&home(), &key)),
                _ => {
                    let version = store.read(&key).map_or(1, |record| record.version);
                    let effective = if draw(2) == 0 { Effective::Next } else { Effective::Now };
                    let update = update_of(&key, version, &config);
                    drop(store.update(&home(), &KeyUpdate { effective, ..update }));
                }
            }
            if draw(10) == 0 {
                snapshots.push(store.snapshot());
            }
            if step % 20 == 0 {
                clock.advance(MINUTE);
            }
        }
        let now = clock.now();
        for snapshot in snapshots {
            let again = restored(&snapshot, paper.changes(), now).expect("they belong together");
            assert_eq!(all(&again), all(&store), "seed {seed}");
        }
    }
}

#[test]
fn actions_say_what_they_do() {
    let (store, paper, _clock) = store(NOON);
    let key = member(&store, "ci");
    store.delete(&home(), &key).expect("it is there");
    let changes = paper.changes();
    let [created, deleted] = changes.as_slice() else { panic!("{changes:?}") };
    assert!(matches!(&created.action, KeyAction::Create(record) if record.id == key));
    assert_eq!(deleted.action, KeyAction::Delete { workspace: home(), id: key });
    assert_eq!((created.at, deleted.at), (NOON, NOON));
}
