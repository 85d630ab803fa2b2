//! What is remembered of a key's calls by their ids.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::names::{AssetId, RequestId};
use crate::remembered::Remembered;
use crate::saved::required;
use crate::settlement::AdmittingWindows;

/// The memory of a key's calls: reservations until their ttl, ids of checks until their dedupe time, and ids of records
/// for as long as each record asked for.
///
/// Each kind has a bound of its own, so that one never crowds out another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(crate) reservations: Remembered<Reservation>,
    pub(crate) checks: Remembered<()>,
    pub(crate) records: Remembered<()>,
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
        let reservations = ledger.reservations.unordered();
        let ids = |remembered: &Remembered<()>| {
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
            ledger.reservations.insert(id, until, reservation);
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

/// How much a ledger may remember of each kind, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerBounds {
    /// The most reservations (open or settled), the most ids of checks, and the most ids of records.
    pub most: usize,
    /// How long the id of a check is remembered, and the id of a record after another one confirms it.
    pub dedupe: Duration,
}

/// The identity of a record, so that it counts once, however often it is repeated: see
/// [`ReservationStore::record`](crate::ReservationStore::record).
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
        Self { most: MOST, dedupe: Duration::from_secs(120) }
    }
}

/// A call that was charged by its estimate, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    #[serde(deserialize_with = "required")]
    pub(crate) asset: Option<AssetId>,
    /// As it was reserved, to recognise a repetition.
    pub(crate) reserved: Charge,
    /// As it stands after extensions.
    pub(crate) estimate: Charge,
    pub(crate) admitted: AdmittingWindows,
    #[serde(deserialize_with = "required")]
    pub(crate) end: Option<ReservationEnd>,
}

/// How a reservation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationEnd {
    /// With what the call did cost.
    Settled(Charge),
    /// The call never went upstream.
    Cancelled,
}

impl Reservation {
    /// A reservation as a store kept it elsewhere, without the windows that admitted it: enough to judge what is asked
    /// of it. A settlement of it would count as one in other windows.
    #[must_use]
    pub const fn without_windows(
        asset: Option<AssetId>,
        reserved: Charge,
        estimate: Charge,
        end: Option<ReservationEnd>,
    ) -> Self {
        Self { asset, reserved, estimate, admitted: AdmittingWindows::NONE, end }
    }

    /// The asset of the call.
    #[must_use]
    pub const fn asset(&self) -> Option<&AssetId> {
        self.asset.as_ref()
    }

    /// The estimate that it was reserved with.
    #[must_use]
    pub const fn reserved(&self) -> &Charge {
        &self.reserved
    }

    /// The estimate as it stands after extensions.
    #[must_use]
    pub const fn estimate(&self) -> &Charge {
        &self.estimate
    }

    /// How it has ended, if it has.
    #[must_use]
    pub const fn end(&self) -> Option<ReservationEnd> {
        self.end
    }
}

impl Ledger {
    /// How many reservations and how many ids of checks are remembered, as far as they have been looked at.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.reservations.len(), self.checks.len())
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reservations.is_empty() && self.checks.is_empty() && self.records.is_empty()
    }

    /// Forgets what has passed at `now`, and gives its memory back. The steps on a ledger do so for what they look at.
    pub fn forget_until(&mut self, now: Timestamp) {
        self.reservations.forget_until(now);
        self.checks.forget_until(now);
        self.records.forget_until(now);
    }

    /// The reservation of this id, if it is remembered.
    #[must_use]
    pub fn reservation(&self, id: &RequestId) -> Option<&Reservation> {
        self.reservations.peek(id)
    }

    /// Forgets an ended reservation after the dedupe time, if its ttl passes later. It suits a process that keeps
    /// reservations for a while: repetitions of an end come soon.
    pub fn forget_ended(&mut self, id: &RequestId, now: Timestamp, bounds: &LedgerBounds) {
        if self.reservation(id).is_some_and(|reservation| reservation.end.is_some()) {
            self.reservations.forget_sooner(id, now.after(bounds.dedupe));
        }
    }

    /// Remembers a reservation until a time, as a store that keeps it elsewhere does.
    pub fn remember_reservation(
        &mut self,
        id: RequestId,
        until: Timestamp,
        reservation: Reservation,
    ) {
        self.reservations.insert(id, until, reservation);
    }

    /// Remembers the id of a check until a time, as a store that keeps it elsewhere does.
    pub fn remember_check(&mut self, id: RequestId, until: Timestamp) {
        self.checks.insert(id, until, ());
    }

    /// Remembers the id of a record until a time, for a store that keeps the id elsewhere.
    pub fn remember_record(&mut self, id: RequestId, until: Timestamp) {
        self.records.insert(id, until, ());
    }

    /// The reservations and until when each is remembered, by that time.
    pub fn reservations(&self) -> impl Iterator<Item = (&RequestId, Timestamp, &Reservation)> {
        self.reservations.iter()
    }

    /// The ids of checks and until when each is remembered, by that time.
    pub fn checks(&self) -> impl Iterator<Item = (&RequestId, Timestamp)> {
        self.checks.iter().map(|(id, until, ())| (id, until))
    }

    /// The ids of records, each with the time until which it is remembered, ordered by that time.
    pub fn records(&self) -> impl Iterator<Item = (&RequestId, Timestamp)> {
        self.records.iter().map(|(id, until, ())| (id, until))
    }
}

/// An ended reservation keeps its place until its ttl has passed: an hour by default. With this many places a
/// key can reserve 27 calls a second without end.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_being_saved() {
        let at = Timestamp::from_unix_ms;
        let reservation = |tokens| {
            let charge = Charge::request().with_tokens(tokens, 0).unwrap();
            Reservation::without_windows(None, charge, charge, None)
        };
        let mut ledger = Ledger::default();
        ledger.remember_reservation("b".parse().unwrap(), at(20), reservation(2));
        ledger.remember_reservation("a".parse().unwrap(), at(30), reservation(1));
        ledger.remember_check("c".parse().unwrap(), at(10));
        ledger.remember_record("d".parse().unwrap(), at(15));
        let json = serde_json::to_string(&SavedLedger::from(&ledger)).unwrap();
        let read: SavedLedger = serde_json::from_str(&json).unwrap();
        assert_eq!(Ledger::from(read), ledger);
    }
}
