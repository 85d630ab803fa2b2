//! One key, as far as this process goes on with it by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    Allowed, AssetId, Charge, Credits, Decision, KeyRecord, KeyState, Ledger, LedgerBounds,
    RequestId, ReservationError, Timestamp, Totals, evaluate, reservation,
};

use crate::debt::Debt;
use crate::share::Share;

/// What was last known of a key.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) record: KeyRecord,
    /// What was left of its budget.
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
    /// The calls that were reserved here.
    reserved: HashMap<RequestId, Reserved>,
    /// By asset, as far as the asset has limits.
    debts: BTreeMap<Option<AssetId>, Debt>,
}

#[derive(Debug)]
struct Reserved {
    asset: Option<AssetId>,
    estimate: Charge,
    until: Timestamp,
    ended: bool,
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
        // It fits: a record has no more assets than a key may have.
        let _ = state.configure(&share.configured(record, *left), now);
        Self {
            share,
            learned: Arc::clone(learned),
            state,
            ledger: Ledger::default(),
            bounds,
            reserved: HashMap::new(),
            debts: BTreeMap::new(),
        }
    }

    /// Goes on with what was learned since. Windows that are counted here go on.
    pub(crate) fn learn(&mut self, learned: &Arc<Learned>, now: Timestamp) {
        if Arc::ptr_eq(&self.learned, learned) {
            return;
        }
        self.learned = Arc::clone(learned);
        let mut config = self.share.configured(&learned.record, learned.left);
        // What was spent here is in the store's figures by now, and what is left is shared anew.
        let spent = self.state.credits().spent.millionths();
        config.budget = config.budget.map(|part| {
            Credits::from_millionths(part.millionths().saturating_add(spent))
                .unwrap_or(Credits::MAX)
        });
        let _ = self.state.configure(&config, now);
    }

    pub(crate) fn peek(
        &self,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        evaluate::peek(&self.state, self.state.locate(asset), charge, now)
    }

    pub(crate) fn check(
        &mut self,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        let located = self.state.locate(asset);
        let decision = evaluate::check_and_consume(&mut self.state, located, charge, now);
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
        let Self { state, ledger, bounds, .. } = self;
        let decision = reservation::check_once(state, ledger, bounds, asset, charge, id, now)?;
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
        let Self { state, ledger, bounds, .. } = self;
        let decision = reservation::reserve(state, ledger, bounds, asset, estimate, id, ttl, now)?;
        if self.owe_if_charged(&decision, asset, estimate) {
            // What the ledger has forgotten is of no use here; looking for it now and then is enough.
            if self.reserved.len() > 2 * self.ledger.len().0 {
                self.reserved.retain(|_, reserved| reserved.until > now);
            }
            let (asset, until) = (asset.cloned(), now.after(ttl));
            let reserved = Reserved { asset, estimate: *estimate, until, ended: false };
            self.reserved.insert(id.clone(), reserved);
        }
        Ok(decision)
    }

    pub(crate) fn has_reserved(&self, id: &RequestId) -> bool {
        self.reserved.contains_key(id)
    }

    pub(crate) fn extend(
        &mut self,
        id: &RequestId,
        to: &Totals,
        now: Timestamp,
    ) -> Result<Decision, ReservationError> {
        let decision = reservation::extend(&mut self.state, &mut self.ledger, id, to, now)?;
        if decision.is_charged() {
            let raised = self.reserved.get(id).map(|reserved| to.applied_to(&reserved.estimate));
            self.correct(id, raised.transpose()?, false);
        }
        Ok(decision)
    }

    /// Settles with the actual totals, or cancels without.
    pub(crate) fn end(
        &mut self,
        id: &RequestId,
        actual: Option<&Totals>,
        now: Timestamp,
    ) -> Result<(), ReservationError> {
        let estimate = self.reserved.get(id).map(|reserved| reserved.estimate);
        let actual = match actual {
            Some(actual) => {
                reservation::settle(&mut self.state, &mut self.ledger, id, actual, now)?;
                estimate.map(|estimate| actual.applied_to(&estimate)).transpose()?
            }
            None => {
                reservation::cancel(&mut self.state, &mut self.ledger, id, now)?;
                Some(Charge::request().with_requests(0)?)
            }
        };
        self.correct(id, actual, true);
        Ok(())
    }

    pub(crate) fn owes(&self) -> bool {
        self.debts.values().any(|debt| !debt.is_settled())
    }

    /// A part of what is owed, to be told to the store.
    pub(crate) fn send(
        &mut self,
        new_id: impl FnOnce() -> Option<RequestId>,
    ) -> Option<(Option<AssetId>, RequestId, Charge)> {
        let (asset, debt) = self.debts.iter_mut().find(|(_, debt)| !debt.is_settled())?;
        debt.send(new_id).map(|(id, charge)| (asset.clone(), id, charge))
    }

    /// The store knows what was sent for this asset.
    pub(crate) fn confirm(&mut self, asset: &Option<AssetId>) {
        if let Some(debt) = self.debts.get_mut(asset) {
            debt.confirm();
        }
    }

    /// What was reserved costs something else than was owed so far.
    fn correct(&mut self, id: &RequestId, charge: Option<Charge>, ends: bool) {
        if let (Some(reserved), Some(charge)) = (self.reserved.get_mut(id), charge)
            && !reserved.ended
        {
            let debt = self.debts.entry(reserved.asset.clone()).or_default();
            debt.take_back(&reserved.estimate);
            debt.add(&charge);
            (reserved.estimate, reserved.ended) = (charge, ends);
        }
    }

    fn owe_if_charged(
        &mut self,
        decision: &Decision,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> bool {
        let replayed = decision.allowed().is_some_and(Allowed::replayed);
        let charged = decision.is_charged() && !replayed;
        if charged {
            // Made-up names of assets without limits are all one.
            let asset = self.state.assets().map(|(id, _)| id).find(|id| Some(*id) == asset);
            self.debts.entry(asset.cloned()).or_default().add(charge);
        }
        charged
    }
}
