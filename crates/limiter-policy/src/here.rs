//! One key that this process decides for without the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    Allowed, AssetId, Charge, Credits, Decision, KeyRecord, KeyState, Ledger, LedgerBounds,
    RequestId, ReservationError, Settled, Timestamp, Totals, Unpaid, evaluate, reservation,
};

use crate::debt::{Debt, Moment};
use crate::share::Share;

/// The last known state of a key.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) record: KeyRecord,
    /// The rest of its budget.
    pub(crate) left: Option<Credits>,
}

/// A key by the rules of the core, with a share of each of its limits.
#[derive(Debug)]
pub(crate) struct Here {
    share: Share,
    learned: Arc<Learned>,
    state: KeyState,
    ledger: Ledger,
    bounds: LedgerBounds,
    /// The bound over all keys, while it is reached.
    full: Option<Full>,
    /// By asset; assets without limits share `None`.
    debts: BTreeMap<Option<AssetId>, Debt>,
}

/// The reached bound over all keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    /// The most calls that are remembered.
    pub(crate) most: usize,
    /// The first instant at which one of them is forgotten.
    pub(crate) retry_at: Timestamp,
}

impl Here {
    pub(crate) fn new(
        share: Share,
        learned: &Arc<Learned>,
        bounds: LedgerBounds,
        now: Timestamp,
    ) -> Self {
        let Learned { record, left } = &**learned;
        let mut state = KeyState::new(record.kind, &share.in_force(record, *left, now), now);
        // This cannot fail: a record has no more assets than a key may have.
        let _ = state.configure(&share.configured(record, *left), now);
        Self {
            share,
            learned: Arc::clone(learned),
            state,
            ledger: Ledger::default(),
            bounds,
            full: None,
            debts: BTreeMap::new(),
        }
    }

    /// Takes over a newer state of the key. Its local windows and counts stay.
    pub(crate) fn learn(&mut self, learned: &Arc<Learned>, now: Timestamp) {
        if Arc::ptr_eq(&self.learned, learned) {
            return;
        }
        self.learned = Arc::clone(learned);
        let mut config = self.share.configured(&learned.record, learned.left);
        // The credits spent here are in the store's counts by now, and the rest of the budget is shared again.
        let spent = self.state.credits().spent;
        config.budget = config.budget.map(|part| part + spent);
        let _ = self.state.configure(&config, now);
    }

    pub(crate) fn peek(
        &self,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        evaluate::peek(&self.state, &self.learned.record.id, self.state.locate(asset), charge, now)
    }

    pub(crate) fn check(
        &mut self,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        let Self { state, learned, .. } = self;
        let (key, located) = (&learned.record.id, state.locate(asset));
        let decision = evaluate::charge(state, key, located, charge, now);
        self.owe_if_charged(&decision, asset, charge);
        decision
    }

    pub(crate) fn check_once(
        &mut self,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
        now: Timestamp,
    ) -> Result<Decision, ReservationError> {
        let bounds = self.bounds_now();
        let Self { state, ledger, learned, .. } = self;
        let key = &learned.record.id;
        let decision = reservation::check_once(state, ledger, &bounds, key, asset, charge, id, now);
        let decision = decision.map_err(|error| self.explained(error))?;
        self.owe_if_charged(&decision, asset, charge);
        Ok(decision)
    }

    pub(crate) fn reserve(
        &mut self,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Decision, ReservationError> {
        let bounds = self.bounds_now();
        let Self { state, ledger, learned, .. } = self;
        let key = &learned.record.id;
        let decision =
            reservation::reserve(state, ledger, &bounds, key, asset, estimate, id, ttl, now);
        let decision = decision.map_err(|error| self.explained(error))?;
        self.owe_if_charged(&decision, asset, estimate);
        Ok(decision)
    }

    /// Returns whether a reservation with this id was made here and is still remembered.
    pub(crate) fn has_reserved(&self, id: &RequestId) -> bool {
        self.ledger.reservation(id).is_some()
    }

    /// Returns the number of calls that are remembered by their ids.
    pub(crate) fn remembered(&self) -> usize {
        let (reservations, checks) = self.ledger.len();
        reservations + checks
    }

    /// Returns the first instant at which a call is forgotten.
    pub(crate) fn first_forgotten_at(&self) -> Option<Timestamp> {
        self.ledger.first_forgotten_at()
    }

    /// Forgets the calls whose time has passed, and frees their memory.
    pub(crate) fn forget_until(&mut self, now: Timestamp) {
        self.ledger.forget_until(now);
    }

    /// Sets the bound over all keys, if it is reached; `None` clears it.
    pub(crate) const fn set_full(&mut self, full: Option<Full>) {
        self.full = full;
    }

    pub(crate) fn extend(
        &mut self,
        id: &RequestId,
        to: &Totals,
        now: Timestamp,
    ) -> Result<Decision, ReservationError> {
        let before = self.open(id);
        let Self { state, ledger, learned, .. } = self;
        let decision = reservation::extend(state, ledger, &learned.record.id, id, to, now)?;
        let after = self.ledger.reservation(id).map(|reservation| *reservation.estimate());
        if let (Some((asset, estimate)), Some(raised)) = (before, after) {
            self.correct(asset, &estimate, &raised);
        }
        Ok(decision)
    }

    /// Settles with the actual totals, or cancels without.
    pub(crate) fn end(
        &mut self,
        id: &RequestId,
        actual: Option<&Totals>,
        now: Timestamp,
    ) -> Result<Settled, ReservationError> {
        let before = self.open(id);
        let Self { state, ledger, bounds, .. } = self;
        let settled = match actual {
            Some(actual) => reservation::settle(state, ledger, bounds, id, actual, now)?,
            None => reservation::cancel(state, ledger, bounds, id, now)?,
        };
        if let Some((asset, estimate)) = before
            && let Some(cost) = &settled.charge
        {
            self.correct(asset, &estimate, cost);
        }
        // The store reports the thresholds when it is charged.
        Ok(settled.crossing(Vec::new()))
    }

    pub(crate) fn owes(&self) -> bool {
        self.debts.values().any(|debt| !debt.is_settled())
    }

    /// Adds the debts of this key, and returns whether it has any.
    pub(crate) fn add_unpaid(&self, unpaid: &mut Unpaid) -> bool {
        let mut owes = false;
        for charge in self.debts.values().flat_map(Debt::unpaid) {
            unpaid.add(&charge);
            owes = true;
        }
        owes
    }

    /// Returns the assets with a debt that is due; with `also_refused`, all assets with a debt.
    pub(crate) fn due(&self, now: Moment, also_refused: bool) -> Vec<Option<AssetId>> {
        let due = |debt: &Debt| {
            if also_refused { !debt.is_settled() } else { debt.is_due(now.steady) }
        };
        self.debts.iter().filter(|(_, debt)| due(debt)).map(|(asset, _)| asset.clone()).collect()
    }

    pub(crate) fn debt(&mut self, asset: &Option<AssetId>) -> Option<&mut Debt> {
        self.debts.get_mut(asset)
    }

    /// Returns the asset and the estimate of an open reservation.
    fn open(&self, id: &RequestId) -> Option<(Option<AssetId>, Charge)> {
        let reservation = self.ledger.reservation(id).filter(|known| known.end().is_none())?;
        Some((reservation.asset().cloned(), *reservation.estimate()))
    }

    /// Corrects the debt of a reservation from its estimate to its cost.
    fn correct(&mut self, asset: Option<AssetId>, estimate: &Charge, cost: &Charge) {
        // Uses the debt to which the estimate was added.
        let asset = asset.filter(|asset| self.debts.contains_key(&Some(asset.clone())));
        let debt = self.debts.entry(asset).or_default();
        debt.take_back(estimate);
        debt.add(cost);
    }

    /// Returns the bounds: zero while the bound over all keys is reached.
    const fn bounds_now(&self) -> LedgerBounds {
        match self.full {
            Some(_) => LedgerBounds { dedupe: self.bounds.dedupe, ..LedgerBounds::of_each(0) },
            None => self.bounds,
        }
    }

    fn explained(&self, error: ReservationError) -> ReservationError {
        match (error, self.full) {
            (ReservationError::TooMany { at, .. }, Some(Full { most, retry_at })) => {
                let what = "calls of an outage, of all keys,";
                ReservationError::TooMany { what, most, at, retry_at }
            }
            (error, _) => error,
        }
    }

    fn owe_if_charged(&mut self, decision: &Decision, asset: Option<&AssetId>, charge: &Charge) {
        let replayed = decision.allowed().is_some_and(Allowed::replayed);
        if decision.is_charged() && !replayed {
            // All assets without limits count as one, or made-up names would fill memory.
            let asset = self.state.assets().map(|(id, _)| id).find(|id| Some(*id) == asset);
            self.debts.entry(asset.cloned()).or_default().add(charge);
        }
    }
}
