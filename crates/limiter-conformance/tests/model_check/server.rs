//! The server: the steps of the core on a real state and ledger. Bugs can be planted around them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use limiter_core::reservation::{amend, cancel, check_once, reserve, settle};
use limiter_core::{
    AssetId, Charge, Credits, Crossing, Decision, Effective, KeyConfig, KeyId, KeyKind, KeyState,
    Ledger, LedgerBounds, LevelsMut, Limits, RequestId, ReservationError, Rule, Scope, ScopeId,
    Settled, Thresholds, Timestamp, Totals, Unit, Usage, Window,
};
use serde_json::Value;

use crate::callers::{Answer, Plan, Request};

/// A key and its ledger.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    key: KeyState,
    ledger: Ledger,
    /// A hash of both in their saved form. The checker, too, identifies states by 64 bits.
    fingerprint: u64,
}

/// A planted bug of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A surplus is taken off the current windows, even if others admitted the call.
    RefundsTheWindowOfNow,
    /// The counts are corrected, but the end of the reservation is not saved.
    ForgetsThatItSettled,
    /// A correction of the counts drops the fired thresholds.
    ForgetsWhatFired,
}

/// What is counted: the limits of the key, and of the accounts of the day what has no limit.
pub(crate) const COUNTED: [Rule; 6] = [
    Rule::of(Scope::Global, Window::Minute, Unit::Tokens),
    Rule::of(Scope::Global, Window::Day, Unit::Requests),
    Rule::of(Scope::Global, Window::Day, Unit::Tokens),
    Rule::of(Scope::Asset, Window::Minute, Unit::Requests),
    Rule::of(Scope::Asset, Window::Day, Unit::Requests),
    Rule::of(Scope::Asset, Window::Day, Unit::OutputTokens),
];

/// The counts of [`COUNTED`], and the credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) rules: [u64; COUNTED.len()],
    pub(crate) credits: u64,
}

/// One of the [`THRESHOLDS`] of a rule. The budget is one.
pub(crate) type Threshold = (Rule, u8);

impl Server {
    pub(crate) fn new(now: Timestamp) -> Self {
        let key = KeyState::new(KeyKind::Member, &config(false), Thresholds::DEFAULT, now);
        Self::of(key, Ledger::default())
    }

    /// Returns the server after a request, its answer, and the thresholds that fire.
    pub(crate) fn after(
        &self,
        request: Request,
        id: &RequestId,
        plan: &Plan,
        now: Timestamp,
        bug: Option<Bug>,
    ) -> (Self, Answer, Vec<Threshold>) {
        let (mut key, mut ledger) = (self.key.clone(), self.ledger.clone());
        let bounds = LedgerBounds { dedupe: TTL, ..LedgerBounds::default() };
        let (name, asset) = (name(), plan.asset.then(asset));
        let cost = plan.cost_after(request);
        let mut of_key = LevelsMut::of_key(&name, asset.as_ref(), &mut key);
        let levels = &mut of_key;
        let (answer, crossed) = match request {
            Request::Check => decided(check_once(levels, &mut ledger, &bounds, &cost, id, now)),
            Request::Reserve => decided(reserve(levels, &mut ledger, &bounds, &cost, id, TTL, now)),
            Request::Amend => decided(amend(levels, &mut ledger, &bounds, id, &totals(&cost), now)),
            Request::Settle(_) => {
                ended(settle(levels, &mut ledger, &bounds, id, &totals(&cost), now))
            }
            Request::Cancel => ended(cancel(levels, &mut ledger, &bounds, id, now)),
        };
        drop(of_key);
        let corrected = answer == Answer::Done && ledger != self.ledger;
        match bug {
            Some(Bug::RefundsTheWindowOfNow) if corrected => {
                key = self.refunded(plan.estimate, cost, &key, now);
            }
            Some(Bug::ForgetsThatItSettled) if corrected => ledger = self.ledger.clone(),
            Some(Bug::ForgetsWhatFired) if corrected => key = with_nothing_fired(&key),
            _ => {}
        }
        // Most messages are repetitions.
        let unchanged = (&key, &ledger) == (&self.key, &self.ledger);
        let fired = crossed.iter().map(|crossing| (crossing.rule, crossing.percent)).collect();
        (if unchanged { self.clone() } else { Self::of(key, ledger) }, answer, fired)
    }

    /// Returns the server after an admin has lowered the limits.
    pub(crate) fn with_lower_limits(&self, now: Timestamp) -> Self {
        let mut key = self.key.clone();
        key.configure(&config(true), Thresholds::DEFAULT, Effective::Next, now).unwrap();
        Self::of(key, self.ledger.clone())
    }

    /// Returns the counts of the current windows.
    pub(crate) fn counts(&self, now: Timestamp) -> Counts {
        let usage = Usage::of(&self.key, now);
        let used = |rule: Rule| {
            let id =
                if rule.scope == Scope::Global { ScopeId::GLOBAL } else { ScopeId::asset(asset()) };
            let scope = usage.scope(&id).expect("the asset is listed");
            let limited = scope.rules.iter().find(|state| state.rule.measure == rule.measure);
            limited.map_or_else(|| scope.account.amount(rule.unit().unwrap()), |state| state.used)
        };
        Counts { rules: COUNTED.map(used), credits: self.key.credits().spent.millionths() }
    }

    fn of(key: KeyState, ledger: Ledger) -> Self {
        let mut hasher = DefaultHasher::new();
        let reservations: Vec<_> = ledger.reservations().collect();
        let checks: Vec<_> = ledger.checks().collect();
        serde_json::to_vec(&(&key, reservations, checks)).unwrap().hash(&mut hasher);
        Self { key, ledger, fingerprint: hasher.finish() }
    }

    /// Settles without regard to windows: the surplus is taken off the current counts.
    fn refunded(
        &self,
        estimate: Charge,
        actual: Charge,
        after: &KeyState,
        now: Timestamp,
    ) -> KeyState {
        let zone = self.key.time_zone();
        let assets = self
            .key
            .assets()
            .map(|(id, is_listed, scope)| (id.clone(), is_listed, scope.at(now, zone)));
        let global = self.key.global().at(now, zone);
        let moved = KeyState::from_parts(self.key.settings(), global, assets, None).unwrap();
        let mut saved = serde_json::to_value(&moved).unwrap();
        let settled = serde_json::to_value(after).unwrap();
        let surplus = |unit: &str| {
            let unit: Unit = unit.parse().unwrap();
            estimate.amount(unit).saturating_sub(actual.amount(unit))
        };
        let lower = |count: &mut Value, unit: &str| {
            let used = count.as_u64().unwrap();
            *count = (used - used.min(surplus(unit))).into();
        };
        for path in ["/global", "/assets/gpt-5/scope"] {
            let windows = saved.pointer_mut(&format!("{path}/windows")).unwrap();
            for (place, window) in windows.as_array_mut().unwrap().iter_mut().enumerate() {
                if window["window"] == "ever" {
                    // Credits are counted for ever.
                    *window = settled["global"]["windows"][place].clone();
                    continue;
                }
                for (place, unit) in [(1, "input_tokens"), (2, "output_tokens")] {
                    if let Some(count) = window["account"].get_mut(place) {
                        lower(count, unit);
                    }
                }
                for count in window["counts"].as_array_mut().unwrap() {
                    let unit = count["unit"].as_str().unwrap().to_owned();
                    if unit != "requests" {
                        lower(&mut count["used"], &unit);
                    }
                }
            }
        }
        serde_json::from_value(saved).unwrap()
    }
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.ledger) == (&other.key, &other.ledger)
    }
}

impl Eq for Server {}

impl Hash for Server {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

/// Returns the limit of a rule: the first one, or the one lowered by the admin.
pub(crate) fn limit(rule: Rule, lowered: bool) -> Option<u64> {
    match (rule.scope, rule.window()?, rule.unit()?) {
        (Scope::Global, Window::Minute, Unit::Tokens) => Some(if lowered { 4 } else { 6 }),
        (Scope::Global, Window::Day, Unit::Requests) => Some(3),
        (Scope::Asset, Window::Minute, Unit::Requests) => Some(2),
        (Scope::Asset, Window::Day, Unit::OutputTokens) => Some(if lowered { 3 } else { 5 }),
        _ => None,
    }
}

fn config(lowered: bool) -> KeyConfig {
    let limits = |scope| {
        let of_scope = COUNTED.into_iter().filter(|rule| rule.scope == scope);
        let limits = of_scope.fold(Limits::builder(), |limits, rule| {
            let (window, unit) = rule.window().zip(rule.unit()).unwrap();
            limits.limit(window, unit, limit(rule, lowered))
        });
        limits.build().unwrap()
    };
    KeyConfig::named("ci")
        .unwrap()
        .with_global(limits(Scope::Global))
        .with_asset(asset(), limits(Scope::Asset))
        .with_budget(Credits::from_millionths(BUDGET).unwrap())
        .with_thresholds(Thresholds::new(THRESHOLDS).unwrap())
}

/// Returns a copy of the state in which no threshold has fired.
fn with_nothing_fired(key: &KeyState) -> KeyState {
    fn forget(saved: &mut Value) {
        match saved {
            Value::Object(fields) => {
                if let Some(mark) = fields.get_mut("mark") {
                    *mark = 0.into();
                }
                fields.values_mut().for_each(forget);
            }
            Value::Array(items) => items.iter_mut().for_each(forget),
            _ => {}
        }
    }
    let mut saved = serde_json::to_value(key).unwrap();
    forget(&mut saved);
    serde_json::from_value(saved).unwrap()
}

fn name() -> KeyId {
    "k".parse().unwrap()
}

fn asset() -> AssetId {
    "gpt-5".parse().unwrap()
}

fn totals(cost: &Charge) -> Totals {
    let totals = Totals::unchanged().with_input_tokens(cost.input_tokens()).unwrap();
    totals.with_output_tokens(cost.output_tokens()).unwrap().with_credits(cost.credits())
}

fn decided(decision: Result<Decision, ReservationError>) -> (Answer, Vec<Crossing>) {
    match decision {
        Ok(Decision::Allowed(allowed)) => {
            let answer = if allowed.replayed() { Answer::Replayed } else { Answer::Allowed };
            (answer, allowed.crossed().to_vec())
        }
        Ok(Decision::Denied(_)) => (Answer::Denied, Vec::new()),
        Err(_) => (Answer::Refused, Vec::new()),
    }
}

fn ended(ended: Result<Settled, ReservationError>) -> (Answer, Vec<Crossing>) {
    match ended {
        Ok(settled) => (Answer::Done, settled.crossed),
        Err(_) => (Answer::Refused, Vec::new()),
    }
}

/// In percent.
pub(crate) const THRESHOLDS: [u8; 2] = [80, 100];

/// In millionths of a credit.
pub(crate) const BUDGET: u64 = 9;

/// The ttl of open reservations, of ended ones from their end, and of ids of checks: longer than one tick of the
/// clock.
pub(crate) const TTL: Duration = Duration::from_secs(75);
