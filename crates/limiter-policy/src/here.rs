//! Decisions without the store: the calls of one key, which meet its groups and the key itself.

use std::time::Duration;

use limiter_core::{
    Allowed, AssetId, Charge, Decision, KeyId, LedgerBounds, Levels, LevelsMut, RequestId,
    ReservationError, Settled, Timestamp, Totals, evaluate, reservation,
};

use crate::calls::Calls;
use crate::level::Level;

/// A key that this process decides for, with its groups.
#[derive(Debug)]
pub(crate) struct Here<'a> {
    pub(crate) key: &'a KeyId,
    /// The groups of the key, the outermost first, and at last the key itself.
    pub(crate) levels: &'a mut [Box<Level>],
    pub(crate) calls: &'a mut Calls,
    pub(crate) bounds: LedgerBounds,
    /// The bound over all keys, if it is reached.
    pub(crate) full: Option<Full>,
}

/// The reached bound over all keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    /// The most calls that are remembered.
    pub(crate) most: usize,
    /// The first instant at which one of them is forgotten.
    pub(crate) retry_at: Timestamp,
}

impl Here<'_> {
    pub(crate) fn peek(
        &self,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        let states = self.levels.iter().map(|level| &level.state);
        evaluate::peek(&Levels::new(self.key, asset, states), charge, now)
    }

    pub(crate) fn check(
        &mut self,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        let decision =
            evaluate::charge_all(&mut levels_mut(self.key, asset, self.levels), charge, now);
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
        let decision = {
            let levels = &mut levels_mut(self.key, asset, self.levels);
            reservation::check_once(levels, &mut self.calls.ledger, &bounds, charge, id, now)
        };
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
        let decision = {
            let levels = &mut levels_mut(self.key, asset, self.levels);
            reservation::reserve(levels, &mut self.calls.ledger, &bounds, estimate, id, ttl, now)
        };
        let decision = decision.map_err(|error| self.explained(error))?;
        self.owe_if_charged(&decision, asset, estimate);
        Ok(decision)
    }

    pub(crate) fn amend(
        &mut self,
        id: &RequestId,
        to: &Totals,
        now: Timestamp,
    ) -> Result<Decision, ReservationError> {
        let before = self.calls.open(id);
        let mut levels = levels_mut(self.key, None, self.levels);
        let (ledger, bounds) = (&mut self.calls.ledger, &self.bounds);
        let decision = reservation::amend(&mut levels, ledger, bounds, id, to, now)?;
        if let (Some((asset, estimate)), Some((_, amended))) = (before, self.calls.open(id)) {
            self.calls.correct(asset, &estimate, &amended);
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
        let before = self.calls.open(id);
        let mut levels = levels_mut(self.key, None, self.levels);
        let (ledger, bounds) = (&mut self.calls.ledger, &self.bounds);
        let settled = match actual {
            Some(actual) => reservation::settle(&mut levels, ledger, bounds, id, actual, now)?,
            None => reservation::cancel(&mut levels, ledger, bounds, id, now)?,
        };
        if let Some((asset, estimate)) = before
            && let Some(cost) = &settled.charge
        {
            self.calls.correct(asset, &estimate, cost);
        }
        // The store reports the thresholds when it is charged.
        Ok(settled.crossing(Vec::new()))
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
            self.calls.owe(asset, charge, self.levels);
        }
    }
}

fn levels_mut<'a>(
    key: &'a KeyId,
    asset: Option<&'a AssetId>,
    levels: &'a mut [Box<Level>],
) -> LevelsMut<'a> {
    LevelsMut::new(key, asset, levels.iter_mut().map(|level| &mut level.state))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use limiter_conformance::fixtures::{NOON, asset, input_and_output, request_id, tokens};
    use limiter_core::{
        Effective, KeyConfig, KeyKind, KeyRecord, KeyState, Limits, NewRecord, Other, StoredKey,
        Thresholds, Usage,
    };

    use super::*;
    use crate::debt::Moment;
    use crate::level::Learned;
    use crate::share::Share;

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
            let new = NewRecord {
                id: "ci".parse().unwrap(),
                workspace: "home".parse().unwrap(),
                kind: KeyKind::Member,
                config: config.clone(),
                thresholds: Thresholds::DEFAULT,
                secret: None,
                bootstraps: false,
            };
            Self { key: StoredKey::new(&new, NOON), state }
        }

        fn update(&mut self, config: &KeyConfig, effective: Effective) {
            self.state.configure(config, Thresholds::DEFAULT, effective, NOON).unwrap();
        }

        fn learned(&self) -> Arc<Learned> {
            let record = KeyRecord::of(&self.key, &self.state, NOON);
            Arc::new(Learned::new(record, None, Usage::of(&self.state, NOON)))
        }

        fn process(&self) -> Process {
            let share = Share::one_in(NonZeroU32::new(3).unwrap());
            let level = Level::new(share, &self.learned(), NOON);
            let key = self.key.id.clone();
            Process { key, levels: [Box::new(level)], calls: Calls::default() }
        }
    }

    /// A process with a third of each limit of one key.
    struct Process {
        key: KeyId,
        levels: [Box<Level>; 1],
        calls: Calls,
    }

    impl Process {
        fn here(&mut self) -> Here<'_> {
            let Self { key, levels, calls } = self;
            Here { key, levels, calls, bounds: LedgerBounds::default(), full: None }
        }

        fn learn(&mut self, store: &Store) {
            self.levels[0].learn(&store.learned(), NOON);
        }
    }

    fn config() -> KeyConfig {
        serde_json::from_str(CONFIG).unwrap()
    }

    /// The limits in force here, as `scope/window/unit limit`.
    fn limits(process: &Process, now: Timestamp) -> Vec<String> {
        let usage = Usage::of(&process.levels[0].state, now);
        let rules = usage.scopes.iter().flat_map(|scope| &scope.rules);
        rules.map(|state| format!("{} {}", state.rule, state.limit)).collect()
    }

    #[test]
    fn every_limit_has_a_share() {
        let process = Store::of(&config()).process();
        assert_eq!(
            limits(&process, NOON),
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
    fn of_a_parallel_limit_at_least_one_slot_is_left() {
        for (limit, here) in [(9, 3), (2, 1), (1, 1), (0, 0)] {
            let parallel = Limits::builder().parallel(limit).build().unwrap();
            let config = KeyConfig::named("ci").unwrap().with_global(parallel.clone());
            let config = config.with_asset(asset("gpt-5"), parallel.clone()).with_other(parallel);
            let mut process = Store::of(&config).process();
            let of_all = ["global", "asset", "other"].map(|it| format!("{it}/parallel {here}"));
            assert_eq!(limits(&process, NOON), of_all);
            for number in 0..=here {
                let id = request_id(&number.to_string());
                let reserved = process.here().reserve(None, &tokens(1, 1), &id, HOUR, NOON);
                assert_eq!(reserved.is_ok_and(|it| it.is_allowed()), number < here);
            }
        }
    }

    #[test]
    fn of_a_limit_for_ever_what_is_left_is_shared_again() {
        let mut store = Store::of(&config());
        let mut process = store.process();
        let gpt5 = asset("gpt-5");
        assert!(process.here().check(Some(&gpt5), &tokens(2, 3), NOON).is_charged());
        // The store has counted that call, and three of others.
        for _ in 0..4 {
            let (key, located) = (store.key.id.clone(), store.state.locate(Some(&gpt5)));
            let charge = tokens(2, 1);
            assert!(evaluate::charge(&mut store.state, &key, located, &charge, NOON).is_charged());
        }
        process.learn(&store);
        let limits = limits(&process, NOON);
        assert!(limits.contains(&"global/ever/tokens 21".into()), "5 + 48 / 3: {limits:?}");
        assert!(limits.contains(&"asset/ever/requests 1".into()), "1 + 2 / 3: {limits:?}");
        assert!(limits.contains(&"global/hour/requests 3".into()), "as before: {limits:?}");
    }

    #[test]
    fn a_change_at_once_holds_here_when_it_is_known_and_any_other_with_the_next_window() {
        let mut store = Store::of(&config());
        let mut process = store.process();
        let fewer = config().with_other(Other::Denied);
        let fewer = fewer.with_global(Limits::builder().requests_per_hour(6).build().unwrap());
        store.update(&fewer, Effective::Next);
        process.learn(&store);
        assert!(limits(&process, NOON).contains(&"global/hour/requests 3".into()));
        assert!(limits(&process, NOON.after(HOUR)).contains(&"global/hour/requests 2".into()));
        assert!(
            !process.here().check(Some(&asset("other")), &Charge::request(), NOON).is_allowed()
        );
        store.update(&fewer, Effective::Now);
        process.learn(&store);
        assert!(limits(&process, NOON).contains(&"global/hour/requests 2".into()));
    }

    #[test]
    fn calls_of_other_assets_are_paid_together_in_the_name_of_one_of_them() {
        let mut process = Store::of(&config()).process();
        for name in ["a", "b", "c"] {
            let decision = process.here().check(Some(&asset(name)), &Charge::request(), NOON);
            assert_eq!(decision.is_charged(), name != "c", "a third of 6 is 2");
        }
        let now = Moment::now();
        assert_eq!(process.calls.due(now, false), [Some(asset("a"))]);
        let debt = process.calls.debt(&Some(asset("a"))).unwrap();
        assert_eq!(debt.unpaid().map(|charge| charge.requests()).sum::<u64>(), 2);
    }

    #[test]
    fn an_amendment_corrects_the_debt_both_ways() {
        let mut process = Store::of(&config()).process();
        let (other, id) = (asset("other"), request_id("r"));
        assert!(process.here().check(Some(&asset("a")), &Charge::request(), NOON).is_charged());
        let reserved = process.here().reserve(Some(&other), &tokens(1, 9), &id, HOUR, NOON);
        assert!(reserved.is_ok_and(|decision| decision.is_charged()));
        for (input, output) in [(1, 29), (2, 1)] {
            let amended = process.here().amend(&id, &input_and_output(input, output), NOON);
            assert!(amended.is_ok_and(|decision| decision.is_charged() == (output == 1)));
        }
        let debt = process.calls.debt(&Some(asset("a"))).unwrap();
        assert_eq!(debt.unpaid().collect::<Vec<_>>(), [tokens(2, 1).with_requests(2).unwrap()]);
        let ended = process.here().end(&id, None, NOON);
        assert_eq!(ended.unwrap().charge, Some(Charge::NOTHING));
        let debt = process.calls.debt(&Some(asset("a"))).unwrap();
        assert_eq!(debt.unpaid().collect::<Vec<_>>(), [Charge::request()]);
    }
}
