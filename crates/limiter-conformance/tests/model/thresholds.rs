//! What the model tells of thresholds, computed by hand.

use crate::world::{DAY, MIDNIGHT, MINUTE, NOON, World, denied};

const NOTHING: [&str; 0] = [];

#[test]
fn a_share_is_told_with_the_unit_that_reaches_it_and_once() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":11}"#);
    let told: Vec<_> = (1..=11).map(|_| world.tells("check", "")).collect();
    assert_eq!(told[8], ["80 % of global/minute/requests: 9 of 11"]);
    assert_eq!(told[10], ["100 % of global/minute/requests: 11 of 11"]);
    assert_eq!(told.concat().len(), 2);
}

#[test]
fn each_window_of_each_kind_tells_for_itself() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":5,"requests_per_day":10}"#);
    assert_eq!(world.tells("check", r#""requests":4"#), ["80 % of global/minute/requests: 4 of 5"]);
    world.now += MINUTE;
    assert_eq!(
        world.tells("check", r#""requests":4"#),
        ["80 % of global/minute/requests: 4 of 5", "80 % of global/day/requests: 8 of 10"]
    );
    world.now = MIDNIGHT;
    assert_eq!(world.tells("check", r#""requests":4"#), ["80 % of global/minute/requests: 4 of 5"]);
    world.now += MINUTE;
    assert_eq!(world.tells("peek", r#""requests":4"#).len(), 2, "it is another day");
}

#[test]
fn rules_tell_in_their_order_and_the_budget_last() {
    let mut world = World::with_key(
        r#""global":{"tokens_per_day":9},"assets":{"m1":{"tokens_per_minute":9}},"budget":9"#,
    );
    assert_eq!(
        world.tells("check", r#""asset":"m1","output":9,"credits":8"#),
        [
            "80 % of global/day/tokens: 9 of 9",
            "100 % of global/day/tokens: 9 of 9",
            "80 % of m1/minute/tokens: 9 of 9",
            "100 % of m1/minute/tokens: 9 of 9",
            "80 % of budget: 8 of 9",
        ]
    );
}

#[test]
fn what_is_given_back_is_not_told_again() {
    let mut world = World::with_key(r#""global":{"tokens_per_minute":10},"budget":10"#);
    let reserve = |id| format!(r#""id":"{id}","ttl_ms":60000,"output":8,"credits":8"#);
    assert_eq!(world.tells("reserve", &reserve("r1")).len(), 2);
    assert_eq!(world.tells("settle", r#""id":"r1","output":0,"credits":0"#), NOTHING);
    assert_eq!(world.tells("reserve", &reserve("r2")), NOTHING);
    assert_eq!(world.tells("cancel", r#""id":"r2""#), NOTHING);
    assert_eq!(world.tells("reserve", &reserve("r3")), NOTHING);
    assert_eq!(
        world.tells("settle", r#""id":"r3","output":12,"credits":10"#),
        ["100 % of global/minute/tokens: 12 of 10", "100 % of budget: 10 of 10"]
    );
    assert_eq!(world.tells("settle", r#""id":"r3","output":12,"credits":10"#), NOTHING);
}

#[test]
fn a_replay_and_a_denial_tell_nothing() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    assert_eq!(world.tells("check", r#""request_id":"q1""#).len(), 2);
    assert_eq!(world.tells("check", r#""request_id":"q1""#), NOTHING);
    assert_eq!(world.tells("check", ""), NOTHING);
}

#[test]
fn no_limit_and_a_limit_of_zero_have_no_shares() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":9,"tokens_per_day":0}"#);
    assert_eq!(world.tells("check", r#""requests":0,"credits":9007199254740991"#), NOTHING);
    assert_eq!(world.tells("check", r#""output":1"#), NOTHING);
}

#[test]
fn a_mended_clock_carries_what_was_told() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":10}"#);
    world.now += 9 * DAY;
    assert_eq!(world.tells("check", r#""requests":8"#).len(), 1);
    world.now = NOON;
    assert_eq!(world.tells("check", ""), NOTHING);
    assert_eq!(world.tells("check", ""), ["100 % of global/minute/requests: 10 of 10"]);
}

#[test]
fn another_budget_is_told_of_but_not_what_it_has_passed() {
    let mut world = World::with_key(r#""budget":10"#);
    assert_eq!(world.tells("check", r#""credits":9"#), ["80 % of budget: 9 of 10"]);
    world.update(r#""budget":20"#);
    assert_eq!(world.tells("check", r#""credits":7"#), ["80 % of budget: 16 of 20"]);
    world.update(r#""budget":20"#);
    assert_eq!(world.tells("check", r#""credits":1"#), NOTHING);
    world.update(r#""budget":18"#);
    assert_eq!(world.tells("check", r#""credits":1"#), ["100 % of budget: 18 of 18"]);
    world.update(r#""budget":17"#);
    assert_eq!(world.check(r#""credits":1"#), denied("budget_exhausted"));
}
