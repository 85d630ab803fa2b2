//! Calls under an id: reserved, checked once, and recorded.

use std::time::Duration;

use limiter_core::{Charge, Crossing, Decision, RecordId, ReservationError, Settled, Totals};

use super::key::{Key, fired, in_words};
use super::world::assert_refused;
use crate::fixtures::{DAY, asset, output, request_id};
use crate::waiting::Wait;

/// All return at once what the store answers, or expect that it succeeds and return the key.
impl Key<'_> {
    /// Reserves a call of no asset for a year.
    #[track_caller]
    pub(super) fn reserve(&self, id: &str, estimate: Charge) -> &Self {
        self.reserve_for(365 * DAY, id, None, estimate)
    }

    #[track_caller]
    pub(super) fn reserve_for(
        &self,
        ttl: Duration,
        id: &str,
        called: Option<&str>,
        estimate: Charge,
    ) -> &Self {
        let decision = self.try_reserve(id, called, estimate, ttl).expect("the id is free");
        assert!(decision.is_allowed(), "{decision:?}");
        self
    }

    pub(super) fn try_reserve(
        &self,
        id: &str,
        called: Option<&str>,
        estimate: Charge,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let (store, called) = (&self.world.store, called.map(asset));
        store.reserve(&self.id, called.as_ref(), &estimate, &request_id(id), ttl).wait()
    }

    #[track_caller]
    pub(super) fn amend(&self, id: &str, to: Totals) -> &Self {
        let decision = self.try_amend(id, to).expect("the reservation is known");
        assert!(decision.is_allowed(), "{decision:?}");
        self
    }

    pub(super) fn try_amend(&self, id: &str, to: Totals) -> Result<Decision, ReservationError> {
        self.world.store.amend(&self.id, &request_id(id), &to).wait()
    }

    #[track_caller]
    pub(super) fn settle(&self, id: &str, actual: Totals) -> &Self {
        self.try_settle(id, actual).expect("the reservation is known");
        self
    }

    pub(super) fn try_settle(&self, id: &str, actual: Totals) -> Result<Settled, ReservationError> {
        self.world.store.settle(&self.id, &request_id(id), &actual).wait()
    }

    #[track_caller]
    pub(super) fn cancel(&self, id: &str) -> &Self {
        self.try_cancel(id).expect("the reservation is known");
        self
    }

    pub(super) fn try_cancel(&self, id: &str) -> Result<Settled, ReservationError> {
        self.world.store.cancel(&self.id, &request_id(id)).wait()
    }

    /// Asserts that there is no reservation of this id.
    #[track_caller]
    pub(super) fn knows_no(&self, id: &str) -> &Self {
        assert_refused!(self.try_amend(id, output(200)), ReservationError::Unknown(_));
        assert_refused!(self.try_settle(id, output(20)), ReservationError::Unknown(_));
        assert_refused!(self.try_cancel(id), ReservationError::Unknown(_));
        self
    }

    #[track_caller]
    pub(super) fn check_once(&self, id: &str, called: Option<&str>, charge: Charge) -> Decision {
        self.try_check_once(id, called, charge).expect("the store answers")
    }

    pub(super) fn try_check_once(
        &self,
        id: &str,
        called: Option<&str>,
        charge: Charge,
    ) -> Result<Decision, ReservationError> {
        let (store, called) = (&self.world.store, called.map(asset));
        store.check_once(&self.id, called.as_ref(), &charge, &request_id(id)).wait()
    }

    /// Counts a call of no asset that was admitted elsewhere.
    #[track_caller]
    pub(super) fn record(&self, id: &str, charge: Charge) -> &Self {
        self.try_record(id, None, charge, None).expect("a record is never refused");
        self
    }

    /// The same, where it may confirm an earlier one.
    pub(super) fn try_record(
        &self,
        id: &str,
        called: Option<&str>,
        charge: Charge,
        confirms: Option<&str>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let (store, called) = (self.world.store.store(), called.map(asset));
        let (id, confirms) = (request_id(id), confirms.map(request_id));
        let id = RecordId { confirms: confirms.as_ref(), ..RecordId::new(&id, DAY) };
        store.record(&self.id, called.as_ref(), &charge, &id).wait()
    }

    /// Reserves a call of no asset for a day, and asserts which thresholds that fires.
    #[track_caller]
    pub(super) fn reserving_fires<const N: usize>(
        &self,
        id: &str,
        estimate: Charge,
        expected: [&str; N],
    ) -> &Self {
        let reserved = self.try_reserve(id, None, estimate, DAY).expect("the id is free");
        assert_eq!(fired(&reserved), expected);
        self
    }

    /// Amends a call, and asserts which thresholds that fires.
    #[track_caller]
    pub(super) fn amending_fires<const N: usize>(
        &self,
        id: &str,
        to: Totals,
        expected: [&str; N],
    ) -> &Self {
        assert_eq!(fired(&self.try_amend(id, to).expect("the reservation is known")), expected);
        self
    }

    /// Settles a call, and asserts which thresholds that fires.
    #[track_caller]
    pub(super) fn settling_fires<const N: usize>(
        &self,
        id: &str,
        actual: Totals,
        expected: [&str; N],
    ) -> &Self {
        let settled = self.try_settle(id, actual).expect("the reservation is known");
        assert_eq!(in_words(&settled.crossed), expected);
        self
    }

    /// Counts a call that was admitted elsewhere, and asserts which thresholds that fires.
    #[track_caller]
    pub(super) fn recording_fires<const N: usize>(
        &self,
        id: &str,
        charge: Charge,
        expected: [&str; N],
    ) -> &Self {
        let crossed = self.try_record(id, None, charge, None).expect("a record is never refused");
        assert_eq!(in_words(&crossed), expected);
        self
    }
}

pub(super) fn is_replayed(decision: &Decision) -> bool {
    decision.allowed().is_some_and(limiter_core::Allowed::replayed)
}

/// An admission that was not one before.
pub(super) fn is_new(decision: &Decision) -> bool {
    decision.is_allowed() && !is_replayed(decision)
}
