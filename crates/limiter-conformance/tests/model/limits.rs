//! The model when limits change.

use crate::world::{DAY, MIDNIGHT, MINUTE, NOON, World, allowed, limited, no_global, row, rows};

#[test]
fn a_raised_limit_holds_from_the_next_minute() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.update(r#""global":{"requests_per_minute":3}"#);
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":0"#));
    world.now += MINUTE;
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":2"#));
}

#[test]
fn the_per_day_part_waits_for_the_next_day() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":5,"requests_per_day":5}"#);
    world.update(r#""global":{"requests_per_minute":4,"requests_per_day":4}"#);
    world.now += MINUTE;
    assert_eq!(world.peek(""), allowed(r#""global/minute/requests":3,"global/day/requests":4"#));
    world.now = MIDNIGHT;
    assert_eq!(world.peek(""), allowed(r#""global/minute/requests":3,"global/day/requests":3"#));
}

#[test]
fn a_second_change_replaces_the_first() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.update(r#""global":{"requests_per_minute":3}"#);
    world.update(r#""global":{"requests_per_minute":7}"#);
    world.now += MINUTE;
    assert_eq!(world.peek(""), allowed(r#""global/minute/requests":6"#));
}

#[test]
fn a_change_back_drops_the_pending_one() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":2}"#);
    world.update(r#""global":{"requests_per_minute":3}"#);
    world.update(r#""global":{"requests_per_minute":2}"#);
    world.now += MINUTE;
    assert_eq!(world.peek(""), allowed(r#""global/minute/requests":1"#));
}

#[test]
fn saving_what_is_configured_does_not_move_a_window() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.admits(1, "");
    world.now += MINUTE;
    world.update(r#""global":{"requests_per_minute":1,"token_type":"output"},"assets":{"m1":{}}"#);
    world.now = NOON;
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
}

#[test]
fn a_change_moves_both_windows_of_its_scope() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.admits(1, "");
    world.now += MINUTE;
    world.update(r#""global":{"requests_per_minute":1,"requests_per_day":9}"#);
    world.now = NOON;
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":0"#));
}

#[test]
fn a_change_of_one_scope_does_not_move_another() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.admits(1, "");
    world.now += MINUTE;
    world.update(r#""assets":{"m1":{"requests_per_minute":1}}"#);
    world.now = NOON;
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
}

#[test]
fn a_new_token_type_counts_from_the_next_window() {
    let mut world = World::with_key(r#""global":{"tokens_per_minute":10}"#);
    world.update(r#""global":{"tokens_per_minute":10,"token_type":"input"}"#);
    assert_eq!(world.check(r#""input":1,"output":4"#), allowed(r#""global/minute/tokens":5"#));
    world.now += MINUTE;
    assert_eq!(world.check(r#""input":1,"output":4"#), allowed(r#""global/minute/tokens":9"#));
}

#[test]
fn an_added_asset_is_counted_at_once_and_limited_from_the_next_window() {
    let mut world = World::with_key("");
    world.admits(1, r#""asset":"m1""#);
    world.update(r#""assets":{"m1":{"requests_per_day":1}}"#);
    assert_eq!(world.check(r#""asset":"m1","output":3"#), allowed(""));
    assert_eq!(
        world.usage(),
        rows(&[
            no_global(),
            row("m1", [(Some(1), None), (Some(3), None), (Some(1), None), (Some(3), None)])
        ])
    );
    world.now = MIDNIGHT;
    world.admits(1, r#""asset":"m1""#);
    assert_eq!(world.check(r#""asset":"m1""#), limited("asset/day/requests", Some(MIDNIGHT + DAY)));
}

#[test]
fn a_removed_asset_is_limited_to_the_end_of_the_window_and_then_has_no_row() {
    let mut world = World::with_key(r#""assets":{"m1":{"requests_per_minute":1}}"#);
    world.update(r#""assets":{}"#);
    world.admits(1, r#""asset":"m1""#);
    assert_eq!(
        world.check(r#""asset":"m1""#),
        limited("asset/minute/requests", Some(NOON + MINUTE))
    );
    world.now += MINUTE;
    assert_eq!(world.usage(), rows(&[no_global()]));
    assert_eq!(world.check(r#""asset":"m1""#), allowed(""));
}

#[test]
fn an_asset_added_and_removed_in_one_window_is_not_counted() {
    let mut world = World::with_key("");
    world.update(r#""assets":{"m1":{"requests_per_minute":1}}"#);
    world.admits(1, r#""asset":"m1""#);
    world.update(r#""assets":null"#);
    assert_eq!(world.usage(), rows(&[no_global()]));
    world.update(r#""assets":{"m1":{"requests_per_minute":1}}"#);
    assert_eq!(
        world.usage(),
        rows(&[
            no_global(),
            row("m1", [(Some(0), None), (Some(0), None), (Some(0), None), (Some(0), None)])
        ])
    );
}

#[test]
fn a_scope_whose_limits_have_ended_is_counted_anew_when_it_gains_some() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":5}"#);
    world.admits(3, "");
    world.update(r#""global":null"#);
    world.now += MINUTE;
    world.update(r#""global":{"requests_per_day":9}"#);
    // The same day, yet its three requests belong to an earlier counting.
    assert_eq!(
        world.usage(),
        rows(&[row(
            "global",
            [(Some(0), None), (Some(0), None), (Some(0), None), (Some(0), None)]
        )])
    );
}

#[test]
fn an_admitted_check_drops_the_counts_of_a_scope_whose_limits_have_ended() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.admits(1, "");
    world.update(r#""global":null"#);
    world.now += MINUTE;
    world.admits(1, "");
    world.now = NOON;
    assert_eq!(world.check(""), allowed(""));
}

#[test]
fn an_update_of_another_scope_keeps_the_counts_of_one_whose_limits_have_ended() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    world.admits(1, "");
    world.update(r#""global":null"#);
    world.now += MINUTE;
    world.update(r#""global":null,"assets":{"m1":{"requests_per_day":1}},"budget":5"#);
    world.now = NOON;
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
}

#[test]
fn a_field_that_is_absent_stays() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":2},"budget":9"#);
    world.update(r#""assets":{"m1":{"requests_per_minute":2}}"#);
    world.now += MINUTE;
    assert_eq!(
        world.check(r#""asset":"m1""#),
        allowed(r#""global/minute/requests":1,"asset/minute/requests":1,"budget":9"#)
    );
}
