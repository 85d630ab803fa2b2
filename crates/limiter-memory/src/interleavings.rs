//! Every interleaving of a few threads on one cell, by the model checker loom.
//!
//! Run by `scripts/test loom`. The map is left out: its locks are parking_lot's, which loom does not know.

use std::sync::Arc;

use limiter_core::{
    Charge, Decision, DenialReason, KeyConfig, KeyKind, KeyState, Limits, ManualClock, Timestamp,
};
use loom::thread;

use crate::cell::Cell;
use crate::handle::MemoryHandle;
use crate::time::Time;

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

fn config(requests_per_minute: u64) -> KeyConfig {
    let limits = Limits::builder().requests_per_minute(requests_per_minute).build().unwrap();
    KeyConfig::named("ci".parse().unwrap()).with_asset("gpt-5".parse().unwrap(), limits)
}

fn cell(requests_per_minute: u64) -> Arc<Cell> {
    let state = KeyState::new(KeyKind::Member, &config(requests_per_minute), NOON);
    Arc::new(Cell::new("ci".parse().unwrap(), state))
}

fn handle(cell: &Arc<Cell>, clock: &ManualClock) -> MemoryHandle {
    MemoryHandle::new(cell.clone(), Some("gpt-5".parse().unwrap()), Time::Manual(clock.clone()))
}

fn is_unknown(decision: &Decision) -> bool {
    decision.denied().is_some_and(|denied| *denied.reason() == DenialReason::KeyUnknown)
}

#[test]
fn of_three_callers_exactly_two_get_the_two_requests() {
    loom::model(|| {
        let (cell, clock) = (cell(2), ManualClock::at(NOON));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let handle = handle(&cell, &clock);
                thread::spawn(move || handle.check_and_consume(&Charge::request()).is_allowed())
            })
            .collect();
        let own = handle(&cell, &clock).check_and_consume(&Charge::request()).is_allowed();
        let allowed = callers.into_iter().map(|caller| caller.join().unwrap());
        assert_eq!(allowed.chain([own]).filter(|allowed| *allowed).count(), 2);
    });
}

#[test]
fn two_threads_share_a_handle_and_its_hint() {
    loom::model(|| {
        let (cell, clock) = (cell(1), ManualClock::at(NOON));
        let shared = Arc::new(handle(&cell, &clock));
        let other = shared.clone();
        let other = thread::spawn(move || other.check_and_consume(&Charge::request()).is_allowed());
        let own = shared.check_and_consume(&Charge::request()).is_allowed();
        assert!(own ^ other.join().unwrap());
    });
}

#[test]
fn a_handle_is_refused_as_soon_as_the_key_is_deleted() {
    loom::model(|| {
        let (cell, clock) = (cell(10), ManualClock::at(NOON));
        let handle = handle(&cell, &clock);
        let caller = {
            let handle = handle.clone();
            thread::spawn(move || handle.check_and_consume(&Charge::request()))
        };
        cell.delete();
        assert!(is_unknown(&handle.check_and_consume(&Charge::request())));
        let racing = caller.join().unwrap();
        assert!(racing.is_allowed() || is_unknown(&racing));
    });
}

#[test]
fn a_window_that_rolls_under_two_callers_starts_from_zero_once() {
    loom::model(|| {
        let (cell, clock) = (cell(2), ManualClock::at(NOON));
        assert!(handle(&cell, &clock).check_and_consume(&Charge::request()).is_allowed());
        clock.set(Timestamp::from_unix_ms(NOON.unix_ms() + 60_000));
        let other = handle(&cell, &clock);
        let other = thread::spawn(move || other.check_and_consume(&Charge::request()).is_allowed());
        assert!(handle(&cell, &clock).check_and_consume(&Charge::request()).is_allowed());
        assert!(other.join().unwrap());
        assert!(!handle(&cell, &clock).check_and_consume(&Charge::request()).is_allowed());
    });
}

#[test]
fn an_asset_that_is_moved_meanwhile_is_found_again_by_a_handle() {
    loom::model(|| {
        let (cell, clock) = (cell(1), ManualClock::at(NOON));
        let handle = handle(&cell, &clock);
        let caller = {
            let handle = handle.clone();
            thread::spawn(move || handle.check_and_consume(&Charge::request()).is_allowed())
        };
        // An asset that sorts before moves the other one to the next place.
        let limits = Limits::builder().requests_per_minute(0).build().unwrap();
        let config = config(1).with_asset("a".parse().unwrap(), limits);
        assert!(cell.configure(&config, &Time::Manual(clock.clone())).unwrap());
        let own = handle.check_and_consume(&Charge::request()).is_allowed();
        assert!(own ^ caller.join().unwrap());
    });
}
