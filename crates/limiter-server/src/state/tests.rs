//! Tests of the state file: damage, a second server, and a failing disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use limiter::store::{KeyUpdate, NewRecord};
use limiter::{
    Charge, Effective, KeyConfig, KeyId, KeyKind, KeysError, Limiter, Limits, Plan, PlanUpdate,
    Thresholds, WorkspaceId,
};
use tempfile::TempDir;

use super::*;
use crate::bounds::Bounds;
use crate::engine::Backing;
use crate::{fixtures, health};

/// A temporary folder, removed when dropped.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state.json")
    }
}

fn open(path: &Path) -> Result<(StateFile, MemoryStore), StateError> {
    StateFile::open(path, MemoryStore::builder())
}

fn home() -> WorkspaceId {
    "home".parse().unwrap()
}

fn create(store: &MemoryStore, name: &str) -> Result<KeyId, KeysError> {
    let limits = Limits::builder().requests_per_day(5).build().unwrap();
    let config = KeyConfig::named(name).unwrap().with_global(limits);
    let (id, workspace, kind) = (name.parse().unwrap(), home(), KeyKind::Member);
    let key = NewRecord {
        id,
        workspace,
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(key).map(|record| record.id)
}

/// Creates a file with a key that has counts and a reservation, and two changes after the snapshot.
fn file_in_use(folder: &Folder) -> Vec<u8> {
    let (file, store) = open(&folder.state()).unwrap();
    let key = create(&store, "saved").unwrap();
    let (charge, id) = (Charge::request(), "r1".parse().unwrap());
    assert!(store.check_and_consume(&key, None, &charge).is_allowed());
    assert!(store.reserve(&key, None, &charge, &id, Duration::from_secs(60)).unwrap().is_allowed());
    file.save(&store).unwrap();
    let key = create(&store, "later").unwrap();
    let limits = Limits::builder().requests_per_day(1).build().unwrap();
    let config = KeyConfig::named("renamed").unwrap().with_global(limits);
    let (effective, thresholds) = (Effective::Now, Thresholds::DEFAULT);
    let update = KeyUpdate { id: key, version: 1, config, effective, thresholds };
    store.update(&home(), &update).unwrap();
    fs::read(folder.state()).unwrap()
}

#[test]
fn every_flipped_bit_and_every_changed_byte_is_refused() {
    let folder = Folder::new();
    let bytes = file_in_use(&folder);
    let (snapshot, changes) = read(Path::new("x"), &bytes).unwrap();
    assert_eq!((snapshot.len(), changes.len()), (1, 2));
    for position in 0..bytes.len() {
        for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut damaged = bytes.clone();
            damaged[position] ^= flip;
            let read = read(Path::new("x"), &damaged);
            assert!(matches!(read, Err(StateError::Damaged { .. })), "{flip} at {position}");
        }
    }
}

#[test]
fn a_damaged_change_in_the_middle_is_refused_and_the_file_left_as_it_is() {
    let folder = Folder::new();
    let mut bytes = file_in_use(&folder);
    let second_line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 10;
    bytes[second_line] ^= 1;
    fs::write(folder.state(), &bytes).unwrap();
    let error = open(&folder.state()).unwrap_err();
    assert!(matches!(error, StateError::Damaged { line: 2, .. }), "{error:?}");
    assert_eq!(fs::read(folder.state()).unwrap(), bytes);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1, "no other file was created");
}

/// Wherever a crash cuts off the last change, earlier ones are kept and the server continues from there.
#[test]
fn a_change_that_was_cut_off_is_dropped_and_the_next_one_takes_its_place() {
    let folder = Folder::new();
    let bytes = file_in_use(&folder);
    let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).collect();
    let last = lines[0] + lines[1];
    for length in [last, last + 1, last + 100, bytes.len() - 2, bytes.len() - 1] {
        fs::write(folder.state(), &bytes[..length]).unwrap();
        let (_file, store) = open(&folder.state()).unwrap();
        let name =
            |id: &str| store.read(&id.parse().unwrap()).map(|key| key.config.name.to_string());
        assert_eq!((name("saved"), name("later")), (Some("saved".into()), Some("later".into())));
        create(&store, "another").unwrap();
        drop((store, _file));
        let (_file, store) = open(&folder.state()).unwrap();
        assert!(store.read(&"another".parse().unwrap()).is_some());
    }
}

/// Each save replaces the file, and the lock moves with it.
#[test]
fn a_file_in_use_is_refused_by_any_path_after_any_number_of_saves() {
    let folder = Folder::new();
    let link = folder.0.path().join("link");
    symlink(folder.state(), &link).unwrap();
    let (file, store) = open(&link).unwrap();
    for _ in 0..5 {
        for path in [&link, &folder.state(), &folder.0.path().join("./state.json")] {
            let second = open(path);
            assert!(matches!(second, Err(StateError::InUse(_))), "{path:?}: {second:?}");
        }
        file.save(&store).unwrap();
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    drop((file, store));
    open(&folder.state()).unwrap();
}

/// Servers start at the same time without a file, while the winner saves continuously.
#[test]
fn of_servers_that_race_for_a_file_exactly_one_gets_it() {
    for _ in 0..10 {
        let folder = Folder::new();
        let open_now = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let (file, store) = match open(&folder.state()) {
                            Ok(opened) => opened,
                            Err(StateError::InUse(_)) => continue,
                            Err(error) => panic!("{error:?}"),
                        };
                        assert_eq!(open_now.fetch_add(1, Ordering::SeqCst), 0, "two winners");
                        file.save(&store).unwrap();
                        open_now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        open(&folder.state()).unwrap();
    }
}

/// Changes continue while the file is saved repeatedly: none is lost between two files.
#[test]
fn changes_during_saves_are_all_kept() {
    let folder = Folder::new();
    let (file, store) = open(&folder.state()).unwrap();
    std::thread::scope(|scope| {
        let managers: Vec<_> = (0..3)
            .map(|manager| {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..40 {
                        let key = create(store, &format!("{manager}-{number}")).unwrap();
                        if number % 2 == 1 {
                            store.delete(&home(), &key).unwrap();
                        }
                    }
                })
            })
            .collect();
        while managers.iter().any(|manager| !manager.is_finished()) {
            file.save(&store).unwrap();
        }
    });
    // As after a crash: without a final save.
    let (snapshot, changes) = read(Path::new("x"), &fs::read(folder.state()).unwrap()).unwrap();
    let again = MemoryStore::builder().restore_with(snapshot, changes).unwrap();
    let all = limiter::Search::all().page_size(1_000);
    let names = |store: &MemoryStore| {
        store.list(&home(), &all).keys.into_iter().map(|key| key.config.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&again), names(&store));
    assert_eq!(names(&again).len(), 60);
}

#[test]
fn plans_are_kept_in_the_snapshot_and_in_the_changes_after_it() {
    let folder = Folder::new();
    let plan = |name: &str, requests| {
        let limits = Limits::builder().requests_per_day(requests).build().unwrap();
        PlanUpdate::new(name.parse().unwrap(), Plan::default().with_global(limits)).at_once()
    };
    let (file, store) = open(&folder.state()).unwrap();
    for name in ["deleted", "free"] {
        store.save_plan(&home(), &plan(name, 9)).unwrap();
    }
    let key = create(&store, "ci").unwrap();
    let config = KeyConfig::named("ci").unwrap().with_plan("free".parse().unwrap());
    let (effective, thresholds) = (Effective::Now, Thresholds::DEFAULT);
    let update = KeyUpdate { id: key.clone(), version: 1, config, effective, thresholds };
    store.update(&home(), &update).unwrap();
    file.save(&store).unwrap();
    store.save_plan(&home(), &plan("free", 1)).unwrap();
    store.save_plan(&home(), &plan("later", 5)).unwrap();
    store.delete_plan(&home(), &"deleted".parse().unwrap()).unwrap();
    drop((file, store));

    // As after a crash: without a final save. The second time all is in the snapshot.
    for _ in 0..2 {
        let (_file, store) = open(&folder.state()).unwrap();
        let plans = store.plans(&home());
        let found: Vec<_> = plans.iter().map(|plan| (&plan.plan, plan.version)).collect();
        assert_eq!(found, [(&plan("free", 1).plan, 2), (&plan("later", 5).plan, 1)]);
        assert_eq!([plans[0].name.as_str(), plans[1].name.as_str()], ["free", "later"]);
        let record = store.read(&key).unwrap();
        assert_eq!(record.config.plan, "free".parse().ok());
        assert_eq!(record.limits[0].in_force, plans[0].plan.global);
        let in_use = store.delete_plan(&home(), &"free".parse().unwrap());
        assert!(matches!(in_use, Err(KeysError::PlanInUse(_))), "{in_use:?}");
    }
    let (_file, store) = open(&folder.state()).unwrap();
    let charge = Charge::request();
    let allowed = [(); 2].map(|()| store.check_and_consume(&key, None, &charge).is_allowed());
    assert_eq!(allowed, [true, false]);
}

/// Returns the answer of `/readyz` for a server on this file.
fn ready(file: &StateFile, store: &MemoryStore) -> (StatusCode, String) {
    let limiter = Limiter::builder(store.clone()).build();
    let state = Some((file.clone(), store.clone()));
    let app = fixtures::app(limiter, Backing { state, ..Backing::default() }, Bounds::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(health::ready(State(app)))
}

#[test]
fn readyz_says_when_saving_fails_and_recovers() {
    let folder = Folder::new();
    let (file, store) = open(&folder.state()).unwrap();
    assert_eq!(ready(&file, &store), (StatusCode::OK, "ready\n".to_owned()));
    // A folder blocks the name of the new file.
    let new = folder.0.path().join("state.json.new");
    fs::create_dir(&new).unwrap();
    file.save(&store).unwrap_err();
    let (status, why) = ready(&file, &store);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.starts_with("not ready: the state file") && why.contains("directory"), "{why}");
    // The log still takes changes: they are not lost, but saving still fails.
    create(&store, "meanwhile").unwrap();
    assert_eq!(ready(&file, &store).0, StatusCode::SERVICE_UNAVAILABLE);
    fs::remove_dir(&new).unwrap();
    file.save(&store).unwrap();
    assert_eq!(ready(&file, &store).0, StatusCode::OK);
}

#[test]
fn a_change_that_cannot_be_written_is_not_made_and_readyz_says_so() {
    let folder = Folder::new();
    let (file, store) = open(&folder.state()).unwrap();
    create(&store, "before").unwrap();
    // A change appended to a file without a name would be lost.
    fs::rename(folder.state(), folder.0.path().join("elsewhere")).unwrap();
    let refused = create(&store, "ci").unwrap_err();
    assert!(matches!(refused, KeysError::Store(StoreError::Unavailable(_))), "{refused:?}");
    assert!(store.read(&"ci".parse().unwrap()).is_none());
    let (status, why) = ready(&file, &store);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains("removed or replaced"), "{why}");
    // The next save creates a whole file at the path.
    file.save(&store).unwrap();
    create(&store, "ci").unwrap();
    assert_eq!(ready(&file, &store).0, StatusCode::OK);
    drop((file, store));
    let (_file, store) = open(&folder.state()).unwrap();
    assert_eq!(store.snapshot().len(), 2);
}

/// A write fails, and its remains cannot be removed. Until the next save it is unknown whether a restart finds the
/// change.
#[test]
fn a_change_of_which_nothing_is_known_says_so_until_the_next_save() {
    let folder = Folder::new();
    let (file, store) = open(&folder.state()).unwrap();
    let writable = {
        let mut log = file.0.log.lock();
        let read_only = File::open(folder.state()).unwrap();
        std::mem::replace(&mut log.file, read_only)
    };
    let refused = create(&store, "ci").unwrap_err();
    assert!(matches!(refused, KeysError::Store(StoreError::OutcomeUnknown(_))), "{refused:?}");
    let refused = create(&store, "ci").unwrap_err();
    assert!(matches!(refused, KeysError::Store(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(ready(&file, &store).0, StatusCode::SERVICE_UNAVAILABLE);
    drop(writable);
    file.save(&store).unwrap();
    create(&store, "ci").unwrap();
    assert_eq!(ready(&file, &store).0, StatusCode::OK);
}

/// A backup that replaces the file of a running server is not overwritten.
#[test]
fn a_file_that_was_put_in_its_place_is_left_alone() {
    let folder = Folder::new();
    let (file, store) = open(&folder.state()).unwrap();
    let backup = folder.0.path().join("backup");
    fs::write(&backup, "a backup").unwrap();
    fs::rename(&backup, folder.state()).unwrap();
    file.save(&store).unwrap_err();
    create(&store, "ci").unwrap_err();
    assert_eq!(fs::read_to_string(folder.state()).unwrap(), "a backup");
}
