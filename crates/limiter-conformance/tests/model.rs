//! Answers of the model, worked out by hand: the committed histories, and thresholds, which the format leaves out.

use limiter_conformance::fixtures::operation;
use limiter_conformance::model::Model;
use limiter_conformance::replay::Crossed;
use limiter_conformance::{Committed, committed, line_of};

#[test]
fn the_model_answers_committed_histories_as_committed() {
    for folder in ["histories", "histories/reservations", "histories/second"] {
        for Committed { file, operations, answers } in committed(folder) {
            let mut model = Model::new();
            let answered = operations.iter().map(|it| line_of(folder, &model.answer(it)) + "\n");
            let answered = answered.collect::<String>();
            let Some(expected) = answers else { continue };
            assert_eq!(answered, expected, "{}", file.display());
        }
    }
}

#[test]
fn a_share_fires_with_the_unit_that_reaches_it_and_once() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":11}"#);
    let fired: Vec<_> = (1..=11).map(|_| world.fires("check", "")).collect();
    assert_eq!(fired[8], ["80 % of global/minute/requests: 9 of 11"]);
    assert_eq!(fired[10], ["100 % of global/minute/requests: 11 of 11"]);
    assert_eq!(fired.concat().len(), 2);
}

#[test]
fn each_window_of_each_kind_fires_for_itself() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":5,"requests_per_day":10}"#);
    let of_the_minute = "80 % of global/minute/requests: 4 of 5";
    assert_eq!(world.fires("check", r#""requests":4"#), [of_the_minute]);
    world.now += MINUTE;
    assert_eq!(
        world.fires("check", r#""requests":4"#),
        [of_the_minute, "80 % of global/day/requests: 8 of 10"]
    );
    world.now = MIDNIGHT;
    assert_eq!(world.fires("check", r#""requests":4"#), [of_the_minute]);
    world.now += MINUTE;
    assert_eq!(world.fires("peek", r#""requests":4"#).len(), 2, "it is another day");
}

#[test]
fn rules_fire_in_canonical_order() {
    let mut world = World::with_key(
        r#""global":{"tokens_per_day":9},"assets":{"m1":{"tokens_per_minute":9}},"budget":9"#,
    );
    assert_eq!(
        world.fires("check", r#""asset":"m1","output":9,"credits":8"#),
        [
            "80 % of global/day/tokens: 9 of 9",
            "100 % of global/day/tokens: 9 of 9",
            "80 % of budget: 8 of 9",
            "80 % of m1/minute/tokens: 9 of 9",
            "100 % of m1/minute/tokens: 9 of 9",
        ]
    );
}

#[test]
fn what_is_given_back_fires_nothing_again() {
    let mut world = World::with_key(r#""global":{"tokens_per_minute":10},"budget":10"#);
    let reserve = |id| format!(r#""id":"{id}","ttl_ms":60000,"output":8,"credits":8"#);
    assert_eq!(world.fires("reserve", &reserve("r1")).len(), 2);
    assert_eq!(world.fires("settle", r#""id":"r1","output":0,"credits":0"#), NOTHING);
    assert_eq!(world.fires("reserve", &reserve("r2")), NOTHING);
    assert_eq!(world.fires("cancel", r#""id":"r2""#), NOTHING);
    assert_eq!(world.fires("reserve", &reserve("r3")), NOTHING);
    assert_eq!(
        world.fires("settle", r#""id":"r3","output":12,"credits":10"#),
        ["100 % of global/minute/tokens: 12 of 10", "100 % of budget: 10 of 10"]
    );
    assert_eq!(world.fires("settle", r#""id":"r3","output":12,"credits":10"#), NOTHING);
}

#[test]
fn a_replay_and_a_denial_fire_nothing() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":1}"#);
    assert_eq!(world.fires("check", r#""request_id":"q1""#).len(), 2);
    assert_eq!(world.fires("check", r#""request_id":"q1""#), NOTHING);
    assert_eq!(world.fires("check", ""), NOTHING);
}

#[test]
fn no_limit_and_a_limit_of_zero_have_no_shares() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":9,"tokens_per_day":0}"#);
    assert_eq!(world.fires("check", r#""requests":0,"credits":9007199254740991"#), NOTHING);
    assert_eq!(world.fires("check", r#""output":1"#), NOTHING);
}

#[test]
fn a_rebase_carries_what_has_fired() {
    let mut world = World::with_key(r#""global":{"requests_per_minute":10}"#);
    world.now += 9 * DAY;
    assert_eq!(world.fires("check", r#""requests":8"#).len(), 1);
    world.now = NOON;
    assert_eq!(world.fires("check", ""), NOTHING);
    assert_eq!(world.fires("check", ""), ["100 % of global/minute/requests: 10 of 10"]);
}

#[test]
fn another_budget_fires_those_that_it_reaches_and_the_others_later() {
    let mut world = World::with_key(r#""budget":10"#);
    assert_eq!(world.fires("check", r#""credits":9"#), ["80 % of budget: 9 of 10"]);
    world.answers("update", r#""budget":20"#, OK);
    assert_eq!(world.fires("check", r#""credits":7"#), ["80 % of budget: 16 of 20"]);
    world.answers("update", r#""budget":20"#, OK);
    assert_eq!(world.fires("check", r#""credits":1"#), NOTHING);
    assert_eq!(world.fires("update", r#""budget":18"#), NOTHING);
    assert_eq!(world.fires("check", r#""credits":1"#), ["100 % of budget: 18 of 18"]);
    assert_eq!(world.fires("update", r#""budget":100"#), NOTHING);
    let both = ["80 % of budget: 18 of 17", "100 % of budget: 18 of 17"];
    assert_eq!(world.fires("update", r#""budget":17"#), both);
    let denied = r#"{"allowed":false,"reason":"budget_exhausted","violated":["budget"],"binding":"budget","retry_at":null}"#;
    world.answers("check", r#""credits":1"#, denied);
}

/// A model with one key, and a clock that the test sets.
struct World {
    now: u64,
    model: Model,
}

impl World {
    /// Creates a world at noon, with a key that was created with these fields.
    fn with_key(fields: &str) -> Self {
        let mut world = Self { now: NOON, model: Model::new() };
        world.answers("create", fields, OK);
        world
    }

    /// Asserts the answer to an operation on the key.
    #[track_caller]
    fn answers(&mut self, op: &str, fields: &str, expected: &str) {
        let answer = self.answer(op, fields);
        assert_eq!(answer.to_line(), expected);
    }

    /// Returns the thresholds that an operation fires, such as `80 % of m1/day/tokens: 8 of 10`, or of `budget`.
    fn fires(&mut self, op: &str, fields: &str) -> Vec<String> {
        let in_words = |crossed: &Crossed| {
            let what = crossed.rule.to_string().replace("global/ever/credits", "budget");
            let what = crossed.asset.iter().fold(what, |what, it| what.replace("asset", it));
            format!("{} % of {what}: {} of {}", crossed.percent, crossed.used, crossed.limit)
        };
        self.answer(op, fields).crossed().iter().map(in_words).collect()
    }

    fn answer(&mut self, op: &str, fields: &str) -> limiter_conformance::replay::Answer {
        let comma = if fields.is_empty() { "" } else { "," };
        let fields = format!(r#""op":"{op}","key":"k1"{comma}{fields}"#);
        self.model.answer(&operation(self.now, &fields))
    }
}

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// Noon of a day: a minute begins here, and a day half a day later.
const NOON: u64 = 20_370 * DAY + DAY / 2;
const MIDNIGHT: u64 = NOON + DAY / 2;
const OK: &str = r#"{"ok":true}"#;
const NOTHING: [&str; 0] = [];
