//! Calls whose cost is known only afterwards, and calls that are repeated: reserve, amend, settle, cancel, and
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
use crate::levels::{Levels, LevelsMut};
use crate::names::RequestId;
use crate::prepare::{self, Admission, Correction, Prepared};
use crate::settled::Settled;
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
pub fn check_once(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    charge: &Charge,
    id: &RequestId,
    now: Timestamp,
) -> Result<Decision, ReservationError> {
    if ledger.checks.get(id, now).is_some() {
        return Ok(explain::replayed(&levels.as_ref(), now));
    }
    let full = too_many(&mut ledger.checks, CHECKS, bounds.checks, now);
    let decision = charge_if_room(levels, charge, now, full)?;
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
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
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
    let crossed = evaluate::record(levels, charge, now);
    ledger.records.insert(id.clone(), now.after(remembered_for), ());
    if let Some(confirmed) = confirms.filter(|confirmed| *confirmed != id) {
        ledger.records.forget_sooner(confirmed, now.after(bounds.dedupe));
    }
    Ok(crossed)
}

/// Decides and charges a call by its estimate, which can be corrected once within `ttl`. An admitted call holds a slot of each
/// parallel limit that it meets, until it ends or the slot expires.
///
/// # Errors
/// [`ReservationError::OtherExists`] or [`ReservationError::TooMany`].
pub fn reserve(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    estimate: &Charge,
    id: &RequestId,
    ttl: Duration,
    now: Timestamp,
) -> Result<Decision, ReservationError> {
    if let Some(known) = ledger.reservation_at(id, now) {
        if known.asset.as_ref() != levels.asset || known.reserved != *estimate {
            return Err(ReservationError::OtherExists(id.clone()));
        }
        let parallel = levels.as_ref().parallel_at(now);
        return Ok(explain::replayed(&levels.as_ref().reserving(&parallel), now));
    }
    let full = ledger.full_of_reservations(bounds, now);
    let parallel = levels.as_ref().parallel_at(now);
    let spared = explain::spared(&levels.as_ref().reserving(&parallel), estimate, now);
    let decision = charge_if_room(&mut levels.reserving(&parallel), estimate, now, full)?;
    if decision.is_charged() {
        let until = now.after(bounds.slots.min(ttl));
        let slots = levels.hold_slots(&parallel, spared, id, until, now);
        let reservation = Reservation {
            asset: levels.asset.cloned(),
            reserved: *estimate,
            estimate: *estimate,
            admission: Admission::after(&levels.as_ref(), spared, now),
            slots,
            end: None,
        };
        ledger.open.insert(id.clone(), now.after(ttl), reservation);
    }
    Ok(decision)
}

/// Changes the estimate of a running call. What it adds is checked and charged like a top-up, all or nothing, in the windows
/// open now; what it takes away is handed back at once, to the windows that admitted the call while they are open.
///
/// If it does not fit in levels in shadow mode alone, it is let through and changes nothing: the settlement counts what was
/// used.
///
/// Unless it is denied, the slots of the call that have not expired are held for their whole time again.
///
/// # Errors
/// [`ReservationError::Unknown`], [`ReservationError::Invalid`] or [`ReservationError::AlreadySettled`], looked for in this
/// order.
pub fn amend(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    id: &RequestId,
    to: &Totals,
    now: Timestamp,
) -> Result<Decision, ReservationError> {
    let slots_until = ledger.open.until(id).map(|until| until.min(now.after(bounds.slots)));
    let reservation = ledger.reservation_at(id, now).ok_or_else(|| unknown(id))?;
    let (amended, added) = reservation.amended(id, to)?;
    let asset = reservation.asset.clone();
    let mut levels = levels.of_asset(asset.as_ref());
    let renew = |levels: &mut LevelsMut<'_>, slots| {
        if let Some(until) = slots_until {
            levels.renew_slots(slots, id, until, now);
        }
    };
    let refused = {
        let before = levels.as_ref();
        let prepared = reservation.prepare_amendment(&before, &amended, now);
        reservation.refuses(&before, &prepared, &added, now)
    };
    if let Some(refused) = refused {
        let rebase = prepare::rebase(&levels.as_ref(), now);
        if let Some(rebase) = rebase {
            rebase.commit(&mut levels, now);
        }
        if refused.is_allowed() {
            renew(&mut levels, reservation.slots);
        }
        return Ok(refused);
    }
    let decision = reservation.amend(&mut levels, &amended, now);
    reservation.estimate = amended;
    renew(&mut levels, reservation.slots);
    Ok(decision)
}

/// Corrects the estimate to the actual cost of the call, and returns the final charge. Within the dedupe time, a
/// repetition changes nothing more and returns the same charge.
///
/// # Errors
/// [`ReservationError::Unknown`], [`ReservationError::Invalid`] or [`ReservationError::AlreadySettled`], looked for
/// in this order.
pub fn settle(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    id: &RequestId,
    actual: &Totals,
    now: Timestamp,
) -> Result<Settled, ReservationError> {
    end(levels, ledger, bounds, id, Some(actual), now)
}

/// Takes the whole charge back, the request too: the call never went upstream. Within the dedupe time, a repetition
/// changes nothing more. The final charge is [`Charge::NOTHING`].
///
/// # Errors
/// [`ReservationError::Unknown`] or [`ReservationError::AlreadySettled`], looked for in this order.
pub fn cancel(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    id: &RequestId,
    now: Timestamp,
) -> Result<Settled, ReservationError> {
    end(levels, ledger, bounds, id, None, now)
}

fn unknown(id: &RequestId) -> ReservationError {
    ReservationError::Unknown(id.clone())
}

/// Decides and charges a call. A call that would be allowed but could not be remembered is refused, and not charged.
fn charge_if_room(
    levels: &mut LevelsMut<'_>,
    charge: &Charge,
    now: Timestamp,
    full: Option<ReservationError>,
) -> Result<Decision, ReservationError> {
    if let Some(full) = full
        && evaluate::peek(&levels.as_ref(), charge, now).is_charged()
    {
        return Err(full);
    }
    Ok(evaluate::charge_all(levels, charge, now))
}

/// Settles with the actual totals, or cancels without.
fn end(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    id: &RequestId,
    actual: Option<&Totals>,
    now: Timestamp,
) -> Result<Settled, ReservationError> {
    let reservation = ledger.reservation_at(id, now).ok_or_else(|| unknown(id))?;
    let (end, actual) = reservation.ending(id, actual)?;
    let asset = reservation.asset.clone();
    if reservation.end.is_some() {
        return Ok(Settled::repeated(asset, actual, now));
    }
    let crossed = {
        let mut levels = levels.of_asset(asset.as_ref());
        let prepared = reservation.prepare_end(&levels.as_ref(), &actual, now);
        let committed = prepared.commit(&mut levels, now);
        levels.free_slots(reservation.slots, id);
        committed.map_or_else(Vec::new, |committed| committed.crossed)
    };
    ledger.end(id, end, bounds, now);
    Ok(Settled::first(asset, actual, now).crossing(crossed))
}

impl Reservation {
    /// Returns the estimate with new totals, and what it adds, as a top-up.
    ///
    /// # Errors
    /// [`ReservationError::Invalid`] or [`ReservationError::AlreadySettled`].
    pub fn amended(
        &self,
        id: &RequestId,
        to: &Totals,
    ) -> Result<(Charge, Charge), ReservationError> {
        let amended = to.applied_to(&self.estimate)?;
        match self.end {
            Some(_) => Err(ReservationError::AlreadySettled(id.clone())),
            None => Ok((amended, amended.beyond(&self.estimate))),
        }
    }

    /// Prepares an amendment of its estimate.
    #[must_use]
    pub fn prepare_amendment(
        &self,
        levels: &Levels<'_>,
        amended: &Charge,
        now: Timestamp,
    ) -> Prepared {
        let Self { estimate: charged, admission, .. } = self;
        let correction = Correction { admission, charged, actual: amended, must_fit: true };
        prepare::correct(levels, &correction, now)
    }

    /// Amends its estimate in the levels as they were before, where that was done, and returns the answer.
    pub fn amend(&self, levels: &mut LevelsMut<'_>, amended: &Charge, now: Timestamp) -> Decision {
        let prepared = self.prepare_amendment(&levels.as_ref(), amended, now);
        match prepared.commit(levels, now) {
            Some(committed) => explain::allowed(committed, now),
            // An operation always applies to the state that it was prepared from, if it fits.
            None => Decision::unchecked(now),
        }
    }

    /// Returns the denial of an amendment that adds something, if there is a reason.
    #[must_use]
    pub fn refuses(
        &self,
        levels: &Levels<'_>,
        prepared: &Prepared,
        added: &Charge,
        now: Timestamp,
    ) -> Option<Decision> {
        if *added == Charge::NOTHING || levels.may_add(now) && prepared.fits(levels, now) {
            return None;
        }
        explain::refused_amendment(levels, added, prepared.short(levels, now), now)
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
    pub fn prepare_end(&self, levels: &Levels<'_>, actual: &Charge, now: Timestamp) -> Prepared {
        let Self { estimate: charged, admission, .. } = self;
        let correction = Correction { admission, charged, actual, must_fit: false };
        prepare::correct(levels, &correction, now)
    }
}

const CHECKS: &str = "checks with a request id of this key";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Effective, KeyConfig, KeyKind};
    use crate::ledger::SavedLedger;
    use crate::limits::{Limits, MAX_COUNT};
    use crate::names::KeyId;
    use crate::rule::{Scope, Unit};
    use crate::state::KeyState;
    use crate::thresholds::Thresholds;
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
            let state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, NOON);
            Self { state, ledger: Ledger::default(), bounds: LedgerBounds::default() }
        }

        fn reserve(
            &mut self,
            name: &str,
            estimate: Charge,
            now: Timestamp,
        ) -> Result<Decision, ReservationError> {
            let Self { state, ledger, bounds } = self;
            let key = key_id();
            let levels = &mut LevelsMut::of_key(&key, None, state);
            reserve(levels, ledger, bounds, &estimate, &id(name), HOUR, now)
        }

        fn amend(&mut self, name: &str, to: Totals) -> Result<Decision, ReservationError> {
            let key = key_id();
            let levels = &mut LevelsMut::of_key(&key, None, &mut self.state);
            amend(levels, &mut self.ledger, &self.bounds, &id(name), &to, NOON)
        }

        fn settle(
            &mut self,
            name: &str,
            actual: Totals,
            now: Timestamp,
        ) -> Result<Settled, ReservationError> {
            let Self { state, ledger, bounds } = self;
            let key = key_id();
            settle(
                &mut LevelsMut::of_key(&key, None, state),
                ledger,
                bounds,
                &id(name),
                &actual,
                now,
            )
        }

        fn minute_tokens(&self) -> u64 {
            let record = self.state.global().record();
            record.meter(Window::Minute, Unit::Tokens).unwrap().used(record.thresholds)
        }
    }

    /// The limits of other assets have ended by the time of the call, though nothing has stored that. A settlement that
    /// moved them would drop them, and a step back would find none.
    #[test]
    fn a_call_was_not_admitted_by_other_assets_whose_limits_had_ended() {
        let limits = Limits::builder().requests_per_minute(1).build().unwrap();
        let config = KeyConfig::named("ci").unwrap();
        let mut state = KeyState::new(
            KeyKind::Member,
            &config.clone().with_other(limits),
            Thresholds::DEFAULT,
            NOON,
        );
        state.configure(&config, Thresholds::DEFAULT, Effective::Next, NOON).unwrap();
        let (mut ledger, bounds, asset) =
            (Ledger::default(), LedgerBounds::default(), "m1".parse().unwrap());
        let next_day = NOON.after(24 * HOUR);
        let (key, id, one) = (key_id(), id("r1"), Charge::request());
        let mut levels = LevelsMut::of_key(&key, Some(&asset), &mut state);
        let decision = reserve(&mut levels, &mut ledger, &bounds, &one, &id, HOUR, next_day);
        drop(levels);
        assert!(decision.unwrap().is_allowed());
        let reservation = ledger.reservation_at(&id, next_day).unwrap();
        let admitted: Vec<Scope> =
            reservation.admission().scopes().iter().map(|admitted| admitted.scope).collect();
        assert_eq!(admitted, [Scope::Global]);
        let before = state.other().unwrap().clone();
        let mut levels = LevelsMut::of_key(&key, None, &mut state);
        settle(&mut levels, &mut ledger, &bounds, &id, &Totals::default(), next_day).unwrap();
        drop(levels);
        assert_eq!(state.other(), Some(&before));
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
    fn a_count_stays_at_the_largest_number() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(0, MAX_COUNT - 1), NOON).unwrap();
        key.settle("a", totals(0, MAX_COUNT), NOON).unwrap();
        assert_eq!(key.minute_tokens(), MAX_COUNT);
        let (name, charge) = (id("r"), tokens(0, 5));
        let record = RecordId { id: &name, remembered_for: HOUR, confirms: None };
        let Key { state, ledger, bounds } = &mut key;
        let of = key_id();
        let mut levels = LevelsMut::of_key(&of, None, state);
        super::record(&mut levels, ledger, bounds, &charge, &record, NOON).unwrap();
        drop(levels);
        assert_eq!(key.minute_tokens(), MAX_COUNT);
        assert_eq!(key.state.global().record().account().output_tokens(), MAX_COUNT);
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
        let amended = key.amend("a", most);
        assert!(matches!(amended, Err(ReservationError::Invalid(_))), "{amended:?}");
        assert_eq!(key.minute_tokens(), 2);
    }

    #[test]
    fn an_amendment_charges_what_it_adds_and_hands_back_what_it_takes_away() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(10, 10), NOON).unwrap();
        assert!(key.amend("a", totals(4, 12)).unwrap().is_allowed());
        assert_eq!(key.minute_tokens(), 16);
        assert!(key.amend("a", totals(4, 12)).unwrap().is_allowed());
        assert_eq!(key.minute_tokens(), 16, "a repetition changes nothing");
        key.settle("a", Totals::unchanged(), NOON).unwrap();
        assert_eq!(key.minute_tokens(), 16);
        assert!(matches!(key.amend("a", totals(4, 13)), Err(ReservationError::AlreadySettled(_))));
        assert!(matches!(key.amend("b", totals(1, 2)), Err(ReservationError::Unknown(_))));
    }

    #[test]
    fn an_amendment_that_does_not_fit_changes_nothing() {
        let mut key = Key::new();
        let _ = key.reserve("a", tokens(10, MAX_COUNT - 20), NOON).unwrap();
        let _ = key.reserve("b", tokens(0, 5), NOON).unwrap();
        let denied = key.amend("a", totals(10, MAX_COUNT - 14)).unwrap();
        assert!(denied.denied().is_some_and(|denied| denied.retry_at() == Some(NEXT_MINUTE)));
        assert_eq!(key.minute_tokens(), MAX_COUNT - 5);
        let amended = key.amend("a", totals(0, MAX_COUNT - 14)).unwrap();
        assert!(amended.is_allowed(), "what is handed back makes room");
    }

    #[test]
    fn a_settlement_corrects_the_number_of_requests() {
        let mut key = Key::new();
        let batch = Charge::request().with_requests(10).unwrap();
        let _ = key.reserve("a", batch, NOON).unwrap();
        let settled = key.settle("a", Totals::unchanged().with_requests(3).unwrap(), NOON).unwrap();
        assert_eq!(settled.charge.map(|charge| charge.requests()), Some(3));
        assert_eq!(key.state.global().record().account().requests(), 3);
    }

    #[test]
    fn a_call_that_would_be_denied_is_denied_also_where_nothing_more_is_remembered() {
        let mut key = Key::new();
        key.bounds = LedgerBounds::of_each(0);
        let reserved = key.reserve("a", tokens(1, 0), NOON);
        assert!(matches!(reserved, Err(ReservationError::TooMany { most: 0, .. })));
        assert_eq!(key.minute_tokens(), 0);
        let expired = KeyConfig { expires_at: Some(NOON), ..KeyConfig::named("ci").unwrap() };
        key.state = KeyState::new(KeyKind::Member, &expired, Thresholds::DEFAULT, NOON);
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
        let of = key_id();
        let mut levels = LevelsMut::of_key(&of, None, state);
        let mut cancel = || cancel(&mut levels, ledger, bounds, &id("b"), NOON).unwrap();
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
