//! One key that this process decides for without the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    Allowed, AssetId, Charge, Decision, Effective, KeyConfig, KeyRecord, KeyState, Ledger,
    LedgerBounds, RequestId, ReservationError, Settled, Thresholds, Timestamp, Totals, Unpaid,
    Usage, evaluate, reservation,
};

use crate::debt::{Debt, Moment};
use crate::share::Share;

/// The last known state of a key.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) record: KeyRecord,
    pub(crate) usage: Usage,
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
    /// By asset. Assets that are not counted share `None`, or [`Self::other`] if the store counts them together.
    debts: BTreeMap<Option<AssetId>, Debt>,
    /// An asset that is not listed, in whose name the calls of all such assets are paid.
    other: Option<AssetId>,
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
        let (kind, in_force) = (learned.record.kind, share.in_force(learned, None, now));
        let mut here = Self {
            share,
            learned: Arc::clone(learned),
            state: KeyState::new(kind, &in_force, Thresholds::NONE, now),
            ledger: Ledger::default(),
            bounds,
            full: None,
            debts: BTreeMap::new(),
            other: None,
        };
        here.configure(&share.configured(learned, None), Effective::Next, now);
        here
    }

    /// Takes over a newer state of the key. Its local windows and counts stay.
    pub(crate) fn learn(&mut self, learned: &Arc<Learned>, now: Timestamp) {
        if Arc::ptr_eq(&self.learned, learned) {
            return;
        }
        self.learned = Arc::clone(learned);
        let used = Usage::of(&self.state, now);
        let in_force = self.share.in_force(learned, Some(&used), now);
        self.configure(&in_force, Effective::Now, now);
        self.configure(&self.share.configured(learned, Some(&used)), Effective::Next, now);
    }

    fn configure(&mut self, config: &KeyConfig, effective: Effective, now: Timestamp) {
        // This cannot fail: a record has no more assets than a key may have.
        let _ = self.state.configure(config, Thresholds::NONE, effective, now);
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

    pub(crate) fn amend(
        &mut self,
        id: &RequestId,
        to: &Totals,
        now: Timestamp,
    ) -> Result<Decision, ReservationError> {
        let before = self.open(id);
        let Self { state, ledger, learned, .. } = self;
        let decision = reservation::amend(state, ledger, &learned.record.id, id, to, now)?;
        let after = self.ledger.reservation(id).map(|reservation| *reservation.estimate());
        if let (Some((asset, estimate)), Some(amended)) = (before, after) {
            self.correct(asset, &estimate, &amended);
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
        let asset = match asset {
            Some(asset) if !self.debts.contains_key(&Some(asset.clone())) => self.other.clone(),
            asset => asset,
        };
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
            let payee = self.payee(asset);
            self.debts.entry(payee).or_default().add(charge);
        }
    }

    /// Returns the asset in whose name a call is paid. All assets that are not counted have one, or made-up names would
    /// fill memory.
    fn payee(&mut self, asset: Option<&AssetId>) -> Option<AssetId> {
        let asset = asset?;
        let is_counted = |asset: &AssetId| self.state.assets().any(|(id, _, _)| id == asset);
        if is_counted(asset) {
            return Some(asset.clone());
        }
        self.state.other()?;
        if self.other.as_ref().is_none_or(is_counted) {
            self.other = Some(asset.clone());
        }
        self.other.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use limiter_conformance::fixtures::{NOON, asset, input_and_output, request_id, tokens};
    use limiter_core::{KeyConfig, KeyKind, Limits, Other, StoredKey};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Every kind of limit: other assets, input tokens of a month, and what is limited for ever.
    const CONFIG: &str = r#"{
        "name": "ci",
        "global": {"requests_per_hour": 9, "input_tokens_per_month": 30, "tokens_ever": 60},
        "assets": {"gpt-5": {"output_tokens_per_week": 12, "requests_ever": 6}},
        "other": {"requests_per_day": 6},
        "budget": "0.000090"
    }"#;

    struct Store {
        key: StoredKey,
        state: KeyState,
    }

    impl Store {
        fn of(config: &KeyConfig) -> Self {
            let state = KeyState::new(KeyKind::Member, config, Thresholds::DEFAULT, NOON);
            let (id, workspace) = ("ci".parse().unwrap(), "home".parse().unwrap());
            let name = config.name.clone();
            Self { key: StoredKey { id, workspace, name, secret: None, version: 1 }, state }
        }

        fn update(&mut self, config: &KeyConfig, effective: Effective) {
            self.state.configure(config, Thresholds::DEFAULT, effective, NOON).unwrap();
        }

        fn learned(&self) -> Arc<Learned> {
            let record = KeyRecord::of(&self.key, &self.state, NOON);
            Arc::new(Learned { record, usage: Usage::of(&self.state, NOON) })
        }

        /// A process with a third of each limit.
        fn here(&self) -> Here {
            let share = Share::one_in(NonZeroU32::new(3).unwrap());
            Here::new(share, &self.learned(), LedgerBounds::default(), NOON)
        }
    }

    fn config() -> KeyConfig {
        serde_json::from_str(CONFIG).unwrap()
    }

    /// The limits in force here, as `scope/window/unit limit`.
    fn limits(here: &Here, now: Timestamp) -> Vec<String> {
        let usage = Usage::of(&here.state, now);
        let rules = usage.scopes.iter().flat_map(|scope| &scope.rules);
        rules.map(|state| format!("{} {}", state.rule, state.limit)).collect()
    }

    #[test]
    fn every_limit_has_a_share() {
        let here = Store::of(&config()).here();
        assert_eq!(
            limits(&here, NOON),
            [
                "global/hour/requests 3",
                "global/month/input_tokens 10",
                "global/ever/tokens 20",
                "global/ever/credits 30",
                "asset/week/output_tokens 4",
                "asset/ever/requests 2",
                "other/day/requests 2",
            ]
        );
    }

    #[test]
    fn of_a_limit_for_ever_what_is_left_is_shared_again() {
        let mut store = Store::of(&config());
        let mut here = store.here();
        let gpt5 = asset("gpt-5");
        assert!(here.check(Some(&gpt5), &tokens(2, 3), NOON).is_charged());
        // The store has counted that call, and three of others.
        for _ in 0..4 {
            let (key, located) = (store.key.id.clone(), store.state.locate(Some(&gpt5)));
            let charge = tokens(2, 1);
            assert!(evaluate::charge(&mut store.state, &key, located, &charge, NOON).is_charged());
        }
        here.learn(&store.learned(), NOON);
        let limits = limits(&here, NOON);
        assert!(limits.contains(&"global/ever/tokens 21".into()), "5 + 48 / 3: {limits:?}");
        assert!(limits.contains(&"asset/ever/requests 1".into()), "1 + 2 / 3: {limits:?}");
        assert!(limits.contains(&"global/hour/requests 3".into()), "as before: {limits:?}");
    }

    #[test]
    fn a_change_at_once_holds_here_when_it_is_known_and_any_other_with_the_next_window() {
        let mut store = Store::of(&config());
        let mut here = store.here();
        let fewer = config().with_other(Other::Denied);
        let fewer = fewer.with_global(Limits::builder().requests_per_hour(6).build().unwrap());
        store.update(&fewer, Effective::Next);
        here.learn(&store.learned(), NOON);
        assert!(limits(&here, NOON).contains(&"global/hour/requests 3".into()));
        assert!(limits(&here, NOON.after(HOUR)).contains(&"global/hour/requests 2".into()));
        assert!(!here.check(Some(&asset("other")), &Charge::request(), NOON).is_allowed());
        store.update(&fewer, Effective::Now);
        here.learn(&store.learned(), NOON);
        assert!(limits(&here, NOON).contains(&"global/hour/requests 2".into()));
    }

    #[test]
    fn calls_of_other_assets_are_paid_together_in_the_name_of_one_of_them() {
        let mut here = Store::of(&config()).here();
        for name in ["a", "b", "c"] {
            let decision = here.check(Some(&asset(name)), &Charge::request(), NOON);
            assert_eq!(decision.is_charged(), name != "c", "a third of 6 is 2");
        }
        let now = Moment::now();
        assert_eq!(here.due(now, false), [Some(asset("a"))]);
        let debt = here.debt(&Some(asset("a"))).unwrap();
        assert_eq!(debt.unpaid().map(|charge| charge.requests()).sum::<u64>(), 2);
    }

    #[test]
    fn an_amendment_corrects_the_debt_both_ways() {
        let mut here = Store::of(&config()).here();
        let (other, id) = (asset("other"), request_id("r"));
        assert!(here.check(Some(&asset("a")), &Charge::request(), NOON).is_charged());
        let reserved = here.reserve(Some(&other), &tokens(1, 9), &id, HOUR, NOON);
        assert!(reserved.is_ok_and(|decision| decision.is_charged()));
        for (input, output) in [(1, 29), (2, 1)] {
            let amended = here.amend(&id, &input_and_output(input, output), NOON);
            assert!(amended.is_ok_and(|decision| decision.is_charged() == (output == 1)));
        }
        let debt = here.debt(&Some(asset("a"))).unwrap();
        assert_eq!(debt.unpaid().collect::<Vec<_>>(), [tokens(2, 1).with_requests(2).unwrap()]);
        let ended = here.end(&id, None, NOON);
        assert_eq!(ended.unwrap().charge, Some(Charge::NOTHING));
        let debt = here.debt(&Some(asset("a"))).unwrap();
        assert_eq!(debt.unpaid().collect::<Vec<_>>(), [Charge::request()]);
    }
}
