//! Calls whose cost is known only afterwards, and calls that are repeated: reserve, extend, settle, cancel, and
//! checks with a request id.
//!
//! Each function is one step on the state of a key and on its [`Ledger`], as [`evaluate`] is on the state alone.
//! A store calls them in one atomic step, with its own time.

use std::time::Duration;

use thiserror::Error;

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::crossing::Crossing;
use crate::decision::Decision;
use crate::error::{InvalidValue, StoreError};
use crate::evaluate;
use crate::explain;
use crate::ledger::{Ledger, LedgerBounds, RecordId, Reservation, ReservationEnd as End, too_many};
use crate::names::{AssetId, KeyId, RequestId};
use crate::prepare::{self, AdmittingWindows, Prepared, Settlement};
use crate::settled::Settled;
use crate::state::{KeyState, LocatedAsset};
use crate::totals::Totals;

/// The reason why a reservation was not made or changed. Nothing was charged, unless the error is
/// [`StoreError::OutcomeUnknown`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReservationError {
    /// The key never existed, or was deleted.
    #[error("unknown key: it never existed or was deleted")]
    KeyUnknown,
    /// No such reservation: it was never made, its ttl has passed, or the dedupe time since its end.
    #[error(
        "no reservation {0:?} of this key: it was never made, it ended longer ago than the dedupe time, or its ttl has \
         passed and its estimate stands as charged"
    )]
    Unknown(RequestId),
    /// The id was used for a reservation of another asset or other figures.
    #[error(
        "the reservation {0:?} exists already, for another asset or another estimate: use another id"
    )]
    OtherExists(RequestId),
    /// It was settled with other figures, or cancelled, before.
    #[error("the reservation {0:?} has already ended, and that is final")]
    AlreadySettled(RequestId),
    /// A total below the estimate as it stands: an extension only adds.
    #[error("a total of the extension is below the current estimate: an extension only adds")]
    Shrinks,
    /// A bound of [`LedgerBounds`] is reached: no more calls of this kind can be remembered.
    #[error(
        "too many calls are remembered, the bound is {most} {what}: retry at {retry_at} or raise the bound; \
         nothing was charged"
    )]
    TooMany {
        /// The kind of calls, in words.
        what: &'static str,
        /// The most that may be remembered.
        most: usize,
        /// When the store refused the call, by its clock.
        at: Timestamp,
        /// The first instant at which a place is certainly free if no other call takes it: the end of the time for which
        /// one of them is remembered. [`Timestamp::MAX`] if the bound is zero.
        retry_at: Timestamp,
    },
    /// A value out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReservationError {
    /// Returns the first instant at which the same call has a place, if it found none: see [`TooMany`](Self::TooMany).
    #[must_use]
    pub const fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Self::TooMany { retry_at, .. } => Some(*retry_at),
            _ => None,
        }
    }

    /// Returns how long to wait for [`retry_at`](Self::retry_at), from the moment of the refusal.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::TooMany { at, retry_at, .. } = self else { return None };
        Some(retry_at.since(*at))
    }
}

/// Decides and charges a call once, however often it is repeated under this id within the dedupe time.
///
/// # Errors
/// [`ReservationError::TooMany`].
#[expect(clippy::too_many_arguments, reason = "a step is told everything")]
pub fn check_once(
    state: &mut KeyState,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    key: &KeyId,
    asset: Option<&AssetId>,
    charge: &Charge,
    id: &RequestId,
    now: Timestamp,
) -> Result<Decision, ReservationError> {
    if ledger.checks.get(id, now).is_some() {
        return Ok(explain::replayed(state, state.locate(asset), now));
    }
    let full = too_many(&mut ledger.checks, CHECKS, bounds.checks, now);
    let decision = charge_if_room(state, key, asset, charge, now, full)?;
    if decision.is_charged() {
        ledger.checks.insert(id.clone(), now.after(bounds.dedupe), ());
    }
    Ok(decision)
}

/// Counts a call that was allowed elsewhere, once, however often it is repeated while its id is remembered. A limit,
/// the budget, an expiry or the kind of the key never refuses it: any excess stands as debt until the window ends.
/// Returns the thresholds that it was the first to reach.
///
/// # Errors
/// [`ReservationError::TooMany`].
pub fn record(
    state: &mut KeyState,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    asset: Option<&AssetId>,
    charge: &Charge,
    id: &RecordId<'_>,
    now: Timestamp,
) -> Result<Vec<Crossing>, ReservationError> {
    let RecordId { id, remembered_for, confirms } = *id;
    if ledger.records.get(id, now).is_some() {
        return Ok(Vec::new());
    }
    if let Some(full) = too_many(&mut ledger.records, "records of this key", bounds.records, now) {
        return Err(full);
    }
    let located = state.locate(asset);
    let crossed = evaluate::record(state, located, charge, now);
    ledger.records.insert(id.clone(), now.after(remembered_for), ());
    if let Some(confirmed) = confirms.filter(|confirmed| *confirmed != id) {
        ledger.records.forget_sooner(confirmed, now.after(bounds.dedupe));
    }
    Ok(crossed)
}

/// Decides and charges a call by its estimate, which can be corrected once within `ttl`.
///
/// # Errors
/// [`ReservationError::OtherExists`] or [`ReservationError::TooMany`].
#[expect(clippy::too_many_arguments, reason = "a step is told everything")]
pub fn reserve(
    state: &mut KeyState,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    key: &KeyId,
    asset: Option<&AssetId>,
    estimate: &Charge,
    id: &RequestId,
    ttl: Duration,
    now: Timestamp,
) -> Result<Decision, ReservationError> {
    if let Some(known) = ledger.reservation_at(id, now) {
        if known.asset.as_ref() != asset || known.reserved != *estimate {
            return Err(ReservationError::OtherExists(id.clone()));
        }
        return Ok(explain::replayed(state, state.locate(asset), now));
    }
    let full = ledger.full_of_reservations(bounds, now);
    let decision = charge_if_room(state, key, asset, estimate, now, full)?;
    if decision.is_charged() {
        let reservation = Reservation {
            asset: asset.cloned(),
            reserved: *estimate,
            estimate: *estimate,
            admitted: AdmittingWindows::of(state, state.locate(asset)),
            end: None,
        };
        ledger.open.insert(id.clone(), now.after(ttl), reservation);
    }
    Ok(decision)
}

/// Raises the estimate of a running call: the difference is charged like a top-up, all or nothing.
///
/// # Errors
/// [`ReservationError::Unknown`], [`ReservationError::Invalid`], [`ReservationError::Shrinks`] or
/// [`ReservationError::AlreadySettled`], looked for in this order.
pub fn extend(
    state: &mut KeyState,
    ledger: &mut Ledger,
    key: &KeyId,
    id: &RequestId,
    to: &Totals,
    now: Timestamp,
) -> Result<Decision, ReservationError> {
    let reservation = ledger.reservation_at(id, now).ok_or_else(|| unknown(id))?;
    let (raised, missing) = reservation.raised(id, to)?;
    let asset = state.locate(reservation.asset.as_ref());
    let decision = evaluate::charge(state, key, asset, &missing, now);
    if decision.is_charged() {
        reservation.estimate = raised;
    }
    Ok(decision)
}

/// Corrects the estimate to the actual cost of the call, and returns the final charge. Within the dedupe time, a
/// repetition changes nothing more and returns the same charge.
///
/// # Errors
/// [`ReservationError::Unknown`], [`ReservationError::Invalid`] or [`ReservationError::AlreadySettled`], looked for
/// in this order.
pub fn settle(
    state: &mut KeyState,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    id: &RequestId,
    actual: &Totals,
    now: Timestamp,
) -> Result<Settled, ReservationError> {
    end(state, ledger, bounds, id, Some(actual), now)
}

/// Takes the whole charge back, the request too: the call never went upstream. Within the dedupe time, a repetition
/// changes nothing more. The final charge is [`Charge::NOTHING`].
///
/// # Errors
/// [`ReservationError::Unknown`] or [`ReservationError::AlreadySettled`], looked for in this order.
pub fn cancel(
    state: &mut KeyState,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    id: &RequestId,
    now: Timestamp,
) -> Result<Settled, ReservationError> {
    end(state, ledger, bounds, id, None, now)
}

fn unknown(id: &RequestId) -> ReservationError {
    ReservationError::Unknown(id.clone())
}

/// Decides and charges a call. A call that would be allowed but could not be remembered is refused, and not charged.
fn charge_if_room(
    state: &mut KeyState,
    key: &KeyId,
    asset: Option<&AssetId>,
    charge: &Charge,
    now: Timestamp,
    full: Option<ReservationError>,
) -> Result<Decision, ReservationError> {
    if let Some(full) = full
        && evaluate::peek(state, key, state.locate(asset), charge, now).is_charged()
    {
        return Err(full);
    }
    let asset = state.locate(asset);
    Ok(evaluate::charge(state, key, asset, charge, now))
}

/// Settles with the actual totals, or cancels without.
fn end(
    state: &mut KeyState,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    id: &RequestId,
    actual: Option<&Totals>,
    now: Timestamp,
) -> Result<Settled, ReservationError> {
    let reservation = ledger.reservation_at(id, now).ok_or_else(|| unknown(id))?;
    let (end, actual) = reservation.ending(id, actual)?;
    if reservation.end.is_some() {
        return Ok(Settled::repeated(reservation.asset.clone(), actual, now));
    }
    let asset = state.locate(reservation.asset.as_ref());
    let prepared = reservation.prepare_end(state, asset, &actual, now);
    let committed = prepared.commit(state, asset, now);
    let crossed = committed.map_or_else(Vec::new, |committed| committed.crossed);
    let settled = Settled::first(reservation.asset.clone(), actual, now).crossing(crossed);
    ledger.end(id, end, bounds, now);
    Ok(settled)
}

impl Reservation {
    /// Returns the estimate raised to new totals, and the difference as a top-up.
    ///
    /// # Errors
    /// [`ReservationError::Invalid`], [`ReservationError::Shrinks`] or [`ReservationError::AlreadySettled`].
    pub fn raised(
        &self,
        id: &RequestId,
        to: &Totals,
    ) -> Result<(Charge, Charge), ReservationError> {
        let raised = to.applied_to(&self.estimate)?;
        let missing = excess(&raised, &self.estimate).ok_or(ReservationError::Shrinks)?;
        match self.end {
            Some(_) => Err(ReservationError::AlreadySettled(id.clone())),
            None => Ok((raised, missing)),
        }
    }

    /// Returns its end and its final charge: settled with these totals, or cancelled without. It may have ended so
    /// before.
    ///
    /// # Errors
    /// [`ReservationError::Invalid`], or [`ReservationError::AlreadySettled`] if it has ended otherwise.
    pub fn ending(
        &self,
        id: &RequestId,
        actual: Option<&Totals>,
    ) -> Result<(End, Charge), ReservationError> {
        let (end, charge) = match actual {
            Some(actual) => {
                let actual = actual.applied_to(&self.estimate)?;
                (End::Settled(actual), actual)
            }
            None => (End::Cancelled, Charge::NOTHING),
        };
        match self.end {
            Some(before) if before != end => Err(ReservationError::AlreadySettled(id.clone())),
            _ => Ok((end, charge)),
        }
    }

    /// Prepares the correction of its estimate to the actual charge.
    #[must_use]
    pub fn prepare_end(
        &self,
        state: &KeyState,
        asset: LocatedAsset<'_>,
        actual: &Charge,
        now: Timestamp,
    ) -> Prepared {
        let Self { estimate: charged, admitted, .. } = self;
        prepare::settle(state, asset, &Settlement { admitted, charged, actual }, now)
    }
}

/// Returns the excess of the first charge over the second as a top-up; `None` if any amount of the first is smaller.
fn excess(raised: &Charge, estimate: &Charge) -> Option<Charge> {
    let input = raised.input_tokens().checked_sub(estimate.input_tokens())?;
    let output = raised.output_tokens().checked_sub(estimate.output_tokens())?;
    let credits = raised.credits().checked_sub(estimate.credits())?;
    Some(Charge::NOTHING.with_tokens(input, output).ok()?.with_credits(credits))
}

const CHECKS: &str = "checks with a request id of this key";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KeyConfig, KeyKind};
    use crate::ledger::SavedLedger;
    use crate::limits::{Limits, MAX_COUNT};
    use crate::window::Window;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
    const NEXT_MINUTE: Timestamp = Timestamp::from_unix_ms(1_760_011_260_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    /// A key with limits that no test here reaches, and its ledger.
    struct Key {
        state: KeyState,
        ledger: Ledger,
        bounds: LedgerBounds,
    }

    impl Key {
        fn new() -> Self {
            let limits = Limits::builder().tokens_per_minute(MAX_COUNT).build().unwrap();
            let config = KeyConfig::named("ci").unwrap().with_global(limits);
            let state = KeyState::new(KeyKind::Member, &config, NOON);
            Self { state, ledger: Ledger::default(), bounds: LedgerBounds::default() }
        }

        fn reserve(
            &mut self,
            name: &str,
            estimate: Charge,
            now: Timestamp,
        ) -> Result<Decision, ReservationError> {
            let Self { state, ledger, bounds } = self;
            reserve(state, ledger, bounds, &key_id(), None, &estimate, &id(name), HOUR, now)
        }

        fn extend(&mut self, name: &str, to: Totals) -> Result<Decision, ReservationError> {
            extend(&mut self.state, &mut self.ledger, &key_id(), &id(name), &to, NOON)
        }

        fn settle(
            &mut self,
            name: &str,
            actual: Totals,
            now: Timestamp,
        ) -> Result<Settled, ReservationError> {
            let Self { state, ledger, bounds } = self;
            settle(state, ledger, bounds, &id(name), &actual, now)
        }

        fn minute_tokens(&self) -> u64 {
            self.state.global().unwrap().counts(Window::Minute).tokens().used()
        }
    }

    fn key_id() -> KeyId {
        "ci".parse().unwrap()
    }

    fn id(text: &str) -> RequestId {
        text.parse().unwrap()
    }

    fn tokens(input: u64, output: u64) -> Charge {
        Charge::request().with_tokens(input, output).unwrap()
    }

    fn totals(input: u64, output: u64) -> Totals {
        Totals::unchanged().with_input_tokens(input).unwrap().with_output_tokens(output).unwrap()
    }

    #[test]
    fn a_count_that_stayed_at_the_largest_number_is_lowered_from_there() {
        let mut key = Key::new();
        let limits = Limits::builder().requests_per_day(9).build().unwrap();
        let without_limit = KeyConfig::named("ci").unwrap().with_global(limits);
        key.state = KeyState::new(KeyKind::Member, &without_limit, NOON);
        let _ = key.reserve("a", tokens(0, MAX_COUNT), NOON).unwrap();
        let _ = key.reserve("b", tokens(0, 5), NOON).unwrap();
        assert_eq!(key.minute_tokens(), MAX_COUNT);
        key.settle("a", totals(0, 0), NOON).unwrap();
        assert_eq!(key.minute_tokens(), 0);
        key.settle("b", totals(0, 0), NOON).unwrap();
        assert_eq!(key.minute_tokens(), 0, "it stays a count");
    }

    #[test]
    fn an_overrun_counts_for_input_and_output_each() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(10, 10), NOON).unwrap();
        key.settle("a", totals(2, 15), NEXT_MINUTE).unwrap();
        assert_eq!(key.minute_tokens(), 5, "that the input was 8 less is forgotten");
    }

    #[test]
    fn a_sum_is_judged_with_what_was_left_out() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(2, 0), NOON).unwrap();
        let most = Totals::unchanged().with_output_tokens(MAX_COUNT - 1).unwrap();
        let settled = key.settle("a", most, NOON);
        assert!(matches!(settled, Err(ReservationError::Invalid(_))), "{settled:?}");
        let extended = key.extend("a", most);
        assert!(matches!(extended, Err(ReservationError::Invalid(_))), "{extended:?}");
        assert_eq!(key.minute_tokens(), 2);
    }

    #[test]
    fn an_invalid_extension_is_refused_before_a_settled_one() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(2, 2), NOON).unwrap();
        key.settle("a", totals(2, 2), NOON).unwrap();
        assert!(matches!(key.extend("a", totals(1, 2)), Err(ReservationError::Shrinks)));
        assert!(matches!(key.extend("a", totals(3, 2)), Err(ReservationError::AlreadySettled(_))));
        assert!(matches!(key.extend("b", totals(1, 2)), Err(ReservationError::Unknown(_))));
    }

    #[test]
    fn a_call_that_would_be_denied_is_denied_also_where_nothing_more_is_remembered() {
        let mut key = Key::new();
        key.bounds = LedgerBounds::of_each(0);
        let reserved = key.reserve("a", tokens(1, 0), NOON);
        assert!(matches!(reserved, Err(ReservationError::TooMany { most: 0, .. })));
        assert_eq!(key.minute_tokens(), 0);
        let expired = KeyConfig { expires_at: Some(NOON), ..KeyConfig::named("ci").unwrap() };
        key.state = KeyState::new(KeyKind::Member, &expired, NOON);
        assert!(key.reserve("a", tokens(1, 0), NOON).is_ok_and(|decision| !decision.is_allowed()));
    }

    #[test]
    fn the_final_charge_is_answered_and_answered_again() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(10, 20), NOON).unwrap();
        let actual = Totals::unchanged().with_output_tokens(35).unwrap();
        let settled = key.settle("a", actual, NOON).unwrap();
        let first = Settled::first(None, tokens(10, 35), NOON);
        assert_eq!(settled, first, "with the request and the input");
        let again = key.settle("a", actual, NEXT_MINUTE).unwrap();
        assert_eq!(again, Settled::repeated(None, tokens(10, 35), NEXT_MINUTE));

        let _ = key.reserve("b", tokens(10, 20), NOON).unwrap();
        let Key { state, ledger, bounds } = &mut key;
        let mut cancel = || cancel(state, ledger, bounds, &id("b"), NOON).unwrap();
        assert_eq!(cancel(), Settled::first(None, Charge::NOTHING, NOON));
        assert_eq!(cancel(), Settled::repeated(None, Charge::NOTHING, NOON));
    }

    #[test]
    fn a_saved_ledger_goes_on() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(0, 9), NOON).unwrap();
        key.state = saved(&key.state);
        key.ledger = saved(&SavedLedger::from(&key.ledger)).into();
        key.settle("a", totals(0, 4), NOON).unwrap();
        assert_eq!(key.minute_tokens(), 4, "the admitting minute is found again");
    }

    fn saved<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
    }
}
