//! Every interleaving of a few threads on one key, by the model checker loom.
//!
//! Only one thread of each story manages keys, since loom does not model the directory's lock.

use std::sync::Arc;

use limiter_core::{
    AssetId, Charge, Decision, DenialReason, Effective, KeyConfig, KeyId, KeyKind, KeyUpdate,
    Limits, ManualClock, NewRecord, Thresholds, Timestamp, WorkspaceId,
};
use loom::thread;

use crate::{MemoryHandle, MemoryStore};

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

/// A store with one key, which has a limit for one asset.
struct World {
    store: MemoryStore,
    clock: ManualClock,
    workspace: WorkspaceId,
    key: KeyId,
    asset: AssetId,
}

impl World {
    fn new(requests_per_minute: u64) -> Self {
        let clock = ManualClock::at(NOON);
        let world = Self {
            store: MemoryStore::builder().clock(clock.clone()).build(),
            clock,
            workspace: "team-a".parse().unwrap(),
            key: "ci".parse().unwrap(),
            asset: "gpt-5".parse().unwrap(),
        };
        world.create(world.key.clone(), requests_per_minute);
        world
    }

    fn create(&self, id: KeyId, requests_per_minute: u64) {
        let (workspace, config) = (self.workspace.clone(), self.config(requests_per_minute));
        let kind = KeyKind::Member;
        let record = NewRecord {
            id,
            workspace,
            kind,
            config,
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        };
        self.store.create(record).unwrap();
    }

    fn config(&self, requests_per_minute: u64) -> KeyConfig {
        let limits = Limits::builder().requests_per_minute(requests_per_minute).build().unwrap();
        KeyConfig::named("ci").unwrap().with_asset(self.asset.clone(), limits)
    }

    /// Makes a call by a handle in another thread. Returns whether it was allowed.
    fn call(handle: MemoryHandle) -> thread::JoinHandle<bool> {
        spawn(move || handle.check_and_consume(&Charge::request()).is_allowed())
    }

    fn handle(&self) -> MemoryHandle {
        self.store.handle(&self.key, Some(&self.asset)).unwrap()
    }

    fn check(&self) -> Decision {
        self.store.check_and_consume(&self.key, Some(&self.asset), &Charge::request())
    }
}

/// Spawns a thread of a story.
fn spawn<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(STACK).spawn(action).unwrap()
}

/// Runs a story in every interleaving of its threads, in a thread with room for a decision.
fn model(story: impl Fn() + Copy + Send + Sync + 'static) {
    crate::sync::model(move || spawn(story).join().unwrap());
}

/// In words. Those of loom itself are too small for a decision in a build without optimisations.
const STACK: usize = 1 << 16;

fn is_unknown(decision: &Decision) -> bool {
    decision.denied().is_some_and(|denied| *denied.reason() == DenialReason::KeyUnknown)
}

#[test]
fn of_three_callers_exactly_two_get_the_two_requests() {
    model(|| {
        let world = World::new(2);
        let callers: Vec<_> = (0..2).map(|_| World::call(world.handle())).collect();
        let own = world.check().is_allowed();
        let allowed = callers.into_iter().map(|caller| caller.join().unwrap());
        assert_eq!(allowed.chain([own]).filter(|allowed| *allowed).count(), 2);
    });
}

#[test]
fn two_threads_share_a_handle_and_its_hint() {
    model(|| {
        let shared = Arc::new(World::new(1).handle());
        let other = shared.clone();
        let other = spawn(move || other.check_and_consume(&Charge::request()).is_allowed());
        let own = shared.check_and_consume(&Charge::request()).is_allowed();
        assert!(own ^ other.join().unwrap());
    });
}

#[test]
fn a_handle_is_refused_as_soon_as_the_key_is_deleted() {
    model(|| {
        let world = World::new(10);
        let handle = world.handle();
        let caller = {
            let handle = handle.clone();
            spawn(move || handle.check_and_consume(&Charge::request()))
        };
        world.store.delete(&world.workspace, &world.key).unwrap();
        assert!(is_unknown(&handle.check_and_consume(&Charge::request())));
        let racing = caller.join().unwrap();
        assert!(racing.is_allowed() || is_unknown(&racing));
    });
}

#[test]
fn a_new_key_in_the_place_of_a_deleted_one_is_not_charged_by_an_old_handle() {
    model(|| {
        let world = World::new(1);
        let old = world.handle();
        let caller = World::call(old);
        world.store.delete(&world.workspace, &world.key).unwrap();
        let next: KeyId = "next".parse().unwrap();
        world.create(next.clone(), 1);
        let next = world.store.handle(&next, Some(&world.asset)).unwrap();
        caller.join().unwrap();
        assert!(next.check_and_consume(&Charge::request()).is_allowed());
    });
}

#[test]
fn a_window_that_rolls_under_two_callers_starts_from_zero_once() {
    model(|| {
        let world = World::new(2);
        assert!(world.check().is_allowed());
        world.clock.set(Timestamp::from_unix_ms(NOON.unix_ms() + 60_000));
        let other = World::call(world.handle());
        assert!(world.check().is_allowed());
        assert!(other.join().unwrap());
        assert!(!world.check().is_allowed());
    });
}

#[test]
fn an_asset_that_is_moved_meanwhile_is_found_again_by_a_handle() {
    model(|| {
        let world = World::new(1);
        let handle = world.handle();
        let caller = World::call(handle.clone());
        // An asset that sorts before moves the other one to the next place.
        let limits = Limits::builder().requests_per_minute(0).build().unwrap();
        let config = world.config(1).with_asset("a".parse().unwrap(), limits);
        let update = KeyUpdate {
            id: world.key.clone(),
            version: 1,
            config,
            effective: Effective::Next,
            thresholds: Thresholds::DEFAULT,
        };
        world.store.update(&world.workspace, &update).unwrap();
        let own = handle.check_and_consume(&Charge::request()).is_allowed();
        assert!(own ^ caller.join().unwrap());
    });
}
