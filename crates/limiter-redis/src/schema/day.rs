//! Days that have ended: the members of a sorted set, each once.
//!
//! | part | bytes |
//! |---|---|
//! | the end of the window in seconds, and how often it was rebased | 6 + 1 |
//! | the generation of the record | 4 |
//! | what was left of each part of the account | 4 × 7 |
//! | the field of the scope | |

use limiter_core::{ACCOUNT, ClosedDay, ScopeId};
use redis::Value;

use super::bytes::{OUT_OF_BOUNDS, Reader};
use super::hot::read_span;
use super::{GLOBAL, Misread, NOT_AN_ANSWER, OTHER, bytes};

/// Reads what `read.lua` answers for the whole set: members and scores by turns.
pub(crate) fn closed_days(value: &Value) -> Result<Vec<ClosedDay>, Misread> {
    let Value::Array(texts) = value else { return Err(Misread::WrongType) };
    let members = texts.chunks_exact(2).map(|pair| bytes(&pair[0]).ok_or(NOT_AN_ANSWER));
    members.map(|member| closed_day(member?)).collect()
}

fn closed_day(member: &[u8]) -> Result<ClosedDay, Misread> {
    let mut reader = Reader::new(member);
    let span = read_span(&mut reader)?;
    let _generation: [u8; 4] = reader.array()?;
    let mut left = [0; ACCOUNT.len()];
    for left in &mut left {
        *left = reader.int::<7>()?;
    }
    let scope = match reader.rest() {
        GLOBAL => ScopeId::GLOBAL,
        OTHER => ScopeId::OTHER,
        [b'a', id @ ..] => {
            let id = str::from_utf8(id).ok().and_then(|id| id.parse().ok());
            ScopeId::asset(id.ok_or(OUT_OF_BOUNDS)?)
        }
        _ => return Err(OUT_OF_BOUNDS),
    };
    ClosedDay::of_stored(span, scope, left).map_err(|_| OUT_OF_BOUNDS)
}
