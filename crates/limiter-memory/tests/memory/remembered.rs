//! The ledger of a key: bounded, kept over a restart, and emptied in time.

use std::time::Duration;

use crate::common::{create, requests};
use limiter_conformance::fixtures::{MINUTE, NOON, named};
use limiter_core::{
    Allowed, Charge, KeyId, LedgerBounds, ManualClock, RequestId, ReservationError, Totals,
};
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
    assert!(sentence.contains("3 open reservations") && sentence.contains("nothing was charged"));
    assert_eq!(used(&store, &key), 3);
    assert_eq!(reserve(&store, &key, "r1", MINUTE).ok(), Some(true), "what is known stays known");
    assert!(store.check_once(&key, None, &Charge::request(), &id("q")).is_ok(), "checks are apart");
    for number in 0..3 {
        store.settle(&key, &id(&format!("r{number}")), &Totals::unchanged()).expect("it is known");
    }
    let refused = reserve(&store, &key, "r3", MINUTE).expect_err("settled ones are remembered too");
    assert!(refused.to_string().contains("3 ended reservations"), "{refused}");
    assert_eq!(refused.retry_at(), Some(NOON.after(2 * MINUTE)));

    clock.set(NOON.after(2 * MINUTE));
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
    let bounds = LedgerBounds { dedupe: Duration::from_secs(1), ..LedgerBounds::default() };
    let store = MemoryStore::builder().clock(clock.clone()).ledger_bounds(bounds).build();
    let key = create(&store, "ci", named("ci").with_global(requests(None, Some(9))));
    assert!(reserve(&store, &key, "r", 60 * MINUTE).is_ok());
    store.settle(&key, &id("r"), &Totals::unchanged()).expect("it is known");
    for (later, counted) in [(0, 2), (999, 2), (1_000, 3)] {
        clock.set(NOON.after(Duration::from_millis(later)));
        assert!(store.check_once(&key, None, &Charge::request(), &id("q")).is_ok());
        assert_eq!(used(&store, &key), counted);
        let settled = store.settle(&key, &id("r"), &Totals::unchanged());
        assert_eq!(settled.is_ok(), later < 1_000, "{settled:?}");
    }
}

/// The key would reserve 100,000 calls, and then none for an hour.
#[test]
fn a_key_settles_far_more_calls_an_hour_than_it_may_have_ended_ones() {
    let (store, clock, key) = bounded(100);
    for second in 0..3_600 {
        clock.set(NOON.after(Duration::from_secs(second)));
        // 100 calls in two minutes are 100 in each two minutes of the hour.
        if second % 120 < 100 {
            let call = format!("r{second}");
            assert_eq!(reserve(&store, &key, &call, 60 * MINUTE).ok(), Some(false), "{call}");
            store.settle(&key, &id(&call), &Totals::unchanged()).expect("it is known");
        }
    }
    assert_eq!(used(&store, &key), 3_000);
}

/// As many open reservations as possible end when no more may be reserved. None of them is refused, and the ledger
/// stays bounded.
#[test]
fn of_open_and_ended_ones_no_more_are_remembered_than_both_bounds_together() {
    let (store, _, key) = bounded(50);
    for round in 0..3 {
        let open: Vec<_> = (0..50).map(|number| format!("r{round}/{number}")).collect();
        let reserved = open.iter().filter(|call| reserve(&store, &key, call, MINUTE).is_ok());
        let reserved: Vec<_> = reserved.collect();
        // The first 49 end; with them there is room for 50 more to be open, which all end.
        let ended = if round == 0 { &reserved[..49] } else { &reserved[..] };
        for call in ended {
            store.settle(&key, &id(call), &Totals::unchanged()).expect("it is known");
        }
    }
    let saved = serde_json::to_value(store.snapshot()).expect("a snapshot is JSON");
    let remembered = saved["keys"][0]["ledger"]["reservations"].as_array().map(Vec::len);
    assert_eq!(remembered, Some(99));
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
    clock.set(NOON.after(MINUTE));
    store.cancel(&key, &id("open")).expect("it is known");
    assert_eq!(used(&store, &key), 1, "its windows are found again");
    clock.set(NOON.after(2 * MINUTE));
    let late = store.cancel(&key, &id("settled"));
    assert!(matches!(late, Err(ReservationError::Unknown(_))), "{late:?}");
    store.cancel(&key, &id("open")).expect("it ended a minute later");
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

/// Long before their ttl.
#[test]
fn memory_goes_back_down_when_the_dedupe_time_has_passed() {
    let (store, clock, key) = bounded(10_000);
    assert!(reserve(&store, &key, "first", Duration::from_millis(1)).is_ok());
    let grown = allocation_counter::measure(|| {
        for round in 1..=3 {
            for number in 0..5_000 {
                let name = format!("a reservation with a long id, number {number}");
                assert!(reserve(&store, &key, &name, 60 * MINUTE).is_ok());
                store.cancel(&key, &id(&name)).expect("it is known");
            }
            clock.set(NOON.after(2 * round * MINUTE));
            assert!(store.cancel(&key, &id("unknown")).is_err());
        }
    });
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

/// A store that remembers `most` calls of each kind, on a clock at noon, and a key in it whose limits are never reached.
fn bounded(most: usize) -> (MemoryStore, ManualClock, KeyId) {
    let clock = ManualClock::at(NOON);
    let store = MemoryStore::builder()
        .clock(clock.clone())
        .ledger_bounds(LedgerBounds::of_each(most))
        .build();
    let key = create(&store, "ci", named("ci").with_global(requests(None, Some(1_000_000))));
    (store, clock, key)
}

/// Reserves a call, which must be allowed. Returns whether it was replayed.
fn reserve(
    store: &MemoryStore,
    key: &KeyId,
    name: &str,
    ttl: Duration,
) -> Result<bool, ReservationError> {
    let decision = store.reserve(key, None, &Charge::request(), &id(name), ttl)?;
    Ok(decision.allowed().map(Allowed::replayed).expect("the limits are far away"))
}

/// Returns the requests of the day.
fn used(store: &MemoryStore, key: &KeyId) -> u64 {
    store.usage(key).expect("the key lives").scopes[0].account.requests()
}

fn id(text: &str) -> RequestId {
    text.parse().expect("an id")
}
