//! The metrics of this crate: names, labels, and the handles by which they are counted.

use std::sync::OnceLock;
use std::time::Instant;

use limiter_core::{KeyId, Measure, Rule, Scope, StoreError, Unit, Window};
use metrics::{
    Counter, Histogram, Label, counter, describe_counter, describe_histogram, histogram,
};

use super::outcome::{Binding, Ended, Outcome};
use super::{Call, Counted, Operation};

/// The handles of a limiter's metrics.
///
/// Those of an operation are registered at its first call and kept, so that a decision costs no look-up and no
/// allocation. A recorder that is installed later does not get them.
#[derive(Debug)]
pub(crate) struct Metrics {
    operations: [OnceLock<OfOperation>; Operation::ALL.len()],
    /// Of each rule that has denied a call, by the depth of its level.
    rules: [OnceLock<Counter>; RULES],
    timed: bool,
}

#[derive(Debug)]
struct OfOperation {
    /// Of each outcome; answered by the store, and without it.
    outcomes: [[Counter; 2]; Outcome::ALL.len()],
    seconds: Histogram,
}

impl Metrics {
    pub(crate) const fn new(timed: bool) -> Self {
        Self {
            operations: [const { OnceLock::new() }; Operation::ALL.len()],
            rules: [const { OnceLock::new() }; RULES],
            timed,
        }
    }

    pub(crate) fn begin(&self) -> Option<Instant> {
        self.timed.then(Instant::now)
    }

    /// Counts a call that has ended, with those of its names that are shown.
    pub(crate) fn ended(&self, call: &Call<'_>, ended: &Ended<'_>, began: Option<Instant>) {
        let operation = call.operation;
        let handles = self.operations[operation as usize]
            .get_or_init(|| OfOperation::register(operation, self.timed));
        if operation.decides() && call.is_named() {
            decision(call, ended.outcome, ended.degraded).increment(1);
        } else {
            handles.outcomes[ended.outcome as usize][usize::from(ended.degraded)].increment(1);
        }
        if let Some(binding) = ended.binding.filter(|_| operation.decides()) {
            self.rate_limited(binding, call);
        }
        if let Some(error) = ended.error {
            counter!(ERRORS, "operation" => operation.name(), "error" => error_name(error))
                .increment(1);
        } else if let Some(began) = began.filter(|_| !ended.degraded) {
            handles.seconds.record(began.elapsed());
        }
    }

    #[cold]
    fn rate_limited(&self, binding: Binding, call: &Call<'_>) {
        if !call.is_named() {
            let Binding { rule: Rule { scope, measure }, depth } = binding;
            let measure = match measure {
                Measure::Amount(window, unit) => window as usize * Unit::ALL.len() + unit as usize,
                Measure::Parallel => MEASURES - 1,
            };
            let place = (scope as usize * MEASURES + measure) * DEPTHS.len() + (depth - 1);
            let register = || rate_limited(binding, &Call::new(call.operation));
            self.rules[place].get_or_init(register).increment(1);
        } else {
            rate_limited(binding, call).increment(1);
        }
    }
}

impl OfOperation {
    fn register(operation: Operation, timed: bool) -> Self {
        describe();
        let counter = |outcome: Outcome, degraded| match outcome {
            Outcome::Done if operation.decides() => Counter::noop(),
            Outcome::Refused | Outcome::Error if degraded => Counter::noop(),
            _ if operation.decides() => decision(&Call::new(operation), outcome, degraded),
            Outcome::Done | Outcome::Refused | Outcome::Error if operation.settles() => {
                counter!(SETTLEMENTS, "operation" => operation.name(), "outcome" => outcome.name())
            }
            _ => Counter::noop(),
        };
        let seconds = if timed {
            histogram!(SECONDS, "operation" => operation.name())
        } else {
            Histogram::noop()
        };
        let outcomes =
            Outcome::ALL.map(|outcome| [counter(outcome, false), counter(outcome, true)]);
        Self { outcomes, seconds }
    }
}

pub(crate) fn count(counted: Counted, labels: &[(&'static str, &str)], by: u64) {
    let (name, text) = match counted {
        Counted::EventsFired => {
            (EVENTS_FIRED, "Threshold events, by threshold in percent of the limit")
        }
        Counted::EventsMissed => {
            (EVENTS_DROPPED, "Events that a slow subscriber missed, by kind of event")
        }
        #[cfg(feature = "stream")]
        Counted::Answers => {
            (ANSWERS, "Answers of providers, by API and by the source of their tokens")
        }
        Counted::CallbackPanics => {
            (CALLBACK_PANICS, "Panics in callbacks of the application, by callback")
        }
    };
    describe_counter!(name, text);
    let labels = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
    counter!(name, labels.collect::<Vec<_>>()).increment(by);
}

fn decision(call: &Call<'_>, outcome: Outcome, degraded: bool) -> Counter {
    let mut labels = call.labels();
    labels.extend([
        Label::from_static_parts("operation", call.operation.name()),
        Label::from_static_parts("outcome", outcome.name()),
        Label::from_static_parts("degraded", if degraded { "true" } else { "false" }),
    ]);
    counter!(DECISIONS, labels)
}

fn rate_limited(Binding { rule, depth }: Binding, call: &Call<'_>) -> Counter {
    let mut labels = call.labels();
    let mut words = rule.name().split('/');
    let scope = words.next().unwrap_or_default();
    let (window, unit) = match rule.measure {
        Measure::Amount(..) => (words.next().unwrap_or_default(), words.next().unwrap_or_default()),
        Measure::Parallel => ("none", "parallel"),
    };
    let words =
        [("scope", scope), ("window", window), ("unit", unit), ("depth", DEPTHS[depth - 1])];
    labels.extend(words.map(|(label, word)| Label::from_static_parts(label, word)));
    counter!(RATE_LIMITED, labels)
}

impl Call<'_> {
    const fn is_named(&self) -> bool {
        self.key.is_some() || self.asset.is_some()
    }

    fn labels(&self) -> Vec<Label> {
        let key = self.key.map(|key| Label::new("key", key.as_str().to_owned()));
        let asset = self.asset.map(|asset| Label::new("asset", asset.as_str().to_owned()));
        key.into_iter().chain(asset).collect()
    }
}

const fn error_name(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::OutcomeUnknown(_) => "outcome_unknown",
        StoreError::Corrupt(_) => "corrupt",
        _ => "other",
    }
}

/// Describes the metrics to the recorder. A repetition does no harm.
fn describe() {
    describe_counter!(
        DECISIONS,
        "Decisions, by operation, outcome, and whether a failure policy decided without the store"
    );
    describe_counter!(
        RATE_LIMITED,
        "Calls denied by a limit, by the binding rule and the depth of its level: 1 for an outermost group, or a key without groups"
    );
    describe_counter!(SETTLEMENTS, "Reservations that were settled or cancelled, by outcome");
    describe_counter!(ERRORS, "Operations without an answer of the store, by operation and error");
    describe_histogram!(
        SECONDS,
        metrics::Unit::Seconds,
        "Time until the store answered, by operation; not measured in memory"
    );
}

const RULES: usize = Scope::ALL.len() * MEASURES * DEPTHS.len();
/// The units by window, and calls in parallel.
const MEASURES: usize = Window::ALL.len() * Unit::ALL.len() + 1;
/// The depths of levels, as the label `depth` shows them.
const DEPTHS: [&str; KeyId::MAX_SEGMENTS] = ["1", "2", "3", "4"];
const DECISIONS: &str = "limiter_decisions_total";
const RATE_LIMITED: &str = "limiter_rate_limited_total";
const SETTLEMENTS: &str = "limiter_settlements_total";
const ERRORS: &str = "limiter_store_errors_total";
const SECONDS: &str = "limiter_store_duration_seconds";
const EVENTS_FIRED: &str = "limiter_events_fired_total";
const EVENTS_DROPPED: &str = "limiter_events_dropped_total";
#[cfg(feature = "stream")]
const ANSWERS: &str = "limiter_answers_total";
const CALLBACK_PANICS: &str = "limiter_callback_panics_total";
