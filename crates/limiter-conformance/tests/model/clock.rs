//! The model under clocks that step back.

use crate::world::{DAY, MIDNIGHT, MINUTE, NOON, World, allowed, denied, limited, row, rows};

#[test]
fn a_small_step_back_does_not_reopen_a_window() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.now = NOON + MINUTE;
    world.admits(1, "");
    world.now = NOON + MINUTE - 1;
    // The stored window stays, so it ends when it always would have.
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + 2 * MINUTE)));
}

#[test]
fn an_index_moves_only_when_counts_are_written() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.admits(1, "");
    world.now = NOON + MINUTE;
    world.peek("");
    world.usage();
    world.check(r#""output":9007199254740991,"input":1"#);
    world.now = NOON;
    // Had any of these opened the next minute, this would be one behind it, and open.
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
}

#[test]
fn a_denial_does_not_open_a_window() {
    let mut world = World::with_key(r#""global":{"tokens_per_minute":1}"#);
    world.admits(1, r#""output":1"#);
    world.now = NOON + MINUTE;
    assert_eq!(world.check(r#""output":2"#), limited("global/minute/tokens", None));
    world.now = NOON;
    assert_eq!(world.check(""), limited("global/minute/tokens", Some(NOON + MINUTE)));
}

#[test]
fn an_admitted_check_that_adds_zero_opens_both_windows() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.admits(1, "");
    world.now = NOON + MINUTE;
    world.admits(1, r#""requests":0"#);
    world.now = NOON;
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":0"#));
}

#[test]
fn a_clock_that_was_mended_carries_the_counts_back() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":2}"#);
    world.now = NOON + 100 * DAY;
    world.admits(1, "");
    world.now = NOON;
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":0"#));
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
}

#[test]
fn two_minutes_behind_is_a_mended_clock_and_one_is_not() {
    for (back, reset) in [(MINUTE, NOON + MINUTE), (2 * MINUTE, NOON - MINUTE)] {
        let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
        world.admits(1, "");
        world.now = NOON - back;
        assert_eq!(world.check(""), limited("global/minute/requests", Some(reset)));
    }
}

#[test]
fn a_denial_stores_the_mending_or_a_full_key_would_stay_frozen() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.now = NOON + 100 * DAY;
    world.admits(1, "");
    world.now = NOON;
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
    world.now = NOON + MINUTE;
    world.admits(1, "");
}

#[test]
fn a_denial_for_the_budget_stores_the_mending_too() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.now = NOON + 100 * DAY;
    world.admits(1, "");
    world.now = NOON;
    world.update(r#""budget":0"#);
    assert_eq!(world.check(""), denied("budget_exhausted"));
    world.update(r#""budget":null"#);
    world.now = NOON + MINUTE;
    world.admits(1, "");
}

#[test]
fn a_peek_tells_of_the_mending_and_does_not_store_it() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.now = NOON + 100 * DAY;
    world.admits(1, "");
    world.now = NOON;
    assert_eq!(world.peek(""), limited("global/minute/requests", Some(NOON + MINUTE)));
    world.now = NOON + MINUTE;
    assert_eq!(world.peek(""), limited("global/minute/requests", Some(NOON + 2 * MINUTE)));
}

#[test]
fn a_denial_mends_only_the_scopes_it_meets() {
    let mut world = World::with_key(
        r#""global":{"requests_per_minute":1},"assets":{"m1":{"requests_per_minute":1},"m2":{"requests_per_minute":1}}"#,
    );
    world.now = NOON + 100 * DAY;
    world.admits(1, r#""asset":"m2""#);
    world.now = NOON;
    // m1 was never counted in the far minute, m2 was.
    assert_eq!(
        world.check(r#""asset":"m1""#),
        limited("global/minute/requests", Some(NOON + MINUTE))
    );
    world.now = NOON + MINUTE;
    assert_eq!(
        world.peek(r#""asset":"m2""#),
        limited("asset/minute/requests", Some(NOON + 2 * MINUTE))
    );
    assert_eq!(
        world.peek(r#""asset":"m1""#),
        allowed(r#""global/minute/requests":0,"asset/minute/requests":0"#)
    );
}

#[test]
fn a_day_back_mends_the_minute_and_keeps_the_day() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":9,"requests_per_day":1}"#);
    world.now = MIDNIGHT + 2 * MINUTE;
    world.admits(1, "");
    world.now = MIDNIGHT - MINUTE;
    assert_eq!(world.check(""), limited("global/day/requests", Some(MIDNIGHT + DAY)));
    assert_eq!(
        world.usage(),
        rows(&[row(
            "global",
            [(Some(1), Some(9)), (Some(0), None), (Some(1), Some(1)), (Some(0), None)]
        )])
    );
    // The minute was mended: it is over when the clock says so.
    world.now = MIDNIGHT;
    assert_eq!(
        world.usage(),
        rows(&[row(
            "global",
            [(Some(0), Some(9)), (Some(0), None), (Some(1), Some(1)), (Some(0), None)]
        )])
    );
}

#[test]
fn after_a_mending_a_pending_change_comes_in_the_next_window() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.now = NOON + 100 * DAY;
    world.update(r#""global":{"requests_per_minute":5}"#);
    world.now = NOON;
    world.admits(1, "");
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
    world.now = NOON + MINUTE;
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":4"#));
}

#[test]
fn one_behind_a_pending_change_waits_for_the_end_of_the_stored_window() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.now = NOON + MINUTE;
    world.update(r#""global":{"requests_per_minute":5}"#);
    world.now = NOON;
    world.admits(1, "");
    world.now = NOON + MINUTE;
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + 2 * MINUTE)));
}

#[test]
fn the_first_minute_of_unix_time_is_a_window_like_any_other() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.now = 0;
    world.admits(1, "");
    assert_eq!(world.check(""), limited("global/minute/requests", Some(MINUTE)));
}
