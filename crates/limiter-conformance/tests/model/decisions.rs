//! The model's decisions, computed by hand: rules, budget, reasons, what binds and when to retry.

use crate::world::{
    DAY, MIDNIGHT, MINUTE, NOON, SECOND, World, allowed, denied, limited, limited_by, no_global,
    row, rows,
};

const LARGEST: u64 = 9_007_199_254_740_991;

#[test]
fn a_rule_admits_up_to_its_limit_and_again_in_the_next_minute() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":2}"#);
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":1"#));
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":0"#));
    world.now += MINUTE - 1;
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
    world.now += 1;
    assert_eq!(world.check(""), allowed(r#""global/minute/requests":1"#));
}

#[test]
fn a_denied_call_charges_no_rule_and_no_credits() {
    let mut world = World::with_key(
        r#""global":{"requests_per_minute":9},"assets":{"m1":{"tokens_per_day":3}}"#,
    );
    assert_eq!(
        world.check(r#""asset":"m1","output":4,"credits":5"#),
        limited("asset/day/tokens", None)
    );
    assert_eq!(
        world.usage(),
        rows(&[
            row("global", [(Some(0), Some(9)), (Some(0), None), (Some(0), None), (Some(0), None)]),
            row("m1", [(Some(0), None), (Some(0), None), (Some(0), None), (Some(0), Some(3))]),
        ])
    );
}

#[test]
fn a_peek_answers_as_if_charged_and_charges_nothing() {
    let mut world = World::with_key(r#""global":{"requests_per_day":2},"budget":10"#);
    for _ in 0..3 {
        assert_eq!(world.peek(r#""credits":4"#), allowed(r#""global/day/requests":1,"budget":6"#));
    }
}

#[test]
fn all_rules_are_listed_in_order_and_a_call_of_another_asset_meets_the_global_ones() {
    let all = r#"{"requests_per_minute":9,"requests_per_day":9,"tokens_per_minute":9,"tokens_per_day":9}"#;
    let mut world =
        World::with_key(&format!(r#""global":{all},"assets":{{"m1":{all}}},"budget":9"#));
    assert_eq!(
        world.check(r#""asset":"m1","requests":2,"input":1,"output":2,"credits":5"#),
        allowed(concat!(
            r#""global/minute/requests":7,"global/minute/tokens":6,"global/day/requests":7,"global/day/tokens":6,"#,
            r#""asset/minute/requests":7,"asset/minute/tokens":6,"asset/day/requests":7,"asset/day/tokens":6,"budget":4"#
        ))
    );
    assert_eq!(
        world.peek(r#""asset":"m2","requests":0"#),
        allowed(
            r#""global/minute/requests":7,"global/minute/tokens":6,"global/day/requests":7,"global/day/tokens":6,"budget":4"#
        )
    );
}

#[test]
fn a_new_call_needs_a_unit_left_also_when_its_tokens_are_not_known() {
    let mut world = World::with_key(r#""global":{"tokens_per_minute":5}"#);
    assert_eq!(world.check(r#""output":5"#), allowed(r#""global/minute/tokens":0"#));
    assert_eq!(world.check(""), limited("global/minute/tokens", Some(NOON + MINUTE)));
}

#[test]
fn a_top_up_that_adds_nothing_is_always_admitted() {
    let mut world =
        World::with_key(r#""global":{"requests_per_minute":0,"tokens_per_minute":0},"budget":0"#);
    assert_eq!(
        world.check(r#""requests":0"#),
        allowed(r#""global/minute/requests":0,"global/minute/tokens":0,"budget":0"#)
    );
}

#[test]
fn a_token_limit_counts_its_type() {
    for (token_type, left) in [("total", 3), ("input", 8), ("output", 5)] {
        let mut world = World::with_key(&format!(
            r#""global":{{"tokens_per_minute":10,"token_type":"{token_type}"}}"#
        ));
        let answer = world.check(r#""input":2,"output":5"#);
        assert_eq!(answer, allowed(&format!(r#""global/minute/tokens":{left}"#)), "{token_type}");
    }
}

#[test]
fn tokens_without_a_limit_are_counted_in_total() {
    let mut world =
        World::with_key(r#""assets":{"m1":{"tokens_per_minute":10,"token_type":"output"}}"#);
    world.admits(1, r#""asset":"m1","input":2,"output":5"#);
    assert_eq!(
        world.usage(),
        rows(&[
            no_global(),
            row("m1", [(Some(1), None), (Some(5), Some(10)), (Some(1), None), (Some(7), None)])
        ])
    );
}

#[test]
fn an_asset_called_global_has_a_row_of_its_own() {
    let mut world =
        World::with_key(r#""assets":{"global":{"requests_per_day":1},"a":{"requests_per_day":2}}"#);
    assert_eq!(world.check(r#""asset":"global""#), allowed(r#""asset/day/requests":0"#));
    assert_eq!(
        world.usage(),
        rows(&[
            no_global(),
            row("a", [(Some(0), None), (Some(0), None), (Some(0), Some(2)), (Some(0), None)]),
            row("global", [(Some(1), None), (Some(0), None), (Some(1), Some(1)), (Some(0), None)]),
        ])
    );
}

#[test]
fn limits_without_a_number_are_no_limits() {
    let mut world =
        World::with_key(r#""global":{"token_type":"output"},"assets":{"m1":{},"m2":null}"#);
    assert_eq!(world.check(r#""asset":"m1""#), allowed(""));
    assert_eq!(world.usage(), rows(&[no_global()]));
}

#[test]
fn reasons_come_in_their_order() {
    let mut world = World::with_key(&format!(
        r#""kind":"admin","global":{{"requests_per_minute":0}},"budget":0,"expires_at":{}"#,
        NOON + SECOND
    ));
    assert_eq!(world.check(r#""input":9007199254740992"#), r#"{"error":"invalid"}"#);
    assert_eq!(world.check(""), denied("admin_key"));
    world.now += SECOND;
    assert_eq!(world.check(""), denied("expired_key"));
    assert_eq!(world.answer("delete", ""), r#"{"ok":true}"#);
    assert_eq!(world.peek(""), denied("unknown_key"));
    assert_eq!(world.usage(), r#"{"error":"unknown_key"}"#);
    assert_eq!(world.answer("update", ""), r#"{"error":"unknown_key"}"#);
    assert_eq!(world.answer("delete", ""), r#"{"error":"unknown_key"}"#);
    world.create(r#""global":{"requests_per_minute":0},"budget":0"#);
    assert_eq!(world.check(""), denied("budget_exhausted"));
    world.update(r#""budget":null"#);
    assert_eq!(world.check(""), limited("global/minute/requests", None));
}

#[test]
fn the_budget_follows_the_same_three_lines_and_is_topped_up_at_once() {
    let mut world = World::with_key(r#""budget":10"#);
    assert_eq!(world.check(r#""credits":10"#), allowed(r#""budget":0"#));
    assert_eq!(world.check(""), denied("budget_exhausted"));
    assert_eq!(world.check(r#""requests":0"#), allowed(r#""budget":0"#));
    world.update(r#""budget":11"#);
    assert_eq!(world.check(""), allowed(r#""budget":1"#));
    world.update(r#""budget":3"#);
    assert_eq!(world.check(r#""requests":0"#), allowed(r#""budget":0"#));
}

#[test]
fn credits_are_counted_without_a_budget_too() {
    let mut world = World::with_key("");
    world.admits(1, r#""credits":7"#);
    world.update(r#""budget":10"#);
    assert_eq!(world.check(r#""credits":1"#), allowed(r#""budget":2"#));
}

#[test]
fn a_deleted_label_names_a_new_key() {
    let mut world = World::with_key(r#""global":{"requests_per_day":1}"#);
    world.admits(1, "");
    assert_eq!(world.create(""), r#"{"error":"already_exists"}"#);
    world.answer("delete", "");
    world.create(r#""global":{"requests_per_day":1}"#);
    world.admits(1, "");
}

#[test]
fn the_rule_that_resets_last_binds() {
    let mut world = World::with_key(
        r#""global":{"requests_per_minute":0,"requests_per_day":7},"assets":{"m1":{"tokens_per_day":5}}"#,
    );
    assert_eq!(
        world.check(r#""asset":"m1","requests":2,"output":6"#),
        limited_by(&["global/minute/requests", "asset/day/tokens"], "asset/day/tokens", None)
    );
}

#[test]
fn among_rules_that_reset_together_the_smaller_limit_binds_then_global_then_tokens() {
    let binding = |fields: &str| {
        let mut world = World::with_key(fields);
        let answer = world.check(r#""asset":"m1","requests":9,"output":9"#);
        answer
            .split(r#""binding":""#)
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        binding(r#""global":{"requests_per_day":4},"assets":{"m1":{"requests_per_day":3}}"#),
        "asset/day/requests"
    );
    assert_eq!(
        binding(r#""global":{"requests_per_day":3},"assets":{"m1":{"tokens_per_day":3}}"#),
        "global/day/requests"
    );
    assert_eq!(
        binding(r#""global":{"requests_per_day":3,"tokens_per_day":3}"#),
        "global/day/tokens"
    );
}

#[test]
fn in_the_last_minute_of_a_day_the_minute_binds_before_the_day() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1,"requests_per_day":1}"#);
    world.now = MIDNIGHT - 1;
    world.admits(1, "");
    assert_eq!(
        world.check(""),
        limited_by(
            &["global/minute/requests", "global/day/requests"],
            "global/minute/requests",
            Some(MIDNIGHT)
        )
    );
}

#[test]
fn a_retry_waits_for_all_violated_rules() {
    let mut world = World::with_key(
        r#""global":{"requests_per_minute":1},"assets":{"m1":{"requests_per_day":1}}"#,
    );
    world.admits(1, r#""asset":"m1""#);
    assert_eq!(
        world.check(r#""asset":"m1""#),
        limited_by(
            &["global/minute/requests", "asset/day/requests"],
            "asset/day/requests",
            Some(MIDNIGHT)
        )
    );
    assert_eq!(world.check(""), limited("global/minute/requests", Some(NOON + MINUTE)));
}

#[test]
fn a_retry_counts_on_limits_that_are_in_force_by_then() {
    let mut world = World::with_key(r#""global":{"tokens_per_minute":5}"#);
    assert_eq!(world.check(r#""output":6"#), limited("global/minute/tokens", None));
    world.update(r#""global":{"tokens_per_minute":6}"#);
    assert_eq!(world.check(r#""output":6"#), limited("global/minute/tokens", Some(NOON + MINUTE)));
}

#[test]
fn no_retry_helps_a_key_that_has_expired_by_then() {
    let mut world = World::with_key(&format!(
        r#""global":{{"requests_per_minute":1}},"expires_at":{}"#,
        NOON + MINUTE
    ));
    world.admits(1, "");
    assert_eq!(world.check(""), limited("global/minute/requests", None));
}

#[test]
fn the_largest_limit_is_reached_exactly_and_never_passed() {
    let mut world = World::with_key(&format!(r#""global":{{"tokens_per_day":{LARGEST}}}"#));
    world.admits(1, &format!(r#""output":{}"#, LARGEST - 1));
    assert_eq!(world.check(r#""output":2"#), limited("global/day/tokens", Some(MIDNIGHT)));
    assert_eq!(world.check(r#""output":1"#), allowed(r#""global/day/tokens":0"#));
}

#[test]
fn a_count_without_a_limit_stays_at_the_largest_number() {
    let mut world = World::with_key(r#""global":{"requests_per_day":9}"#);
    world.admits(2, &format!(r#""output":{LARGEST}"#));
    assert_eq!(
        world.usage(),
        rows(&[row(
            "global",
            [(Some(2), None), (Some(LARGEST), None), (Some(2), Some(9)), (Some(LARGEST), None)]
        )])
    );
}

#[test]
fn a_charge_whose_tokens_together_are_too_many_is_refused_before_anything_else() {
    let mut world = World::with_key("");
    world.answer("delete", "");
    assert_eq!(world.check(&format!(r#""input":{LARGEST},"output":1"#)), r#"{"error":"invalid"}"#);
}

#[test]
fn usage_shows_a_window_that_has_passed_as_empty() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":2}"#);
    world.admits(2, "");
    world.now += MINUTE;
    let counts = [(Some(0), Some(2)), (Some(0), None), (Some(2), None), (Some(0), None)];
    assert_eq!(world.usage(), rows(&[row("global", counts)]));
    world.now += DAY;
    let counts = [(Some(0), Some(2)), (Some(0), None), (Some(0), None), (Some(0), None)];
    assert_eq!(world.usage(), rows(&[row("global", counts)]));
}
