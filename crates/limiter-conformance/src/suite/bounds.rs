//! Bounds of what a key remembers: one call too many is refused and charged nothing, and no id is forgotten early.

use std::time::Duration;

use limiter_core::{LedgerBounds, ReservationError, SettledAs, Timestamp, Totals};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    let default = LedgerBounds::default;
    let call = || tokens(0, 5);

    // To the millisecond, also when its ttl would pass sooner or later, and a repetition does not prolong it.
    suite.calls("an_ended_reservation_is_remembered_for_two_minutes_from_its_end", move |key| {
        for (id, ttl) in [("sooner", MINUTE), ("later", DAY), ("cancelled", DAY)] {
            key.reserve_for(ttl, id, None, call());
        }
        key.at(59_999).settle("sooner", output(4)).settle("later", output(4)).cancel("cancelled");
        let again = || {
            ["sooner", "later"]
                .map(|id| key.try_settle(id, output(4)))
                .into_iter()
                .chain([key.try_cancel("cancelled")])
        };
        for ms in [60_000, 179_998] {
            key.at(ms);
            for settled in again() {
                assert_eq!(settled.expect("it is known").outcome, SettledAs::Repeated, "{ms}");
            }
            let again = key.try_reserve("later", None, call(), DAY).expect("it is known");
            assert!(is_replayed(&again), "{ms} ms after noon");
        }
        key.at(179_999);
        for settled in again() {
            assert_refused!(settled, ReservationError::Unknown(_));
        }
        assert_eq!(key.used()[3], 8, "each was settled once");
    });

    // Nothing is charged, a known id stays known, and the error names the bound and the instant.
    suite.story("the_bound_of_open_reservations_holds_until_a_ttl_has_passed", move |world| {
        let world = world.with_bounds(LedgerBounds { open: 2, ..default() });
        let key = world.generous();
        key.reserve_for(2 * MINUTE, "r1", None, call()).reserve_for(MINUTE, "r2", None, call());
        let sentence = refused(&key, "r3", NOON.after(MINUTE));
        for part in ["2 open reservations", "2025-10-09T12:01:00Z", "nothing was charged"] {
            assert!(sentence.contains(part), "{sentence}");
        }
        key.uses([2, 10, 2, 10]);
        let known = key.try_reserve("r1", None, call(), DAY).expect("it is known");
        assert!(is_replayed(&known));

        world.at(59_999);
        refused(&key, "r3", NOON.after(MINUTE));
        key.at(60_000).reserve("r3", call());
        refused(&key, "r4", NOON.after(2 * MINUTE));
    });

    // A key may reserve without end, as long as few of its calls run at a time.
    suite.story("an_ended_reservation_leaves_its_place_to_an_open_one", move |world| {
        let world = world.with_bounds(LedgerBounds { open: 1, ..default() });
        let key = world.generous();
        for number in 0..8 {
            let id = format!("r{number}");
            key.reserve(&id, call());
            let another = key.try_reserve("another", None, call(), DAY);
            assert_refused!(another, ReservationError::TooMany { most: 1, .. });
            key.settle(&id, output(5));
        }
        key.uses([8, 40, 8, 40]);
    });

    // Its own end will need a place.
    suite.story("the_bound_of_ended_reservations_holds_until_one_is_forgotten", move |world| {
        let world = world.with_bounds(LedgerBounds { ended: 2, ..default() });
        let key = world.generous();
        for (seconds, id) in [(0, "r1"), (1, "r2")] {
            key.at(seconds * 1_000).reserve(id, call()).cancel(id);
        }
        let sentence = refused(&key, "r3", NOON.after(2 * MINUTE));
        assert!(sentence.contains("2 ended reservations"), "{sentence}");
        // A repetition needs no place.
        key.uses([0, 0, 0, 0]).cancel("r1");
        world.at(119_999);
        refused(&key, "r3", NOON.after(2 * MINUTE));
        key.at(120_000).reserve("r3", call());
    });

    // An open reservation ends beyond the bound of ended ones, and is remembered as long as any: a refund is never lost.
    // There is room when as many are forgotten as exceed the bound.
    suite.story("settlements_never_fail_for_a_bound", move |world| {
        let world = world.with_bounds(LedgerBounds { open: 4, ended: 1, ..default() });
        let key = world.generous();
        let ids = ["r0", "r1", "r2", "r3"];
        for id in ids {
            key.reserve(id, call());
        }
        for (id, second) in ids.into_iter().zip(0..) {
            key.at(second * 1_000).settle(id, output(1));
        }
        key.uses([4, 4, 4, 4]);
        refused(&key, "r4", at_noon_and(123_000));
        world.at(119_999);
        for id in ids {
            let settled = key.try_settle(id, output(1)).expect("all are remembered");
            assert_eq!(settled.outcome, SettledAs::Repeated);
        }
        world.at(122_999);
        refused(&key, "r4", at_noon_and(123_000));
        key.at(123_000).reserve("r4", call());
    });

    suite.story("a_check_at_its_bound_is_refused_until_the_first_id_is_forgotten", move |world| {
        let world = world.with_bounds(LedgerBounds { checks: 2, ..default() });
        let key = world.generous();
        for (ms, id) in [(0, "q1"), (1_000, "q2")] {
            assert!(key.at(ms).check_once(id, None, call()).is_allowed());
        }
        let full = key.try_check_once("q3", None, call()).expect_err("there is no room");
        assert_eq!(full.retry_at(), Some(NOON.after(2 * MINUTE)), "{full}");
        assert_eq!(full.retry_after(), Some(Duration::from_secs(119)), "{full}");
        key.uses([2, 10, 2, 10]);
        assert!(is_replayed(&key.check_once("q1", None, call())));
        assert!(key.at(120_000).check_once("q3", None, call()).is_allowed());
    });

    // The ids of records are remembered for as long as each caller asked.
    suite.story("a_record_at_its_bound_is_refused_until_the_first_id_is_forgotten", move |world| {
        let world = world.with_bounds(LedgerBounds { records: 1, ..default() });
        let key = world.generous();
        key.record("r1", call());
        let full = key.try_record("r2", None, call(), None).expect_err("there is no room");
        assert_eq!(full.retry_at(), Some(NOON.after(DAY)), "{full}");
        key.record("r1", call()).uses([1, 5, 1, 5]).after(DAY).record("r2", call());
    });

    suite.story("each_kind_has_a_bound_of_its_own", move |world| {
        let world = world.with_bounds(LedgerBounds::of_each(1));
        let key = world.generous();
        key.reserve("settled", call()).settle("settled", output(5));
        assert!(key.at(1).check_once("q1", None, call()).is_allowed());
        key.record("r1", call()).at(120_000).reserve("open", call());
        let another = key.try_reserve("another", None, call(), DAY);
        assert_refused!(another, ReservationError::TooMany { most: 1, .. });
        assert_eq!(key.used()[2..], [4, 20]);
    });

    // A denial is the better answer, and is free.
    suite.story("a_call_that_would_be_denied_is_denied_at_the_bound_too", |world| {
        let world = world.with_bounds(LedgerBounds::of_each(1));
        let key = world.limited(requests_per_minute(1));
        let is_denied = || {
            let denied = key.try_reserve("r2", None, requests(1), DAY);
            assert!(denied.is_ok_and(|decision| !decision.is_allowed()));
        };
        key.reserve("r1", requests(1));
        is_denied();
        key.settle("r1", Totals::unchanged());
        is_denied();
    });
}

/// Reserves a call, which must find no room until this instant, and returns the sentence of the refusal.
#[track_caller]
fn refused(key: &Key<'_>, id: &str, room_at: Timestamp) -> String {
    let full = key.try_reserve(id, None, tokens(0, 5), DAY).expect_err("there is no room");
    assert!(matches!(full, ReservationError::TooMany { .. }), "{full}");
    assert_eq!(full.retry_at(), Some(room_at), "{full}");
    full.to_string()
}
