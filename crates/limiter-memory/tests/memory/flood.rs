//! Callers who make up names beneath an open group: the group's own limit bounds the memory that they take.

use std::env;

use limiter_conformance::fixtures::{DAY, MINUTE, NOON, limits, named};
use limiter_core::{
    Charge, Decision, DenialReason, Denied, KeyId, KeyKind, Limits, ManualClock, NewRecord, Plan,
    PlanUpdate, ReservationError, Thresholds, Totals,
};
use limiter_memory::{MemoryStore, MemoryStoreBuilder};

use crate::common::{create, home, update};

/// A tenth of the calls come from keys that are known, which are decided exactly meanwhile. By default 200,000 names beneath a
/// group of 20,000 requests a day; `LIMITER_TEST_FLOOD` multiplies both.
#[test]
fn a_flood_of_made_up_names_takes_memory_for_no_more_than_the_group_admits() {
    let times = env::var("LIMITER_TEST_FLOOD").ok().and_then(|times| times.parse().ok());
    let times: u64 = times.unwrap_or(1);
    let (names, admitted) = (200_000 * times, 20_000 * times);
    let (store, clock) = open(MemoryStore::builder(), per_minute(2), per_day(admitted));
    let known = create(&store, "known", named("known").with_global(per_day(names / 20)));

    let (mut allowed, mut of_known, mut fewest) = (0, 0, usize::MAX);
    let flooded = allocation_counter::measure(|| {
        for name in 0..names {
            allowed += u64::from(call(&store, &nobody(name)).is_allowed());
            if name % 10 == 0 {
                of_known += u64::from(call(&store, &known).is_allowed());
            }
        }
    });
    assert_eq!((allowed, of_known), (admitted, names / 20), "exactly the limits");
    assert_eq!(store.unregistered_keys() as u64, admitted);

    // Their minutes end, and what calls come frees them: four for each.
    clock.set(NOON.after(DAY));
    let after = allocation_counter::measure(|| {
        for name in names..names + admitted {
            assert!(!call(&store, &nobody(name % 50)).denied().is_some_and(Denied::never_fits));
            fewest = fewest.min(store.unregistered_keys());
        }
    });
    let left = flooded.bytes_current + after.bytes_current;
    println!(
        "{names} names, {admitted} admitted: {} bytes at the worst ({} each), {left} afterwards",
        flooded.bytes_max,
        flooded.bytes_max / admitted,
    );
    assert!(flooded.bytes_max / admitted <= 1_100, "{} bytes each", flooded.bytes_max / admitted);
    assert!(fewest <= 115, "{fewest} are left");
    assert!(left * 10 <= flooded.bytes_current, "{left} bytes are left");
}

#[test]
fn one_more_than_may_be_counted_is_too_many_until_the_first_is_over() {
    let builder = MemoryStore::builder().most_unregistered(3);
    let (store, clock) = open(builder, per_minute(2), per_day(1_000));
    for name in 0..3 {
        assert!(call(&store, &nobody(name)).is_allowed());
    }
    let denied = call(&store, &nobody(3));
    let expected = DenialReason::TooManyKeys { most: 3, retry_at: Some(NOON.after(MINUTE)) };
    assert_eq!(denied.denied().map(|denied| denied.reason()), Some(&expected));
    assert!(call(&store, &nobody(0)).is_allowed(), "those that are counted go on");
    let id = "r".parse().expect("an id");
    let record = limiter_core::RecordId { id: &id, remembered_for: DAY, confirms: None };
    let recorded = store.record(&nobody(3), None, &Charge::request(), &record);
    assert!(matches!(recorded, Err(ReservationError::TooMany { most: 3, .. })), "{recorded:?}");
    let usage = store.usage(&group()).expect("the group is there");
    assert_eq!(usage.scopes[0].account.requests(), 4, "nothing was charged");
    clock.set(NOON.after(MINUTE));
    assert!(call(&store, &nobody(3)).is_allowed());
}

/// One that was denied by its limits is so at the bound, too.
#[test]
fn a_call_that_fits_in_no_limit_is_denied_by_the_limit_at_the_bound() {
    let builder = MemoryStore::builder().most_unregistered(1);
    let (store, _) = open(builder, per_minute(1), per_day(1));
    assert!(call(&store, &nobody(0)).is_allowed());
    let denied = call(&store, &nobody(1));
    assert_eq!(denied.denied().map(|denied| denied.reason().as_str()), Some("rate_limited"));
}

#[test]
fn what_unregistered_keys_have_used_survives_a_restart() {
    let (store, clock) = open(MemoryStore::builder(), per_minute(2), per_day(9));
    assert!(call(&store, &nobody(0)).is_allowed());
    let json = serde_json::to_string(&store.snapshot()).expect("a snapshot is JSON");
    let snapshot = serde_json::from_str(&json).expect("it was written so");
    let restored = MemoryStore::builder().clock(clock).restore(snapshot).expect("it is whole");
    assert_eq!(restored.unregistered_keys(), 1);
    assert!(call(&restored, &nobody(0)).is_allowed());
    assert!(!call(&restored, &nobody(0)).is_allowed());
}

/// The group had been opened with another plan of the same version, and the key had made no call since.
#[test]
fn a_restored_unregistered_key_takes_the_plan_with_which_its_group_is_open() {
    let (store, clock) = open(MemoryStore::builder(), per_minute(9), per_day(99));
    assert!(call(&store, &nobody(0)).is_allowed());
    let strict = PlanUpdate::new("strict".parse().expect("a name"), Plan::from(per_minute(1)));
    store.save_plan(&home(), &strict.at_once()).expect("a plan");
    update(&store, &group(), |config| config.open = Some("strict".parse().expect("a name")));
    let restored = MemoryStore::builder().clock(clock.clone()).restore(store.snapshot());
    clock.set(NOON.after(MINUTE));
    for store in [store, restored.expect("it is whole")] {
        assert!(call(&store, &nobody(0)).is_allowed());
        assert!(!call(&store, &nobody(0)).is_allowed());
    }
}

/// Each time its cell is gone it is noted anew when the next one may be; the old notes once stayed for ever.
#[test]
fn a_caller_that_returns_again_and_again_takes_no_more_memory() {
    let (store, clock) = open(MemoryStore::builder(), per_minute(1), per_day(1_000_000));
    let return_for = |minutes: u64| {
        let returned = allocation_counter::measure(|| {
            for _ in 0..minutes {
                clock.set(clock.now().after(MINUTE));
                assert!(call(&store, &nobody(0)).is_allowed());
            }
        });
        returned.bytes_current
    };
    return_for(1_000);
    let grown = return_for(20_000);
    assert!(grown < 4_096, "{grown} bytes more");
}

/// The store was restored with a lower bound. Those that were counted once went on for as long as they called.
#[test]
fn a_bound_that_was_lowered_holds_when_the_windows_have_ended() {
    let (store, clock) = open(MemoryStore::builder(), per_minute(2), per_day(99));
    let call_all = |store: &MemoryStore| {
        (0..10).filter(|name| call(store, &nobody(*name)).is_allowed()).count()
    };
    assert_eq!(call_all(&store), 10);
    let builder = MemoryStore::builder().clock(clock.clone()).most_unregistered(2);
    let restored = builder.restore(store.snapshot()).expect("it is whole");
    assert_eq!(call_all(&restored), 10, "nobody is forgotten before the time");
    clock.set(NOON.after(MINUTE));
    assert_eq!(call_all(&restored), 2);
    assert_eq!(restored.unregistered_keys(), 2);
}

/// It held its place for as long as its reservation could have been open.
#[test]
fn a_key_whose_reservation_has_ended_leaves_its_room_to_another() {
    let (store, clock) =
        open(MemoryStore::builder().most_unregistered(1), per_minute(2), per_day(99));
    let id = "r".parse().expect("an id");
    let reserved = store.reserve(&nobody(0), None, &Charge::request(), &id, DAY).expect("room");
    assert!(reserved.is_allowed());
    store.settle(&nobody(0), &id, &Totals::unchanged()).expect("it is open");
    for minutes in 1..=2 {
        let denied = call(&store, &nobody(1));
        let expected =
            DenialReason::TooManyKeys { most: 1, retry_at: Some(clock.now().after(MINUTE)) };
        assert_eq!(denied.denied().map(|denied| denied.reason()), Some(&expected), "{minutes}");
        clock.set(clock.now().after(MINUTE));
    }
    assert!(call(&store, &nobody(1)).is_allowed(), "it was remembered for two minutes");
}

/// Without a limit on anything that it counts, nothing is left of a key once it has called.
#[test]
fn a_key_of_which_nothing_is_counted_takes_no_memory() {
    let (store, _) = open(MemoryStore::builder(), Limits::NONE, per_day(1_000_000));
    let called = allocation_counter::measure(|| {
        for _ in 0..10_000 {
            assert!(call(&store, &nobody(0)).is_allowed());
        }
    });
    assert_eq!(store.unregistered_keys(), 0);
    assert!(called.bytes_current < 4_096, "{} bytes", called.bytes_current);
}

/// The cells of this root are in another shard than those that fill the store.
#[test]
fn another_group_that_finds_no_room_is_told_when_there_is_some() {
    let (store, clock) =
        open(MemoryStore::builder().most_unregistered(2), per_minute(2), per_day(99));
    for other in 0..20 {
        let record = group_record(&format!("other{other}"), per_day(99));
        store.create(record).expect("the group is new");
    }
    assert!(call(&store, &nobody(0)).is_allowed() && call(&store, &nobody(1)).is_allowed());
    let elsewhere = |other: u64| format!("other{other}/a").parse().expect("an id");
    for other in 0..20 {
        let denied = call(&store, &elsewhere(other));
        let expected = DenialReason::TooManyKeys { most: 2, retry_at: Some(NOON.after(MINUTE)) };
        assert_eq!(denied.denied().map(|denied| denied.reason()), Some(&expected));
    }
    clock.set(NOON.after(MINUTE));
    assert!(call(&store, &elsewhere(0)).is_allowed());
}

#[test]
fn a_handle_of_a_key_that_nobody_registered_is_of_whoever_comes_by_this_name() {
    let (store, clock) = open(MemoryStore::builder(), per_minute(1), per_day(99));
    let handle = store.handle(&nobody(0), None).expect("the group is open");
    for _ in 0..2 {
        assert!(handle.peek(&Charge::request()).is_allowed());
        assert!(handle.check_and_consume(&Charge::request()).is_allowed());
        assert!(!handle.check_and_consume(&Charge::request()).is_allowed());
        clock.set(clock.now().after(MINUTE));
    }
    assert!(store.handle(&"closed/a".parse().expect("an id"), None).is_none());
}

fn open(builder: MemoryStoreBuilder, each: Limits, all: Limits) -> (MemoryStore, ManualClock) {
    let clock = ManualClock::at(NOON);
    let store = builder.clock(clock.clone()).build();
    let plan = PlanUpdate::new("each".parse().expect("a name"), Plan::from(each));
    store.save_plan(&home(), &plan).expect("a plan");
    store.create(group_record("ip", all)).expect("the group is new");
    (store, clock)
}

fn group_record(id: &str, all: Limits) -> NewRecord {
    NewRecord {
        id: id.parse().expect("an id"),
        workspace: home(),
        kind: KeyKind::Group,
        config: named(id).with_open("each".parse().expect("a name")).with_global(all),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}

fn call(store: &MemoryStore, key: &KeyId) -> Decision {
    store.check_and_consume(key, None, &Charge::request())
}

fn group() -> KeyId {
    "ip".parse().expect("an id")
}

fn nobody(name: u64) -> KeyId {
    format!("ip/{name}").parse().expect("an id")
}

fn per_minute(requests: u64) -> Limits {
    limits(|it| it.requests_per_minute(requests))
}

fn per_day(requests: u64) -> Limits {
    limits(|it| it.requests_per_day(requests))
}
