//! Decisions from what a script answered: the core decides again, on the records as the script found them.
//!
//! The script has decided; the core explains, since it alone knows how to word a denial and when to retry. Should the two
//! ever differ, that is an error that names both.

use limiter_core::{AssetId, Charge, Decision, DenialReason, KeyState, Timestamp, evaluate};
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

/// What calls of a key and an asset met, and what the script said of each.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) now: Timestamp,
    pub(crate) state: KeyState,
    pub(crate) verdicts: Vec<Verdict>,
    /// The limits that came with it.
    pub(crate) learnt: Option<Known>,
}

impl Met {
    /// Reads the answer for so many calls; none if the key is not known.
    pub(crate) fn read(
        reply: &Value,
        asset: Option<&AssetId>,
        calls: usize,
        known: Option<&Known>,
    ) -> Result<Option<Self>, Wrong> {
        let Decided { now, verdicts, reading } = match Group::read(reply, calls)? {
            Group::KeyUnknown => return Ok(None),
            Group::WrongType => return Err(Wrong::WrongType),
            Group::Decided(decided) => decided,
        };
        let key = HotKey::read(reading.h)?;
        let learnt = reading.limits.map(Limits::read).transpose()?;
        let limits = match (&learnt, known) {
            (Some(limits), _) => limits,
            (None, Some(known)) if known.stamp() == key.stamp() => known.limits(),
            (None, _) => return Err(Misread::Corrupt("its limits were not told").into()),
        };
        let state = limits.state(&key, reading.a, asset)?;
        let learnt = learnt.map(|limits| Known::new(key.stamp(), limits));
        Ok(Some(Self { now, state, verdicts, learnt }))
    }
}

/// The decisions of a group of calls, and the limits that came with them.
pub(crate) fn explain(
    reply: &Value,
    asset: Option<&AssetId>,
    charges: &[Charge],
    known: Option<&Known>,
) -> Result<(Vec<Explained>, Option<Known>), Wrong> {
    let Some(mut met) = Met::read(reply, asset, charges.len(), known)? else {
        let unknown = || Ok(Decision::key_unknown(asset));
        return Ok((charges.iter().map(|_| unknown()).collect(), None));
    };
    let explained = charges.iter().zip(&met.verdicts).map(|(charge, verdict)| {
        let located = met.state.locate(asset);
        let decision = evaluate::check_and_consume(&mut met.state, located, charge, met.now);
        if verdict_of(&decision) == Some(*verdict) {
            Ok(decision)
        } else {
            Err(RedisError::Disagreement {
                script: format!("{verdict:?}"),
                core: format!("{decision:?}"),
            })
        }
    });
    Ok((explained.collect(), met.learnt))
}

/// What a script would say of a decision.
pub(crate) fn verdict_of(decision: &Decision) -> Option<Verdict> {
    // The script knows nothing of shadow mode.
    let Some(denied) = decision.denied().or_else(|| decision.shadowed()) else {
        return Some(Verdict::Allowed);
    };
    match denied.reason() {
        DenialReason::KeyExpired { .. } => Some(Verdict::KeyExpired),
        DenialReason::AdminKey => Some(Verdict::AdminKey),
        DenialReason::BudgetExhausted { .. } => Some(Verdict::BudgetExhausted),
        DenialReason::RateLimited(_) => Some(Verdict::RateLimited),
        _ => None,
    }
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
