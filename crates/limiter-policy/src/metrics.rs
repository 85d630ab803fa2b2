//! The metrics of this crate: their names, and the handles by which they are counted. Without the feature `metrics` the
//! handles have no size and do nothing.

use limiter_core::Decision;
#[cfg(feature = "metrics")]
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

#[cfg(not(feature = "metrics"))]
use self::silent::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use crate::breaker::BreakerState;
use crate::policy::FailurePolicy;

/// The gauges of a breaker's state, until it is dropped. The gauge of a state counts the breakers of this process in
/// that state, so that several do not overwrite each other: those of stores, and those of their parts.
///
/// The recorder gives the handles when the breaker is created: a recorder that is installed later shows no state of it.
#[derive(Debug)]
pub(crate) struct StateFigures {
    now: [Gauge; STATES.len()],
    changes: [Counter; STATES.len()],
    shown: BreakerState,
}

/// The counters of allowed and denied answers without the store.
#[derive(Debug)]
pub(crate) struct AnswerFigures([Counter; 2]);

/// The counters of operations that the store receives late, after an outage, by operation and outcome.
#[derive(Debug)]
pub(crate) struct LateFigures([[Counter; OUTCOMES.len()]; LATE.len()]);

/// A late operation, under its name in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// Charges calls that were allowed without the store.
    Record,
    Settle,
    Cancel,
}

/// The outcome of a late operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The store answered and refused it.
    Refused,
    /// It may be done, and is too old to be sent again.
    GivenUp,
}

impl Late {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Settle => "settle",
            Self::Cancel => "cancel",
        }
    }
}

impl LateFigures {
    pub(crate) fn new(policy: FailurePolicy) -> Self {
        if policy == FailurePolicy::FailClosed {
            // This policy sends no late operations.
            return Self(std::array::from_fn(|_| std::array::from_fn(|_| Counter::noop())));
        }
        describe_counter!(
            RECONCILIATIONS,
            "Charges and settlements of an outage sent to the store, by operation and outcome"
        );
        Self(LATE.map(|late| {
            OUTCOMES.map(|outcome| {
                counter!(RECONCILIATIONS, "operation" => late.name(), "outcome" => outcome.name())
            })
        }))
    }

    pub(crate) fn count(&self, late: Late, outcome: Outcome) {
        self.0[late as usize][outcome as usize].increment(1);
    }
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::GivenUp => "given_up",
        }
    }
}

impl StateFigures {
    pub(crate) fn new(shown: BreakerState) -> Self {
        describe_gauge!(
            BREAKERS,
            "Circuit breakers in this state, of guarded stores and of their parts"
        );
        describe_counter!(CHANGES, "Changes of circuit breakers, by the state that they came to");
        let now = STATES.map(|state| gauge!(BREAKERS, "state" => state_name(state)));
        let changes = STATES.map(|state| counter!(CHANGES, "to" => state_name(state)));
        now[shown as usize].increment(1);
        Self { now, changes, shown }
    }

    pub(crate) fn show(&mut self, state: BreakerState) {
        if state != self.shown {
            self.now[self.shown as usize].decrement(1);
            self.now[state as usize].increment(1);
            self.changes[state as usize].increment(1);
            self.shown = state;
        }
    }
}

impl Drop for StateFigures {
    fn drop(&mut self) {
        self.now[self.shown as usize].decrement(1);
    }
}

impl AnswerFigures {
    pub(crate) fn new(policy: FailurePolicy) -> Self {
        let policy = match policy {
            FailurePolicy::FailOpen => "fail_open",
            FailurePolicy::LocalShare { .. } => "local_share",
            // It answers nothing without the store.
            FailurePolicy::FailClosed => return Self([Counter::noop(), Counter::noop()]),
        };
        describe_counter!(ANSWERS, "Answers given without the store, by policy and outcome");
        let counted = |outcome| counter!(ANSWERS, "policy" => policy, "outcome" => outcome);
        Self(["allowed", "denied"].map(counted))
    }

    pub(crate) fn degraded(&self, decision: &Decision) {
        self.0[usize::from(!decision.is_allowed())].increment(1);
    }
}

/// A stand-in for the crate `metrics`.
#[cfg(not(feature = "metrics"))]
mod silent {
    #[derive(Debug)]
    pub(super) struct Silent;
    pub(super) use Silent as Counter;
    pub(super) use Silent as Gauge;

    impl Silent {
        pub(super) const fn noop() -> Self {
            Self
        }

        pub(super) const fn increment(&self, _by: u64) {}

        pub(super) const fn decrement(&self, _by: u64) {}
    }

    macro_rules! silent {
        ($name:expr $(, $label:expr => $value:expr)*) => {{
            let _ = ($name, $($value),*);
            $crate::metrics::silent::Silent
        }};
        ($name:expr, $description:expr) => {
            let _ = ($name, $description);
        };
    }
    pub(super) use {
        silent as counter, silent as gauge, silent as describe_counter, silent as describe_gauge,
    };
}

const fn state_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
    }
}

/// In the order of their numbers.
const STATES: [BreakerState; 3] =
    [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
/// In the order of their numbers.
const LATE: [Late; 3] = [Late::Record, Late::Settle, Late::Cancel];
/// In the order of their numbers.
const OUTCOMES: [Outcome; 3] = [Outcome::Done, Outcome::Refused, Outcome::GivenUp];

const BREAKERS: &str = "limiter_breaker_state";
const CHANGES: &str = "limiter_breaker_changes_total";
const ANSWERS: &str = "limiter_degraded_answers_total";
const RECONCILIATIONS: &str = "limiter_reconciliations_total";
