//! The calls of one key that were decided here: those that are remembered by their ids, and the debts to the store.

use std::collections::BTreeMap;

use limiter_core::{AssetId, Charge, Ledger, RequestId, Timestamp, Unpaid};

use crate::debt::{Debt, Moment};
use crate::level::Level;

/// The calls of one key that were decided here. Its groups owe nothing by themselves: the store charges each payment of a
/// key to its groups too.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) ledger: Ledger,
    /// By asset. Assets that no level counts share `None`, or [`Self::other`] if a level counts them together.
    debts: BTreeMap<Option<AssetId>, Debt>,
    /// An asset that no level lists, in whose name the calls of all such assets are paid.
    other: Option<AssetId>,
}

impl Calls {
    /// Returns whether a reservation with this id was made here and is still remembered.
    pub(crate) fn has_reserved(&self, id: &RequestId) -> bool {
        self.ledger.reservation(id).is_some()
    }

    /// Returns the asset and the estimate of an open reservation.
    pub(crate) fn open(&self, id: &RequestId) -> Option<(Option<AssetId>, Charge)> {
        let reservation = self.ledger.reservation(id).filter(|known| known.end().is_none())?;
        Some((reservation.asset().cloned(), *reservation.estimate()))
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

    /// Adds a call that was charged to these levels.
    pub(crate) fn owe(&mut self, asset: Option<&AssetId>, charge: &Charge, levels: &[Box<Level>]) {
        let payee = self.payee(asset, levels);
        self.debts.entry(payee).or_default().add(charge);
    }

    /// Corrects the debt of a reservation from its estimate to its cost.
    pub(crate) fn correct(&mut self, asset: Option<AssetId>, estimate: &Charge, cost: &Charge) {
        // Uses the debt to which the estimate was added.
        let asset = match asset {
            Some(asset) if !self.debts.contains_key(&Some(asset.clone())) => self.other.clone(),
            asset => asset,
        };
        let debt = self.debts.entry(asset).or_default();
        debt.take_back(estimate);
        debt.add(cost);
    }

    /// Returns the asset in whose name a call is paid. All assets that are not counted have one, or made-up names would
    /// fill memory.
    fn payee(&mut self, asset: Option<&AssetId>, levels: &[Box<Level>]) -> Option<AssetId> {
        let asset = asset?;
        let is_counted = |asset: &AssetId| levels.iter().any(|level| level.counts(asset));
        if is_counted(asset) {
            return Some(asset.clone());
        }
        if !levels.iter().any(|level| level.counts_others()) {
            return None;
        }
        if self.other.as_ref().is_none_or(is_counted) {
            self.other = Some(asset.clone());
        }
        self.other.clone()
    }
}
