//! The ledger of a key: its calls by their ids, each remembered for a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::names::{AssetId, RequestId};
use crate::parallel::Slots;
use crate::prepare::Admission;
use crate::remembered::Remembered;
use crate::reservation::ReservationError;

/// The memory of a key's calls. Open reservations are kept until their ttl, ended ones and ids of checks for the dedupe
/// time. Ids of records are kept for as long as each record asked for.
///
/// Each kind has a bound of its own, so that one never crowds out another: see [`LedgerBounds`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(crate) open: Remembered<RequestId, Reservation>,
    pub(crate) ended: Remembered<RequestId, Reservation>,
    pub(crate) checks: Remembered<RequestId, ()>,
    pub(crate) records: Remembered<RequestId, ()>,
}

/// The saved form of a [`Ledger`]: plain lists in any order, copied in a fraction of the time of a clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLedger {
    reservations: Vec<(RequestId, Timestamp, Reservation)>,
    checks: Vec<(RequestId, Timestamp)>,
    records: Vec<(RequestId, Timestamp)>,
}

impl From<&Ledger> for SavedLedger {
    fn from(ledger: &Ledger) -> Self {
        let reservations = ledger.open.unordered().chain(ledger.ended.unordered());
        let ids = |remembered: &Remembered<RequestId, ()>| {
            remembered.unordered().map(|(id, until, ())| (id.clone(), until)).collect()
        };
        Self {
            reservations: reservations
                .map(|(id, until, value)| (id.clone(), until, value.clone()))
                .collect(),
            checks: ids(&ledger.checks),
            records: ids(&ledger.records),
        }
    }
}

impl From<SavedLedger> for Ledger {
    fn from(saved: SavedLedger) -> Self {
        let mut ledger = Self::default();
        for (id, until, reservation) in saved.reservations {
            ledger.remember_reservation(id, until, reservation);
        }
        for (id, until) in saved.checks {
            ledger.checks.insert(id, until, ());
        }
        for (id, until) in saved.records {
            ledger.records.insert(id, until, ());
        }
        ledger
    }
}

/// The bounds of a ledger: the most entries of each kind, and how long they are remembered.
///
/// At a bound, a call that needs a free place is refused with [`ReservationError::TooMany`], which has the time at which
/// a place is free. Nothing is charged then, and nothing is forgotten before its time. Repeated calls need no place.
///
/// A reserve needs two places: one among the open reservations now, and one among the ended ones for its end. So it is
/// refused at either bound. Settle and cancel need no place and never fail for a bound, since a refund would be lost.
/// So when the ended reservations reach their bound, those still open may end and exceed it. Together, no more than
/// `open + ended` reservations are ever remembered.
///
/// ```
/// # mod limiter { pub use limiter_core::*; pub mod store { pub use limiter_core::*; } }
/// use limiter::store::LedgerBounds;
///
/// let bounds = LedgerBounds { ended: 500_000, ..LedgerBounds::default() };
/// assert_eq!(bounds.open, 100_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerBounds {
    /// The most open reservations: 100,000 by default. One that is never settled is open until its ttl.
    pub open: usize,
    /// The most ended reservations with which another call can be reserved: 100,000 by default, for 833 calls a
    /// second with the default dedupe time.
    pub ended: usize,
    /// The most ids of checks: 100,000 by default.
    pub checks: usize,
    /// The most ids of records: 100,000 by default.
    pub records: usize,
    /// The dedupe time, 120 s by default: for an ended reservation from its end, for the id of a check from its charge,
    /// and for the id of a record from its confirmation by another record.
    pub dedupe: Duration,
    /// How long a reservation holds its slots of parallel limits, from its start or its last amendment: 10 minutes by default,
    /// and never longer than its ttl. So the slots of a caller that crashed come back.
    pub slots: Duration,
}

impl LedgerBounds {
    /// Creates bounds with the same number for each kind, and the default times.
    #[must_use]
    pub const fn of_each(most: usize) -> Self {
        Self { open: most, ended: most, checks: most, records: most, dedupe: DEDUPE, slots: SLOTS }
    }
}

/// The identity of a record, so that it counts once, however often it is repeated: see
/// [`Store::record`](crate::Store::record).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId<'a> {
    /// The id. Ids of records never clash with those of checks and of reservations.
    pub id: &'a RequestId,
    /// How long the store remembers the id, from the step that counts the record.
    pub remembered_for: Duration,
    /// An earlier record that is certainly counted, and that the caller will not repeat. The store forgets its id after
    /// the dedupe time, so that a caller who records often does not fill the bound.
    pub confirms: Option<&'a RequestId>,
}

impl<'a> RecordId<'a> {
    /// Creates an id that is remembered for this long, and confirms no other record.
    #[must_use]
    pub const fn new(id: &'a RequestId, remembered_for: Duration) -> Self {
        Self { id, remembered_for, confirms: None }
    }
}

impl Default for LedgerBounds {
    fn default() -> Self {
        Self::of_each(MOST)
    }
}

/// A call that was charged by its estimate, and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    #[serde(deserialize_with = "Option::deserialize")]
    pub(crate) asset: Option<AssetId>,
    /// The estimate as it was reserved, to recognise a repetition.
    pub(crate) reserved: Charge,
    /// The estimate after amendments.
    pub(crate) estimate: Charge,
    pub(crate) admission: Admission,
    /// The slots that it holds, or held until they expired.
    pub(crate) slots: Slots,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(crate) end: Option<ReservationEnd>,
}

/// The end of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationEnd {
    /// Settled with the actual cost of the call.
    Settled(Charge),
    /// Cancelled, since the call never went upstream.
    Cancelled,
}

impl Reservation {
    /// Creates a reservation from its stored parts. The windows that admitted it do not matter if it has ended.
    #[must_use]
    pub const fn from_parts(
        asset: Option<AssetId>,
        reserved: Charge,
        estimate: Charge,
        admission: Admission,
        end: Option<ReservationEnd>,
    ) -> Self {
        Self { asset, reserved, estimate, admission, slots: Slots::NONE, end }
    }

    /// Sets the slots that it holds.
    #[must_use]
    pub fn with_slots(self, slots: Slots) -> Self {
        Self { slots, ..self }
    }

    /// Returns the slots that it holds, or held until they expired.
    #[must_use]
    pub const fn slots(&self) -> Slots {
        self.slots
    }

    /// Returns the asset of the call.
    #[must_use]
    pub const fn asset(&self) -> Option<&AssetId> {
        self.asset.as_ref()
    }

    /// Returns the estimate that it was reserved with.
    #[must_use]
    pub const fn reserved(&self) -> &Charge {
        &self.reserved
    }

    /// Returns the estimate as it stands after amendments.
    #[must_use]
    pub const fn estimate(&self) -> &Charge {
        &self.estimate
    }

    /// Returns the windows that admitted it.
    #[must_use]
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Returns its end, if it has ended.
    #[must_use]
    pub const fn end(&self) -> Option<ReservationEnd> {
        self.end
    }
}

impl Ledger {
    /// Returns the number of reservations and the number of ids of checks. Expired entries count until a step drops
    /// them.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.open.len().saturating_add(self.ended.len()), self.checks.len())
    }

    /// Returns whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self.ended.is_empty()
            && self.checks.is_empty()
            && self.records.is_empty()
    }

    /// Forgets expired entries at `now`, and releases their memory. Each step on a ledger does so for the kinds it
    /// reads.
    pub fn forget_until(&mut self, now: Timestamp) {
        self.open.forget_until(now);
        self.ended.forget_until(now);
        self.checks.forget_until(now);
        self.records.forget_until(now);
    }

    /// Returns the reservation of this id, if it is remembered.
    #[must_use]
    pub fn reservation(&self, id: &RequestId) -> Option<&Reservation> {
        self.open.peek(id).or_else(|| self.ended.peek(id))
    }

    /// Returns the first instant at which something is forgotten; `None` if nothing is remembered.
    #[must_use]
    pub fn first_forgotten_at(&self) -> Option<Timestamp> {
        let firsts =
            [self.open.first(), self.ended.first(), self.checks.first(), self.records.first()];
        firsts.into_iter().flatten().min()
    }

    /// Returns the first instant at which nothing is remembered any more; `None` if nothing is.
    #[must_use]
    pub fn last_forgotten_at(&self) -> Option<Timestamp> {
        let lasts = [self.open.last(), self.ended.last(), self.checks.last(), self.records.last()];
        lasts.into_iter().flatten().max()
    }

    /// Remembers an open or ended reservation until a time, for a store that keeps it elsewhere.
    pub fn remember_reservation(
        &mut self,
        id: RequestId,
        until: Timestamp,
        reservation: Reservation,
    ) {
        match reservation.end {
            None => self.open.insert(id, until, reservation),
            Some(_) => self.ended.insert(id, until, reservation),
        }
    }

    /// Remembers the id of a check until a time, as a store that keeps it elsewhere does.
    pub fn remember_check(&mut self, id: RequestId, until: Timestamp) {
        self.checks.insert(id, until, ());
    }

    /// Remembers the id of a record until a time, for a store that keeps the id elsewhere.
    pub fn remember_record(&mut self, id: RequestId, until: Timestamp) {
        self.records.insert(id, until, ());
    }

    /// Iterates over the open reservations, each with the end of its ttl, ordered by that time; then over the ended
    /// ones, each with the time until which it is remembered, ordered by that time.
    pub fn reservations(&self) -> impl Iterator<Item = (&RequestId, Timestamp, &Reservation)> {
        self.open.iter().chain(self.ended.iter())
    }

    pub(crate) fn reservation_at(
        &mut self,
        id: &RequestId,
        now: Timestamp,
    ) -> Option<&mut Reservation> {
        self.open.get(id, now).or_else(|| self.ended.get(id, now))
    }

    /// Moves an open reservation to the ended ones, for the dedupe time.
    pub(crate) fn end(
        &mut self,
        id: &RequestId,
        end: ReservationEnd,
        bounds: &LedgerBounds,
        now: Timestamp,
    ) {
        if let Some((id, reservation)) = self.open.remove(id) {
            let ended = Reservation { end: Some(end), slots: Slots::NONE, ..reservation };
            self.ended.insert(id, now.after(bounds.dedupe), ended);
        }
    }

    /// Returns the error if no call can be reserved at `now`.
    pub(crate) fn full_of_reservations(
        &mut self,
        bounds: &LedgerBounds,
        now: Timestamp,
    ) -> Option<ReservationError> {
        let open = too_many(&mut self.open, "open reservations of this key", bounds.open, now);
        let ended = too_many(&mut self.ended, "ended reservations of this key", bounds.ended, now);
        // There is room when both have a free place. Both are full only after the bounds were lowered.
        open.into_iter().chain(ended).max_by_key(ReservationError::retry_at)
    }

    /// Iterates over the ids of checks, each with the time until which it is remembered, ordered by that time.
    pub fn checks(&self) -> impl Iterator<Item = (&RequestId, Timestamp)> {
        self.checks.iter().map(|(id, until, ())| (id, until))
    }

    /// Iterates over the ids of records, each with the time until which it is remembered, ordered by that time.
    pub fn records(&self) -> impl Iterator<Item = (&RequestId, Timestamp)> {
        self.records.iter().map(|(id, until, ())| (id, until))
    }
}

/// Returns the error if there are `most` values at `now`, and no further one can be remembered.
pub(crate) fn too_many<T>(
    remembered: &mut Remembered<RequestId, T>,
    what: &'static str,
    most: usize,
    now: Timestamp,
) -> Option<ReservationError> {
    let retry_at = remembered.full_until(most, now)?;
    Some(ReservationError::TooMany { what, most, at: now, retry_at })
}

/// Enough to reserve and settle 833 calls a second without end. One key takes some 60 MB if all places are taken.
const MOST: usize = 100_000;
/// Most calls are over by then, and a stream amends its reservation long before.
const SLOTS: Duration = Duration::from_secs(600);
/// Clients that lost an answer repeat the call within seconds, or a minute or two if they back off.
const DEDUPE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_being_saved() {
        let at = Timestamp::from_unix_ms;
        let reservation = |tokens| {
            let charge = Charge::request().with_tokens(tokens, 0).unwrap();
            Reservation::from_parts(None, charge, charge, Admission::default(), None)
        };
        let mut ledger = Ledger::default();
        ledger.remember_reservation("b".parse().unwrap(), at(20), reservation(2));
        ledger.remember_reservation("a".parse().unwrap(), at(30), reservation(1));
        let ended = Reservation { end: Some(ReservationEnd::Cancelled), ..reservation(3) };
        ledger.remember_reservation("e".parse().unwrap(), at(25), ended);
        ledger.remember_check("c".parse().unwrap(), at(10));
        ledger.remember_record("d".parse().unwrap(), at(15));
        let json = serde_json::to_string(&SavedLedger::from(&ledger)).unwrap();
        let read: SavedLedger = serde_json::from_str(&json).unwrap();
        assert_eq!(Ledger::from(read), ledger);
    }
}
