//! Every short history over a small alphabet.

use crate::fixtures::operation;
use crate::replay::{Action, Operation};

use super::clock::{ClockStep, DAY_MS, MIDNIGHT_MS, MINUTE_MS};

use Letter::{Clock, Does};

/// Every sequence of at most `depth` letters, the shorter ones first.
///
/// Each history begins at noon with the creation of `k1`, whose calls are limited to 2 requests a minute, whose calls of
/// `m1` are limited to 3 tokens a day, and whose calls of other assets to 1 request a minute. It ends with a peek, the usage
/// and the events, so that the last letter shows too. With 19 letters there are 137,561 sequences up to depth 4, and
/// 2,613,660 up to depth 5.
pub fn small_world(depth: u32) -> Sequences {
    let call = r#""asset":"m1","input":1,"output":1,"credits":1"#;
    let (check, peek) = (format!(r#""op":"check",{call}"#), format!(r#""op":"peek",{call}"#));
    let limits = r#""global":{"requests_per_minute":2},"assets":{"m1":{"tokens_per_day":3}},"other":{"requests_per_minute":1}"#;
    let lower = r#"{"limits":{"minute/requests":1,"day/output_tokens":1}}"#;
    Sequences {
        begins: does(&[&format!(r#""op":"create",{limits}"#)]),
        ends: ends(&peek),
        alphabet: vec![
            Does(does(&[&check])),
            Does(does(&[r#""op":"check""#])),
            Does(does(&[r#""op":"check","asset":"m1","requests":0,"output":2"#])),
            Does(does(&[r#""op":"check","asset":"m2""#])),
            Does(does(&[&peek])),
            Does(does(&[r#""op":"update","global":{"requests_per_minute":1,"tokens_per_day":4}"#])),
            Does(does(&[
                r#""op":"update","effective":"now","global":{"limits":{"day/tokens":2,"hour/requests":1}}"#,
            ])),
            Does(does(&[r#""op":"update","global":null"#])),
            Does(does(&[&format!(r#""op":"update","assets":{{"m1":{lower}}}"#)])),
            Does(does(&[r#""op":"update","assets":null"#])),
            Does(does(&[&format!(r#""op":"update",{limits}"#)])),
            Does(does(&[r#""op":"update","budget":1"#])),
            Does(does(&[r#""op":"reset""#])),
            Clock(ClockStep::Forward(MINUTE_MS)),
            Clock(ClockStep::EndOf(DAY_MS, 0)),
            Clock(ClockStep::Back(MINUTE_MS)),
            Clock(ClockStep::Back(2 * MINUTE_MS)),
            Clock(ClockStep::Back(DAY_MS)),
            Clock(ClockStep::Back(3 * DAY_MS)),
        ],
        depth,
        length: 0,
        number: 0,
    }
}

/// The same with reservations.
///
/// Each history begins at noon with the creation of `k1`, whose calls are limited to 3 requests a minute and 12 tokens a
/// day, and whose calls of `m1` are limited to 6 output tokens a minute; then `r1` is reserved until half past one of the
/// next day. It ends as in [`small_world`]. With 20 letters there are 168,421 sequences up to depth 4.
pub fn reserved_world(depth: u32) -> Sequences {
    let limits = r#""global":{"requests_per_minute":3,"tokens_per_day":12},"assets":{"m1":{"limits":{"minute/output_tokens":6}}}"#;
    let create = format!(r#""op":"create",{limits},"budget":8"#);
    let call = r#""asset":"m1","input":1,"output":2,"credits":2"#;
    let reserve = format!(r#""op":"reserve",{call},"id":"r1","ttl_ms":48600000"#);
    let once = r#""op":"check","asset":"m1","output":1,"credits":1,"request_id":"q1""#;
    Sequences {
        begins: does(&[&create, &reserve]),
        ends: ends(r#""op":"peek","asset":"m1","output":1"#),
        alphabet: vec![
            Does(does(&[&reserve])),
            Does(does(&[r#""op":"reserve","output":3,"id":"r2","ttl_ms":60000"#])),
            Does(does(&[r#""op":"amend","id":"r1","output":6,"credits":7"#])),
            Does(does(&[r#""op":"amend","id":"r1","input":4,"output":0"#])),
            Does(does(&[r#""op":"settle","id":"r1","output":1,"credits":1"#])),
            Does(does(&[r#""op":"settle","id":"r1","input":3,"output":7,"credits":3"#])),
            Does(does(&[r#""op":"cancel","id":"r1""#])),
            Does(does(&[r#""op":"cancel","id":"r2""#])),
            Does(does(&[once])),
            Does(does(&[r#""op":"check","asset":"m1","output":1"#])),
            Does(does(&[r#""op":"update","global":null,"assets":null"#])),
            Does(does(&[&format!(r#""op":"update",{limits}"#)])),
            Does(does(&[
                r#""op":"update","effective":"now","assets":{"m1":{"limits":{"minute/output_tokens":5,"hour/requests":2}}}"#,
            ])),
            Does(does(&[r#""op":"reset""#])),
            Does(does(&[r#""op":"delete""#, &create])),
            Clock(ClockStep::Forward(MINUTE_MS)),
            Clock(ClockStep::EndOf(DAY_MS, 0)),
            Clock(ClockStep::Back(MINUTE_MS)),
            Clock(ClockStep::Back(2 * MINUTE_MS)),
            Clock(ClockStep::Back(2 * DAY_MS)),
        ],
        depth,
        length: 0,
        number: 0,
    }
}

/// The same with groups.
///
/// Each history begins at noon with the creation of the groups `g`, whose calls are limited to 4 requests a minute and 9 tokens
/// a day, and `g/t`, whose calls of `m1` are limited to 3 requests a minute, and of the keys `g/t/k`, whose calls are limited to
/// 2 requests a minute, and `g/k`; then `r1` of `g/t/k` is reserved until half past one of the next day. It ends with peeks, the
/// usage of each level and the events. With 20 letters there are 168,421 sequences up to depth 4.
pub fn grouped_world(depth: u32) -> Sequences {
    let group = r#""key":"g","global":{"requests_per_minute":4,"tokens_per_day":9}"#;
    let call = r#""asset":"m1","input":1,"output":2,"credits":2"#;
    let key = r#""op":"create","key":"g/t/k","global":{"requests_per_minute":2}"#;
    let reserve = format!(r#""op":"reserve","key":"g/t/k",{call},"id":"r1","ttl_ms":48600000"#);
    let team = r#""key":"g/t","assets":{"m1":{"requests_per_minute":3}},"budget":8"#;
    let level = |op: &str| ["g", "g/t", "g/t/k"].map(|key| format!(r#""op":"{op}","key":"{key}""#));
    let mut ends = reads(&[
        r#""op":"peek","key":"g/t/k","asset":"m1","output":1"#,
        r#""op":"peek","key":"g/k""#,
    ]);
    ends.extend(level("usage").iter().flat_map(|usage| reads(&[usage])));
    ends.push(Action::Events {});
    let create_team = format!(r#""op":"create","kind":"group",{team}"#);
    Sequences {
        begins: reads(&[
            &format!(r#""op":"create","kind":"group",{group}"#),
            &create_team,
            key,
            r#""op":"create","key":"g/k""#,
            &reserve,
        ]),
        ends,
        alphabet: vec![
            Does(reads(&[&format!(r#""op":"check","key":"g/t/k",{call}"#)])),
            Does(reads(&[r#""op":"check","key":"g/k","output":2"#])),
            Does(reads(&[r#""op":"check","key":"g/t/k","asset":"m1","request_id":"q1""#])),
            Does(reads(&[r#""op":"reserve","key":"g/k","output":4,"id":"r1","ttl_ms":60000"#])),
            Does(reads(&[r#""op":"amend","key":"g/t/k","id":"r1","output":6,"credits":7"#])),
            Does(reads(&[r#""op":"settle","key":"g/t/k","id":"r1","output":1,"credits":1"#])),
            Does(reads(&[
                r#""op":"settle","key":"g/t/k","id":"r1","input":3,"output":7,"credits":3"#,
            ])),
            Does(reads(&[r#""op":"cancel","key":"g/t/k","id":"r1""#])),
            Does(reads(&[r#""op":"update","key":"g","shadow":true"#])),
            Does(reads(&[r#""op":"update","key":"g/t","shadow":true"#])),
            Does(reads(&[r#""op":"update","key":"g/t/k","shadow":true"#])),
            Does(reads(&[
                r#""op":"update","key":"g","global":{"requests_per_minute":1,"limits":{"hour/tokens":4}}"#,
            ])),
            Does(reads(&[
                r#""op":"update","key":"g/t","effective":"now","assets":null,"other":{"limits":{"day/requests":2}}"#,
            ])),
            Does(reads(&[r#""op":"update","key":"g/t","other":"denied","assets":null"#])),
            Does(reads(&[r#""op":"reset","key":"g""#])),
            Does(reads(&[
                r#""op":"delete","key":"g/t/k""#,
                r#""op":"delete","key":"g/t""#,
                &create_team,
                key,
            ])),
            Clock(ClockStep::Forward(MINUTE_MS)),
            Clock(ClockStep::EndOf(DAY_MS, 0)),
            Clock(ClockStep::Back(2 * MINUTE_MS)),
            Clock(ClockStep::Back(2 * DAY_MS)),
        ],
        depth,
        length: 0,
        number: 0,
    }
}

/// The same with plans.
///
/// Each history begins at noon with the plan `p`, of which a key may make 2 requests a minute and use 6 tokens a day, the group
/// `g`, which has it, and `g/k`, which has it too but for the tokens. It ends with a peek, the usage of both and the events. With
/// 18 letters there are 111,151 sequences up to depth 4.
pub fn planned_world(depth: u32) -> Sequences {
    let plan = |fields: &str| reads(&[&format!(r#""op":"plan","plan":"p",{fields}"#)]);
    let update = |fields: &str| reads(&[&format!(r#""op":"update","key":"g/k",{fields}"#)]);
    let limits = r#""global":{"limits":{"minute/requests":2,"day/tokens":6}}"#;
    let mut begins = plan(limits);
    begins.extend(reads(&[
        r#""op":"create","key":"g","kind":"group","plan":"p","global":{"limits":{"minute/requests":3}}"#,
        r#""op":"create","key":"g/k","plan":"p","global":{"limits":{"day/tokens":"unlimited"}}"#,
    ]));
    let usage = ["g", "g/k"].map(|key| format!(r#""op":"usage","key":"{key}""#));
    let mut ends = reads(&[r#""op":"peek","key":"g/k","asset":"m1","output":1"#]);
    ends.extend(usage.iter().flat_map(|usage| reads(&[usage])));
    ends.push(Action::Events {});
    Sequences {
        begins,
        ends,
        alphabet: vec![
            Does(reads(&[r#""op":"check","key":"g/k","asset":"m1","output":2"#])),
            Does(reads(&[r#""op":"check","key":"g/k","requests":2"#])),
            Does(reads(&[r#""op":"reserve","key":"g/k","id":"r1","ttl_ms":86400000,"output":4"#])),
            Does(reads(&[r#""op":"settle","key":"g/k","id":"r1","output":1"#])),
            Does(plan(r#""global":{"limits":{"minute/requests":1,"day/tokens":4}}"#)),
            Does(plan(r#""global":{"limits":{"minute/requests":4,"hour/requests":1}}"#)),
            Does(plan(
                r#""effective":"now","global":{"limits":{"minute/tokens":2,"day/tokens":3}}"#,
            )),
            Does(plan(limits)),
            Does(plan(r#""assets":{"m1":{"limits":{"minute/requests":1}}},"budget":2"#)),
            Does(plan(r#""effective":"now","assets":null,"thresholds":[50]"#)),
            Does(update(r#""plan":null"#)),
            Does(update(r#""plan":"p","effective":"now""#)),
            Does(update(r#""global":{"limits":{"minute/requests":1}}"#)),
            Does(reads(&[r#""op":"reset","key":"g""#])),
            Clock(ClockStep::Forward(MINUTE_MS)),
            Clock(ClockStep::EndOf(DAY_MS, 0)),
            Clock(ClockStep::Back(2 * MINUTE_MS)),
            Clock(ClockStep::Back(2 * DAY_MS)),
        ],
        depth,
        length: 0,
        number: 0,
    }
}

/// The same with parallel limits.
///
/// Each history begins at noon with the creation of the group `g`, which may have 2 calls open, and of its keys `g/k`, which may have
/// one open of `m1`, and `g/j`; then `r1` of `g/k` is reserved until half past one of the next day. It ends with two more reservations
/// and the usage of each level. With 16 letters there are 69,905 sequences up to depth 4.
pub fn parallel_world(depth: u32) -> Sequences {
    let reserve = |key: &str, id: &str, rest: &str| {
        reads(&[&format!(r#""op":"reserve","key":"{key}","id":"{id}",{rest}"#)])
    };
    let m1 = r#""asset":"m1","output":2,"ttl_ms":48600000"#;
    let mut begins = reads(&[
        r#""op":"create","kind":"group","key":"g","parallel":2"#,
        r#""op":"create","key":"g/k","assets":{"m1":{"parallel":1}}"#,
        r#""op":"create","key":"g/j""#,
    ]);
    begins.extend(reserve("g/k", "r1", m1));
    let mut ends = reserve("g/k", "e1", r#""asset":"m1","ttl_ms":60000"#);
    ends.extend(reserve("g/j", "e1", r#""ttl_ms":60000"#));
    let usage = ["g", "g/k", "g/j"].map(|key| format!(r#""op":"usage","key":"{key}""#));
    ends.extend(usage.iter().flat_map(|usage| reads(&[usage])));
    Sequences {
        begins,
        ends,
        alphabet: vec![
            Does(reserve("g/k", "r1", m1)),
            Does(reserve("g/k", "r2", r#""asset":"m2","ttl_ms":86400000"#)),
            Does(reserve("g/j", "r1", r#""ttl_ms":660000"#)),
            Does(reads(&[r#""op":"amend","key":"g/k","id":"r1""#])),
            Does(reads(&[r#""op":"amend","key":"g/j","id":"r1","output":1"#])),
            Does(reads(&[r#""op":"settle","key":"g/k","id":"r1""#])),
            Does(reads(&[r#""op":"cancel","key":"g/k","id":"r2""#])),
            Does(reads(&[r#""op":"settle","key":"g/j","id":"r1","output":3"#])),
            Does(reads(&[r#""op":"update","key":"g","parallel":1"#])),
            Does(reads(&[r#""op":"update","key":"g","parallel":null"#])),
            Does(reads(&[r#""op":"update","key":"g","shadow":true"#])),
            Does(reads(&[
                r#""op":"update","key":"g/k","shadow":true,"assets":null,"other":{"parallel":1}"#,
            ])),
            Does(reads(&[r#""op":"update","key":"g/k","parallel":0"#])),
            Clock(ClockStep::Forward(MINUTE_MS)),
            Clock(ClockStep::Forward(10 * MINUTE_MS)),
            Clock(ClockStep::Back(2 * MINUTE_MS)),
        ],
        depth,
        length: 0,
        number: 0,
    }
}

/// Every sequence of letters up to some length, as the history that it spells, the shorter ones first.
#[derive(Clone, Debug)]
pub struct Sequences {
    begins: Vec<Action>,
    ends: Vec<Action>,
    alphabet: Vec<Letter>,
    depth: u32,
    length: u32,
    /// Among those of this length, whose letters are its digits.
    number: u64,
}

/// A letter of an alphabet.
#[derive(Clone, Debug)]
enum Letter {
    /// The clock moves.
    Clock(ClockStep),
    /// Operations are done.
    Does(Vec<Action>),
}

impl Sequences {
    /// How many letters there are.
    pub const fn letters(&self) -> u64 {
        self.alphabet.len() as u64
    }

    /// How many sequences there are, from the shortest on.
    pub fn total(&self) -> u64 {
        (0..=self.depth).map(|length| self.letters().pow(length)).sum()
    }
}

impl Iterator for Sequences {
    type Item = Vec<Operation>;

    fn next(&mut self) -> Option<Vec<Operation>> {
        let letters = self.letters();
        if self.number == letters.pow(self.length) {
            self.number = 0;
            self.length += 1;
        }
        if self.length > self.depth {
            return None;
        }
        let mut at = MIDNIGHT_MS + DAY_MS / 2;
        let done = |at, actions: &[Action]| {
            let actions = actions.iter().cloned();
            actions.map(move |action| Operation { at, action }).collect::<Vec<_>>()
        };
        let mut history = done(at, &self.begins);
        for position in (0..self.length).rev() {
            let digit = self.number / letters.pow(position) % letters;
            match &self.alphabet[digit as usize] {
                Clock(step) => at = step.from(at),
                Does(actions) => history.extend(done(at, actions)),
            }
        }
        history.extend(done(at, &self.ends));
        self.number += 1;
        Some(history)
    }
}

/// Operations on `k1` with these fields.
fn does(operations: &[&str]) -> Vec<Action> {
    let with_key = |fields: &&str| reads(&[&format!(r#""key":"k1",{fields}"#)]);
    operations.iter().flat_map(with_key).collect()
}

/// Operations with these fields.
fn reads(operations: &[&str]) -> Vec<Action> {
    operations.iter().map(|fields| operation(0, fields).action).collect()
}

/// A peek, the usage, the history and the events.
fn ends(peek: &str) -> Vec<Action> {
    let mut ends = does(&[peek, r#""op":"usage""#, r#""op":"history","days":3"#]);
    ends.push(Action::Events {});
    ends
}
