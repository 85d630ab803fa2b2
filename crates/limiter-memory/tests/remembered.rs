//! What is remembered of calls: bounded, kept over a restart, and given up in time.

mod common;

use std::time::Duration;

use common::{MINUTE, NOON, create, named, requests};
use limiter_core::{Allowed, Charge, KeyId, ManualClock, RequestId, ReservationError, Totals};
use limiter_memory::{MemoryStore, Snapshot};

#[test]
fn at_the_bound_a_reservation_is_refused_and_nothing_is_charged_or_forgotten() {
    let (store, clock, key) = bounded(3);
    for number in 0..3 {
        assert!(reserve(&store, &key, &format!("r{number}"), MINUTE).is_ok());
    }
    let refused = reserve(&store, &key, "r3", MINUTE);
    assert!(matches!(refused, Err(ReservationError::TooMany { most: 3, .. })), "{refused:?}");
    let sentence = refused.unwrap_err().to_string();
    assert!(sentence.contains("3 reservations") && sentence.contains("nothing was charged"));
    assert_eq!(used(&store, &key), 3);
    assert_eq!(reserve(&store, &key, "r1", MINUTE).ok(), Some(true), "what is known stays known");
    store.settle(&key, &id("r0"), &Totals::unchanged()).expect("it is known");
    assert!(reserve(&store, &key, "r3", MINUTE).is_err(), "a settled one is remembered too");
    assert!(store.check_once(&key, None, &Charge::request(), &id("q")).is_ok(), "checks are apart");

    clock.set(NOON.after(MINUTE));
    assert_eq!(reserve(&store, &key, "r3", MINUTE).ok(), Some(false), "time makes room");
}

#[test]
fn at_the_bound_a_check_with_an_id_is_refused_and_nothing_is_charged() {
    let (store, clock, key) = bounded(2);
    let check = |name| store.check_once(&key, None, &Charge::request(), &id(name));
    assert!(check("q0").is_ok() && check("q1").is_ok());
    let refused = check("q2");
    assert!(matches!(refused, Err(ReservationError::TooMany { most: 2, .. })), "{refused:?}");
    assert_eq!(used(&store, &key), 2);
    assert!(check("q1").is_ok(), "what is known stays known");
    clock.set(NOON.after(2 * MINUTE));
    assert!(check("q2").is_ok());
}

#[test]
fn the_dedupe_time_is_a_setting() {
    let clock = ManualClock::at(NOON);
    let builder = MemoryStore::builder().clock(clock.clone());
    let store = builder.dedupe_time(Duration::from_secs(1)).build();
    let key = create(&store, "ci", named("ci").with_global(requests(None, Some(9))));
    for (later, counted) in [(0, 1), (999, 1), (1_000, 2)] {
        clock.set(NOON.after(Duration::from_millis(later)));
        assert!(store.check_once(&key, None, &Charge::request(), &id("q")).is_ok());
        assert_eq!(used(&store, &key), counted);
    }
}

#[test]
fn a_snapshot_keeps_what_is_remembered() {
    let (store, clock, key) = bounded(10);
    assert!(reserve(&store, &key, "open", 3 * MINUTE).is_ok());
    assert!(reserve(&store, &key, "settled", 3 * MINUTE).is_ok());
    store.cancel(&key, &id("settled")).expect("it is known");
    assert!(store.check_once(&key, None, &Charge::request(), &id("q")).is_ok());
    assert_eq!(used(&store, &key), 2);

    let saved = serde_json::to_string(&store.snapshot()).expect("it can be saved");
    let snapshot: Snapshot = serde_json::from_str(&saved).expect("it can be read");
    let store = MemoryStore::builder().clock(clock.clone()).restore(snapshot);
    let store = store.expect("it was just taken");
    assert_eq!(reserve(&store, &key, "open", MINUTE).ok(), Some(true));
    assert!(store.check_once(&key, None, &Charge::request(), &id("q")).is_ok());
    store.cancel(&key, &id("settled")).expect("it was cancelled before, and is again");
    assert_eq!(used(&store, &key), 2, "nothing was counted twice");
    store.cancel(&key, &id("open")).expect("it is known");
    assert_eq!(used(&store, &key), 1, "its windows are found again");
    clock.set(NOON.after(3 * MINUTE));
    let late = store.cancel(&key, &id("open"));
    assert!(matches!(late, Err(ReservationError::Unknown(_))), "{late:?}");
}

#[test]
fn memory_goes_back_down_when_ttls_have_passed() {
    let (store, clock, key) = bounded(10_000);
    // The state of one call: the first makes all that stays.
    assert!(reserve(&store, &key, "first", Duration::from_millis(1)).is_ok());
    let mut most = 0;
    let grown = allocation_counter::measure(|| {
        for round in 1..=3 {
            let filled = allocation_counter::measure(|| {
                for number in 0..5_000 {
                    let name = format!("a reservation with a long id, number {number}");
                    assert!(reserve(&store, &key, &name, MINUTE).is_ok());
                }
            });
            most = most.max(filled.bytes_current);
            clock.set(NOON.after(round * MINUTE));
            let unknown = store.cancel(&key, &id("unknown"));
            assert!(matches!(unknown, Err(ReservationError::Unknown(_))), "{unknown:?}");
        }
    });
    println!("{most} bytes for 5,000 reservations, {} bytes later", grown.bytes_current);
    assert!(most > 500_000, "{most} bytes are too few for this test to say anything");
    assert!(grown.bytes_current <= 0, "{} bytes stay", grown.bytes_current);
}

#[test]
fn a_flood_of_unknown_ids_takes_no_memory() {
    let (store, _clock, key) = bounded(10);
    let grown = allocation_counter::measure(|| {
        for number in 0..1_000 {
            assert!(store.cancel(&key, &id(&format!("made up, number {number}"))).is_err());
        }
    });
    assert_eq!(grown.bytes_current, 0);
}

/// A store that remembers so much of a key without limits that matter, on a clock at noon.
fn bounded(most: usize) -> (MemoryStore, ManualClock, KeyId) {
    let clock = ManualClock::at(NOON);
    let store = MemoryStore::builder().clock(clock.clone()).remembered(most).build();
    let key = create(&store, "ci", named("ci").with_global(requests(None, Some(1_000_000))));
    (store, clock, key)
}

/// Whether it was replayed; it must be allowed.
fn reserve(
    store: &MemoryStore,
    key: &KeyId,
    name: &str,
    ttl: Duration,
) -> Result<bool, ReservationError> {
    let decision = store.reserve(key, None, &Charge::request(), &id(name), ttl)?;
    Ok(decision.allowed().map(Allowed::replayed).expect("the limits are far away"))
}

/// Requests of the day.
fn used(store: &MemoryStore, key: &KeyId) -> u64 {
    let usage = store.usage(key).expect("the key lives");
    usage.global.expect("the scope is counted").day.requests.used
}

fn id(text: &str) -> RequestId {
    text.parse().expect("an id")
}
