//! A workspace with one key, told in the fields of the replay format.

use limiter_conformance::fixtures::operation;
use limiter_conformance::model::Model;
use limiter_conformance::replay::Answer;

pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const DAY: u64 = 24 * 60 * MINUTE;
/// The noon of some day: a full minute and, half a day later, a full day begin.
pub(crate) const NOON: u64 = 20_370 * DAY + DAY / 2;
pub(crate) const MIDNIGHT: u64 = NOON + DAY / 2;

/// The model, and a clock that the test sets. Each method takes the fields after `key` and gives the answer's line.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    model: Model,
}

impl World {
    /// At noon, with a key that was created with these fields.
    pub(crate) fn with_key(fields: &str) -> Self {
        let mut world = Self { now: NOON, model: Model::new() };
        assert_eq!(world.create(fields), r#"{"ok":true}"#);
        world
    }

    pub(crate) fn create(&mut self, fields: &str) -> String {
        self.answer("create", fields)
    }

    pub(crate) fn update(&mut self, fields: &str) {
        assert_eq!(self.answer("update", fields), r#"{"ok":true}"#);
    }

    pub(crate) fn check(&mut self, fields: &str) -> String {
        self.answer("check", fields)
    }

    pub(crate) fn peek(&mut self, fields: &str) -> String {
        self.answer("peek", fields)
    }

    /// The calls are admitted, whatever they leave.
    pub(crate) fn admits(&mut self, calls: u32, fields: &str) {
        for _ in 0..calls {
            let answer = self.check(fields);
            assert!(answer.starts_with(r#"{"allowed":true"#), "{answer}");
        }
    }

    pub(crate) fn usage(&mut self) -> String {
        self.answer("usage", "")
    }

    /// What an operation tells: `80 % of m1/day/tokens`, or of `global/day/tokens` or `budget`, and how much is used.
    pub(crate) fn tells(&mut self, op: &str, fields: &str) -> Vec<String> {
        let answer = self.whole_answer(op, fields);
        let told = answer.crossed().iter().map(|crossed| {
            let what = crossed.rule.map_or_else(|| "budget".to_owned(), |rule| rule.to_string());
            let what = crossed.asset.iter().fold(what, |what, it| what.replace("asset", it));
            format!("{} % of {what}: {} of {}", crossed.percent, crossed.used, crossed.limit)
        });
        told.collect()
    }

    pub(crate) fn answer(&mut self, op: &str, fields: &str) -> String {
        self.whole_answer(op, fields).to_line()
    }

    fn whole_answer(&mut self, op: &str, fields: &str) -> Answer {
        let comma = if fields.is_empty() { "" } else { "," };
        let fields = format!(r#""op":"{op}","key":"k1"{comma}{fields}"#);
        self.model.answer(&operation(self.now, &fields))
    }
}

/// The answer that admits a call and leaves this much.
pub(crate) fn allowed(remaining: &str) -> String {
    format!(r#"{{"allowed":true,"remaining":{{{remaining}}}}}"#)
}

/// The answer that denies a call for one rule.
pub(crate) fn limited(rule: &str, retry_at: Option<u64>) -> String {
    limited_by(&[rule], rule, retry_at)
}

/// The answer that denies a call for some rules, with the one to wait for.
pub(crate) fn limited_by(rules: &[&str], binding: &str, retry_at: Option<u64>) -> String {
    let violated = rules.iter().map(|rule| format!("\"{rule}\"")).collect::<Vec<_>>().join(",");
    let retry_at = retry_at.map_or_else(|| "null".to_owned(), |at| at.to_string());
    format!(
        r#"{{"allowed":false,"reason":"rate_limited","violated":[{violated}],"binding":"{binding}","retry_at":{retry_at}}}"#
    )
}

/// The answer that denies a call for another reason.
pub(crate) fn denied(reason: &str) -> String {
    format!(r#"{{"allowed":false,"reason":"{reason}"}}"#)
}

/// A usage row: minute requests, minute tokens, day requests, day tokens, each as `(used, limit)`.
pub(crate) fn row(scope: &str, counts: [(Option<u64>, Option<u64>); 4]) -> String {
    let number =
        |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
    let count = |(used, limit)| format!(r#"{{"used":{},"limit":{}}}"#, number(used), number(limit));
    let [minute_requests, minute_tokens, day_requests, day_tokens] = counts.map(count);
    format!(
        r#"{{"scope":"{scope}","minute":{{"requests":{minute_requests},"tokens":{minute_tokens}}},"day":{{"requests":{day_requests},"tokens":{day_tokens}}}}}"#
    )
}

/// The answer to `usage` of a key without budget that has spent nothing.
pub(crate) fn rows(rows: &[String]) -> String {
    format!(r#"{{"rows":[{}],"credits":{{"spent":0,"budget":null}}}}"#, rows.join(","))
}

/// The first row of a key without global limits.
pub(crate) fn no_global() -> String {
    row("global", [(None, None); 4])
}
