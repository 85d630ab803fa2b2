//! Every short history over a small alphabet.

use std::collections::BTreeMap;

use crate::replay::{Action, Assets, Call, Change, Create, Limits, Operation, TokenType, Update};

use super::clock::{ClockStep, DAY_MS, MIDNIGHT_MS};
use super::sequences::Sequences;

/// Every sequence of at most `depth` letters of the [`ALPHABET`], the shorter ones first.
///
/// Each begins at noon with the creation of `k1`, whose calls are limited to 2 requests a minute and whose calls of
/// `m1` are limited to 3 tokens a day, and ends with a peek and the usage, so that the last letter shows too. With 16
/// letters there are 69,905 sequences up to depth 4, and 1,118,481 up to depth 5.
#[must_use]
pub fn small_world(depth: u32) -> Sequences<Letter> {
    Sequences::of(&ALPHABET, depth, history)
}

/// What a small world is written in: a movement of the clock, or an operation on `k1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// The clock moves.
    Clock(ClockStep),
    /// A call of `m1`: 1 request, 1 input token, 1 output token, 1 millionth of a credit.
    Call,
    /// A call of no asset: 1 request.
    CallOfNoAsset,
    /// A top-up of a call of `m1`: no request, 2 output tokens.
    TopUp,
    /// A peek at the same as [`Call`](Self::Call).
    Peek,
    /// The global limits become 1 request a minute, 4 tokens a day.
    ChangeGlobal,
    /// The global limits are cleared.
    ClearGlobal,
    /// The limits of `m1` become 1 request a minute, 1 output token a day.
    ChangeAsset,
    /// The limits of all assets are cleared.
    ClearAssets,
    /// All limits become those that the key was created with.
    Restore,
    /// The budget becomes 1 millionth of a credit.
    Budget,
}

/// The letters of a small world.
pub const ALPHABET: [Letter; 16] = [
    Letter::Call,
    Letter::CallOfNoAsset,
    Letter::TopUp,
    Letter::Peek,
    Letter::ChangeGlobal,
    Letter::ClearGlobal,
    Letter::ChangeAsset,
    Letter::ClearAssets,
    Letter::Restore,
    Letter::Budget,
    Letter::Clock(ClockStep::Minutes(1)),
    Letter::Clock(ClockStep::DayEnd(0)),
    Letter::Clock(ClockStep::BackMinutes(1)),
    Letter::Clock(ClockStep::BackMinutes(2)),
    Letter::Clock(ClockStep::BackDays(1)),
    Letter::Clock(ClockStep::BackDays(3)),
];

fn history(letters: &[Letter]) -> Vec<Operation> {
    let mut now = MIDNIGHT_MS + DAY_MS / 2;
    let create =
        Create { key: key(), global: Some(GLOBAL), assets: only(ASSET), ..Create::default() };
    let mut operations = vec![Operation { at: now, action: Action::Create(create) }];
    for letter in letters {
        if let Letter::Clock(step) = letter {
            now = step.from(now);
        }
        operations.extend(letter.action().map(|action| Operation { at: now, action }));
    }
    operations.push(Operation { at: now, action: Action::Peek(call()) });
    operations.push(Operation { at: now, action: Action::Usage { key: key() } });
    operations
}

impl Letter {
    /// What it does to the key; nothing, if it moves the clock.
    fn action(self) -> Option<Action> {
        Some(match self {
            Self::Clock(_) => return None,
            Self::Call => Action::Check(call()),
            Self::CallOfNoAsset => {
                Action::Check(Call { asset: None, input: 0, output: 0, credits: 0, ..call() })
            }
            Self::TopUp => {
                Action::Check(Call { requests: 0, input: 0, output: 2, credits: 0, ..call() })
            }
            Self::Peek => Action::Peek(call()),
            Self::ChangeGlobal => {
                update(Update { global: Change::Set(CHANGED_GLOBAL), ..Update::default() })
            }
            Self::ClearGlobal => update(Update { global: Change::Clear, ..Update::default() }),
            Self::ChangeAsset => {
                update(Update { assets: Change::Set(only(CHANGED_ASSET)), ..Update::default() })
            }
            Self::ClearAssets => update(Update { assets: Change::Clear, ..Update::default() }),
            Self::Restore => update(Update {
                global: Change::Set(GLOBAL),
                assets: Change::Set(only(ASSET)),
                ..Update::default()
            }),
            Self::Budget => update(Update { budget: Change::Set(1), ..Update::default() }),
        })
    }
}

fn update(update: Update) -> Action {
    Action::Update(Update { key: key(), ..update })
}

fn call() -> Call {
    Call {
        key: key(),
        asset: Some("m1".to_owned()),
        requests: 1,
        input: 1,
        output: 1,
        credits: 1,
        request_id: None,
    }
}

fn only(limits: Limits) -> Assets {
    BTreeMap::from([("m1".to_owned(), Some(limits))])
}

fn key() -> String {
    "k1".to_owned()
}

const NONE: Limits = Limits {
    requests_per_minute: None,
    requests_per_day: None,
    tokens_per_minute: None,
    tokens_per_day: None,
    token_type: TokenType::Total,
};
const GLOBAL: Limits = Limits { requests_per_minute: Some(2), ..NONE };
const ASSET: Limits = Limits { tokens_per_day: Some(3), ..NONE };
const CHANGED_GLOBAL: Limits =
    Limits { requests_per_minute: Some(1), tokens_per_day: Some(4), ..NONE };
const CHANGED_ASSET: Limits = Limits {
    requests_per_minute: Some(1),
    tokens_per_day: Some(1),
    token_type: TokenType::Output,
    ..NONE
};
