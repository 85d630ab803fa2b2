//! The server: the steps of the core on a real state and ledger. Bugs can be planted around them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use limiter_core::reservation::{cancel, check_once, extend, reserve, settle};
use limiter_core::{
    AssetId, CREDITS, Charge, Credits, Crossing, Decision, KeyConfig, KeyId, KeyKind, KeyState,
    Ledger, LedgerBounds, Limits, RequestId, ReservationError, Rule, Scope, ScopeState, Settled,
    Thresholds, Timestamp, TokenType, Totals, Unit, Window,
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

/// The counts of all possible rules, and the credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) rules: [u64; Rule::ALL.len()],
    pub(crate) credits: u64,
}

/// One of the [`THRESHOLDS`] of a rule, or of the budget.
pub(crate) type Threshold = (Option<Rule>, u8);

impl Server {
    pub(crate) fn new(now: Timestamp) -> Self {
        let key = KeyState::new(KeyKind::Member, &config(false), now);
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
        let asset = plan.asset.then(asset);
        let cost = plan.cost_after(request);
        let (answer, crossed) = match request {
            Request::Check => {
                let asset = asset.as_ref();
                decided(check_once(&mut key, &mut ledger, &bounds, &name(), asset, &cost, id, now))
            }
            Request::Reserve => decided(reserve(
                &mut key,
                &mut ledger,
                &bounds,
                &name(),
                asset.as_ref(),
                &cost,
                id,
                TTL,
                now,
            )),
            Request::Extend => {
                decided(extend(&mut key, &mut ledger, &name(), id, &totals(&cost), now))
            }
            Request::Settle(_) => {
                ended(settle(&mut key, &mut ledger, &bounds, id, &totals(&cost), now))
            }
            Request::Cancel => ended(cancel(&mut key, &mut ledger, &bounds, id, now)),
        };
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
        key.configure(&config(true), now).unwrap();
        Self::of(key, self.ledger.clone())
    }

    /// Returns the counts of the current windows.
    pub(crate) fn counts(&self, now: Timestamp) -> Counts {
        let global = self.key.global().and_then(|scope| scope.at(now));
        let asset = self.key.assets().next().and_then(|(_, scope)| scope.at(now));
        let used = |rule: Rule| {
            let scope = if rule.scope == Scope::Global { &global } else { &asset };
            let counts =
                scope.as_ref().expect("limits are lowered, never cleared").counts(rule.window);
            if rule.unit == Unit::Requests {
                counts.requests().used()
            } else {
                counts.tokens().used()
            }
        };
        Counts { rules: Rule::ALL.map(used), credits: self.key.credits().spent.millionths() }
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
        let surplus =
            |token_type| estimate.tokens(token_type).saturating_sub(actual.tokens(token_type));
        let refunded = |scope: &ScopeState| {
            let scope = scope.at(now).expect("limits are lowered, never cleared");
            let record = scope.record();
            let mut values = *record.values();
            for (window, meter) in Window::ALL.into_iter().zip([1, 3]) {
                let counts = scope.counts(window);
                let less = counts.tokens().used().min(surplus(counts.token_type()));
                values[meter] += less.cast_signed();
            }
            (scope, values)
        };
        let rebuilt = |scope: &ScopeState, values, marks| {
            let record = scope.record();
            let spans = Window::ALL.map(|window| record.span(window));
            let record = record.with_stored(record.generation(), spans, values, marks).unwrap();
            ScopeState::from_parts(record, Window::ALL.map(|window| scope.pending(window))).unwrap()
        };
        let (scope, mut values) = refunded(self.key.global_scope());
        let mut marks = *scope.record().marks();
        // Credits have no windows.
        let settled = after.global_scope().record();
        (values[CREDITS], marks[CREDITS]) = (settled.values()[CREDITS], settled.marks()[CREDITS]);
        let global = rebuilt(&scope, values, marks);
        let assets = self.key.assets().map(|(id, asset)| {
            let (scope, values) = refunded(asset);
            (id.clone(), rebuilt(&scope, values, *scope.record().marks()))
        });
        let generations = self.key.generations();
        KeyState::from_parts(KeyKind::Member, None, false, generations, global, assets).unwrap()
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
    match (rule.scope, rule.window, rule.unit) {
        (Scope::Global, Window::Minute, Unit::Tokens) => Some(if lowered { 4 } else { 6 }),
        (Scope::Global, Window::Day, Unit::Requests) => Some(3),
        (Scope::Asset, Window::Minute, Unit::Requests) => Some(2),
        (Scope::Asset, Window::Day, Unit::Tokens) => Some(if lowered { 3 } else { 5 }),
        _ => None,
    }
}

/// Returns the tokens that a rule counts: all of them in a window without a token limit.
pub(crate) fn token_type(rule: Rule) -> TokenType {
    match (rule.scope, rule.window) {
        (Scope::Asset, Window::Day) => TokenType::Output,
        _ => TokenType::Total,
    }
}

fn config(lowered: bool) -> KeyConfig {
    let limits = |scope| {
        let limit = |window, unit| limit(Rule { scope, window, unit }, lowered);
        Limits::builder()
            .requests_per_minute(limit(Window::Minute, Unit::Requests))
            .requests_per_day(limit(Window::Day, Unit::Requests))
            .tokens_per_minute(limit(Window::Minute, Unit::Tokens))
            .tokens_per_day(limit(Window::Day, Unit::Tokens))
            .token_type(token_type(Rule { scope, window: Window::Day, unit: Unit::Tokens }))
            .build()
            .unwrap()
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
        if let Value::Object(fields) = saved {
            if let Some(mark) = fields.get_mut("mark") {
                *mark = 0.into();
            }
            fields.values_mut().for_each(forget);
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
