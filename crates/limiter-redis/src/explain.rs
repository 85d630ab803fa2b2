//! Decisions from what a script answered: the core decides again, on the records as the script found them.
//!
//! The script has decided; the core explains, since it alone knows how to word a denial and when to retry. Should the two
//! ever differ, that is an error that names both.

use limiter_core::{AssetId, Charge, Decision, DenialReason, evaluate};
use redis::Value;

use crate::codec::{Decided, Group, HotKey, Limits, Misread, Verdict};
use crate::error::RedisError;
use crate::known::Known;

/// What is wrong with the answer for a whole group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Misread(Misread),
    WrongType,
}

/// A decision, or why this process does not stand by it.
pub(crate) type Explained = Result<Decision, RedisError>;

/// The decisions of a group of calls, and the limits that came with them.
pub(crate) fn explain(
    reply: &Value,
    asset: Option<&AssetId>,
    charges: &[Charge],
    known: Option<&Known>,
) -> Result<(Vec<Explained>, Option<Known>), Wrong> {
    let decided = match Group::read(reply, charges.len())? {
        Group::KeyUnknown => {
            let unknown = || Ok(Decision::key_unknown(asset));
            return Ok((charges.iter().map(|_| unknown()).collect(), None));
        }
        Group::WrongType => return Err(Wrong::WrongType),
        Group::Decided(decided) => decided,
    };
    let key = HotKey::read(decided.reading.h)?;
    let learnt = decided.reading.limits.map(Limits::read).transpose()?;
    let limits = match (&learnt, known) {
        (Some(limits), _) => limits,
        (None, Some(known)) if known.stamp() == key.stamp() => known.limits(),
        (None, _) => return Err(Misread::Corrupt("its limits were not told").into()),
    };
    let decisions = decisions(&decided, &key, limits, asset, charges)?;
    Ok((decisions, learnt.map(|limits| Known::new(key.stamp(), limits))))
}

fn decisions(
    decided: &Decided<'_>,
    key: &HotKey,
    limits: &Limits,
    asset: Option<&AssetId>,
    charges: &[Charge],
) -> Result<Vec<Explained>, Wrong> {
    let mut state = limits.state(key, decided.reading.a, asset)?;
    let explained = charges.iter().zip(&decided.verdicts).map(|(charge, verdict)| {
        let located = state.locate(asset);
        let decision = evaluate::check_and_consume(&mut state, located, charge, decided.now);
        if verdict_of(&decision) == Some(*verdict) {
            Ok(decision)
        } else {
            Err(RedisError::Disagreement {
                script: format!("{verdict:?}"),
                core: format!("{decision:?}"),
            })
        }
    });
    Ok(explained.collect())
}

fn verdict_of(decision: &Decision) -> Option<Verdict> {
    Some(match decision {
        Decision::Allowed(_) => Verdict::Allowed,
        Decision::Denied(denied) => match denied.reason() {
            DenialReason::KeyExpired { .. } => Verdict::KeyExpired,
            DenialReason::AdminKey => Verdict::AdminKey,
            DenialReason::BudgetExhausted { .. } => Verdict::BudgetExhausted,
            DenialReason::RateLimited(_) => Verdict::RateLimited,
            _ => return None,
        },
    })
}

impl Wrong {
    /// The error, for this key in Redis.
    pub(crate) fn at(&self, key: &[u8]) -> RedisError {
        match self {
            Self::Misread(misread) => RedisError::misread(key, *misread),
            Self::WrongType => {
                RedisError::WrongType { key: String::from_utf8_lossy(key).into_owned() }
            }
        }
    }
}

impl From<Misread> for Wrong {
    fn from(misread: Misread) -> Self {
        Self::Misread(misread)
    }
}
