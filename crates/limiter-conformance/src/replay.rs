//! The replay format as typed data: one JSON object a line goes in, one comes out.
//!
//! [`read`] turns a line into an [`Operation`]; [`Answer::to_line`] writes what was answered. No engine is involved.

mod answer;
mod operation;
mod read;

pub use answer::{
    Answer, Charged, Cost, Credits, Crossed, Day, Denial, Event, Exceeded, LevelRule, Problem,
    Remaining, Row, RuleUsage, ScopeName, Usage,
};
pub use limiter_core::{Effective, KeyKind, Measure, Rule, Scope, TimeZone, Unit, Window};
pub use operation::{
    Action, Amount, Assets, Call, Change, Create, Limits, Operation, Other, Plan, Reserve, Totals,
    Update, levels, parent, to_jsonl,
};
pub use read::{Unreadable, read};

/// The largest count, limit, amount or instant: 2^53 − 1, exact in a Lua number. A larger one is `invalid`.
pub const LARGEST: u64 = (1 << 53) - 1;

/// The last valid expiry, in milliseconds since 1970.
pub const END_OF_9999: u64 = 253_402_300_799_999;
