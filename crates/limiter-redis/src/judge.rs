//! What a script said of an operation on an id, and what the core says of the same.
//!
//! The core is handed what the script found: the records of the key, and what was remembered under the id. Should its outcome
//! be another, that is an error that names both.

use limiter_core::{
    AssetId, Crossing, Decision, KeyKind, KeyState, Ledger, LedgerBounds, MAX_COUNT, Meter,
    Reservation, ReservationError, Settled, Thresholds, Timestamp,
};
use redis::Value;

use crate::codec::{Answered, Misread, Outcome, Telling, Verdict};
use crate::error::RedisError;
use crate::explain::{Met, verdict_of};
use crate::known::Known;

/// What a script found, and what it made of it.
#[derive(Debug)]
pub(crate) struct Judged {
    outcome: Outcome,
    verdict: Option<Verdict>,
    pub(crate) now: Timestamp,
    /// As far as the script has told it: of no key where that does not matter.
    pub(crate) state: KeyState,
    /// At most what was remembered under this id.
    pub(crate) ledger: Ledger,
    pub(crate) learnt: Option<Known>,
    /// Thresholds that were reached, where the core does not find them itself.
    crossed: Vec<Crossing>,
}

/// An outcome of the core that can be compared with that of a script.
pub(crate) trait Comparable {
    fn outcome(&self) -> (Outcome, Option<Verdict>);
}

impl Judged {
    /// Reads an answer, of a script on these keys: the state and what is remembered. None if the key is not known.
    pub(crate) fn read(
        reply: &Value,
        asset: Option<&AssetId>,
        known: Option<&Known>,
        keys: &[Vec<u8>],
        remembered: impl Fn(&[u8]) -> Result<Ledger, Misread>,
    ) -> Result<Option<Self>, RedisError> {
        let at = |number: usize| keys.get(number).map_or(&[][..], Vec::as_slice);
        let misread = |misread| RedisError::misread(at(1), misread);
        let telling = match Answered::read(reply).map_err(misread)? {
            Answered::Told(telling) => telling,
            Answered::Decided(group) => {
                let met = Met::read(group, asset, 1, known).map_err(|wrong| wrong.at(at(0)))?;
                return Ok(met.map(|met| Self::of(Outcome::Decided, met, Ledger::default())));
            }
        };
        let Telling { outcome, now, remembered: record, decided, crossed } = telling;
        if outcome == Outcome::KeyUnknown {
            return Ok(None);
        }
        let ledger = record.map(remembered).transpose().map_err(misread)?.unwrap_or_default();
        // The call may be one that the reservation alone knows.
        let reserved = ledger.reservations().next();
        let called = reserved.map_or(asset, |(_, _, reservation)| Reservation::asset(reservation));
        let Some(group) = decided else {
            let state = of_no_key().map_err(misread)?;
            let crossed = crossed.map_or(Ok(Vec::new()), |crossed| crossed.by(called));
            let crossed = crossed.map_err(|misread| RedisError::misread(at(0), misread))?;
            let (verdict, learnt) = (None, None);
            return Ok(Some(Self { outcome, verdict, now, state, ledger, learnt, crossed }));
        };
        let met = Met::read(group, called, 1, known).map_err(|wrong| wrong.at(at(0)))?;
        // It is of the asset that was asked about, or of none that is known here.
        let of_asset = called == asset;
        let judged = met.map(|met| {
            let learnt = met.learnt.is_some() && of_asset;
            let mut judged = Self::of(outcome, met, ledger.clone());
            judged.learnt = judged.learnt.filter(|_| learnt);
            judged
        });
        Ok(judged)
    }

    fn of(outcome: Outcome, met: Met, ledger: Ledger) -> Self {
        let Met { now, state, verdicts, learnt } = met;
        let decided = outcome == Outcome::Decided;
        let verdict = verdicts.first().copied().filter(|_| decided);
        let crossed = Vec::new();
        Self { outcome, verdict, now, state, ledger, learnt, crossed }
    }

    /// Bounds that leave room exactly if the script found room.
    pub(crate) const fn bounds(&self, bounds: &LedgerBounds) -> LedgerBounds {
        let most = if matches!(self.outcome, Outcome::TooMany) { 0 } else { usize::MAX };
        LedgerBounds { most, ..*bounds }
    }

    /// The thresholds that were reached, as the script tells them: the core was not told the counts.
    pub(crate) fn take_crossed(&mut self) -> Vec<Crossing> {
        std::mem::take(&mut self.crossed)
    }

    /// What the core made of it, if that is what the script did.
    pub(crate) fn agrees<T: Comparable>(&self, core: T) -> Result<T, RedisError> {
        let outcome = core.outcome();
        if (self.outcome, self.verdict) == outcome {
            return Ok(core);
        }
        let told = |(outcome, verdict): (Outcome, Option<Verdict>)| match verdict {
            Some(verdict) => format!("{verdict:?}"),
            None => format!("{outcome:?}"),
        };
        Err(RedisError::Disagreement {
            script: told((self.outcome, self.verdict)),
            core: told(outcome),
        })
    }
}

impl Comparable for Result<Decision, ReservationError> {
    fn outcome(&self) -> (Outcome, Option<Verdict>) {
        match self {
            Ok(Decision::Allowed(allowed)) if allowed.replayed() => (Outcome::Replayed, None),
            Ok(decision) => (Outcome::Decided, verdict_of(decision)),
            Err(error) => (refusal(error), None),
        }
    }
}

impl Comparable for Result<Settled, ReservationError> {
    fn outcome(&self) -> (Outcome, Option<Verdict>) {
        (self.as_ref().map_or_else(refusal, |_| Outcome::Done), None)
    }
}

impl Comparable for Result<(), ReservationError> {
    fn outcome(&self) -> (Outcome, Option<Verdict>) {
        (self.as_ref().map_or_else(refusal, |()| Outcome::Done), None)
    }
}

fn refusal(error: &ReservationError) -> Outcome {
    match error {
        ReservationError::Unknown(_) => Outcome::Unknown,
        ReservationError::OtherExists(_) => Outcome::OtherExists,
        ReservationError::AlreadySettled(_) => Outcome::AlreadySettled,
        ReservationError::Shrinks => Outcome::Shrinks,
        ReservationError::Invalid(_) => Outcome::Invalid,
        ReservationError::TooMany { .. } => Outcome::TooMany,
        // Of a store, and of no step of the core.
        _ => Outcome::KeyUnknown,
    }
}

/// What stands for the state where nothing is decided by it.
fn of_no_key() -> Result<KeyState, Misread> {
    let wrong = |_| Misread::Corrupt("a state that cannot be");
    let none = Thresholds::NONE;
    let credits = Meter::with_ahead(MAX_COUNT.cast_signed(), None, 0, none).map_err(wrong)?;
    KeyState::from_parts(KeyKind::Member, None, false, none, credits, None, []).map_err(wrong)
}
