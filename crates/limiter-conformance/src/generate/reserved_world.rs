//! Every short history over a small alphabet of reservations.

use std::collections::BTreeMap;

use crate::replay::{
    Action, Call, Change, Create, Limits, Operation, Reserve, TokenType, Totals, Update,
};

use super::clock::{ClockStep, DAY_MS, MIDNIGHT_MS, MINUTE_MS};
use super::sequences::Sequences;

/// Every sequence of at most `depth` letters of the [`RESERVED_ALPHABET`], the shorter ones first.
///
/// Each begins at noon with the creation of `k1`, whose calls are limited to 3 requests a minute and 12 tokens a day, and
/// whose calls of `m1` are limited to 6 output tokens a minute; then `r1` is reserved. It ends with a peek and the usage,
/// so that the last letter shows too. With 17 letters there are 88,741 sequences up to depth 4.
#[must_use]
pub fn reserved_world(depth: u32) -> Sequences<ReservedLetter> {
    Sequences::of(&RESERVED_ALPHABET, depth, history)
}

/// What the small world of reservations is written in: a movement of the clock, or an operation on `k1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedLetter {
    /// The clock moves.
    Clock(ClockStep),
    /// `r1` is reserved, until half past one of the next day: a call of `m1` of 1 input token, 2 output tokens, 2 millionths.
    Reserve,
    /// Another reservation, of no asset, for a minute.
    ReserveAnother,
    /// `r1` may have 6 output tokens, and cost 7 millionths.
    Extend,
    /// `r1` had 1 output token, and cost 1 millionth.
    SettleLess,
    /// `r1` had 3 input tokens and 7 output tokens, and cost 3 millionths.
    SettleMore,
    /// `r1` is cancelled.
    Cancel,
    /// The other reservation is cancelled.
    CancelAnother,
    /// A check with a request id: a call of `m1` of 1 output token.
    CheckOnce,
    /// A call of `m1` of 1 output token.
    Call,
    /// All limits are cleared.
    Clear,
    /// All limits become those that the key was created with.
    Restore,
    /// The key is deleted, and made again.
    MakeAgain,
}

/// The letters of the small world of reservations.
pub const RESERVED_ALPHABET: [ReservedLetter; 17] = [
    ReservedLetter::Reserve,
    ReservedLetter::ReserveAnother,
    ReservedLetter::Extend,
    ReservedLetter::SettleLess,
    ReservedLetter::SettleMore,
    ReservedLetter::Cancel,
    ReservedLetter::CancelAnother,
    ReservedLetter::CheckOnce,
    ReservedLetter::Call,
    ReservedLetter::Clear,
    ReservedLetter::Restore,
    ReservedLetter::MakeAgain,
    ReservedLetter::Clock(ClockStep::Minutes(1)),
    ReservedLetter::Clock(ClockStep::DayEnd(0)),
    ReservedLetter::Clock(ClockStep::BackMinutes(1)),
    ReservedLetter::Clock(ClockStep::BackMinutes(2)),
    ReservedLetter::Clock(ClockStep::BackDays(2)),
];

fn history(letters: &[ReservedLetter]) -> Vec<Operation> {
    let mut now = MIDNIGHT_MS + DAY_MS / 2;
    let first = ReservedLetter::MakeAgain.actions().pop();
    let first = first.into_iter().chain(ReservedLetter::Reserve.actions());
    let mut operations: Vec<_> = first.map(|action| Operation { at: now, action }).collect();
    for letter in letters {
        if let ReservedLetter::Clock(step) = letter {
            now = step.from(now);
        }
        operations.extend(letter.actions().into_iter().map(|action| Operation { at: now, action }));
    }
    operations.push(Operation { at: now, action: Action::Peek(call(0, 1, 0)) });
    operations.push(Operation { at: now, action: Action::Usage { key: key() } });
    operations
}

impl ReservedLetter {
    /// What it does to the key; nothing, if it moves the clock.
    fn actions(self) -> Vec<Action> {
        let action = match self {
            Self::Clock(_) => return Vec::new(),
            Self::Reserve => Action::Reserve(Reserve {
                estimate: call(1, 2, 2),
                id: id(),
                ttl_ms: DAY_MS / 2 + 90 * MINUTE_MS,
            }),
            Self::ReserveAnother => Action::Reserve(Reserve {
                estimate: Call { asset: None, ..call(0, 3, 0) },
                id: another(),
                ttl_ms: MINUTE_MS,
            }),
            Self::Extend => {
                Action::Extend(Totals { output: Some(6), credits: Some(7), ..totals() })
            }
            Self::SettleLess => {
                Action::Settle(Totals { output: Some(1), credits: Some(1), ..totals() })
            }
            Self::SettleMore => Action::Settle(Totals {
                input: Some(3),
                output: Some(7),
                credits: Some(3),
                ..totals()
            }),
            Self::Cancel => Action::Cancel { key: key(), id: id() },
            Self::CancelAnother => Action::Cancel { key: key(), id: another() },
            Self::CheckOnce => {
                Action::Check(Call { request_id: Some("q1".to_owned()), ..call(0, 1, 1) })
            }
            Self::Call => Action::Check(call(0, 1, 0)),
            Self::Clear => {
                update(Update { global: Change::Clear, assets: Change::Clear, ..Update::default() })
            }
            Self::Restore => update(Update {
                global: Change::Set(GLOBAL),
                assets: Change::Set(BTreeMap::from([("m1".to_owned(), Some(ASSET))])),
                ..Update::default()
            }),
            Self::MakeAgain => return vec![Action::Delete { key: key() }, create()],
        };
        vec![action]
    }
}

fn create() -> Action {
    let assets = BTreeMap::from([("m1".to_owned(), Some(ASSET))]);
    Action::Create(Create {
        key: key(),
        global: Some(GLOBAL),
        assets,
        budget: Some(8),
        ..Create::default()
    })
}

fn update(update: Update) -> Action {
    Action::Update(Update { key: key(), ..update })
}

fn call(input: u64, output: u64, credits: u64) -> Call {
    let asset = Some("m1".to_owned());
    Call { key: key(), asset, requests: 1, input, output, credits, request_id: None }
}

fn totals() -> Totals {
    Totals { key: key(), id: id(), ..Totals::default() }
}

fn key() -> String {
    "k1".to_owned()
}

fn id() -> String {
    "r1".to_owned()
}

fn another() -> String {
    "r2".to_owned()
}

const NONE: Limits = Limits {
    requests_per_minute: None,
    requests_per_day: None,
    tokens_per_minute: None,
    tokens_per_day: None,
    token_type: TokenType::Total,
};
const GLOBAL: Limits = Limits { requests_per_minute: Some(3), tokens_per_day: Some(12), ..NONE };
const ASSET: Limits = Limits { tokens_per_minute: Some(6), token_type: TokenType::Output, ..NONE };
