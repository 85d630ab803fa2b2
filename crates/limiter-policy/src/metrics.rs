//! The figures of this crate: their names, and the handles by which they are counted. Without the feature `metrics` there is
//! nothing here.

use limiter_core::Decision;
#[cfg(feature = "metrics")]
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::breaker::BreakerState;
use crate::policy::FailurePolicy;

/// Shows in which state a breaker is, for as long as it is there. The gauge of a state tells how many breakers of this process
/// are in it, so that several do not overwrite each other: those of stores, and those of their parts.
///
/// The handles are asked of the recorder when the breaker is made: a recorder that is installed later sees none of its states.
#[derive(Debug)]
pub(crate) struct StateFigures {
    #[cfg(feature = "metrics")]
    now: [Gauge; STATES.len()],
    #[cfg(feature = "metrics")]
    changes: [Counter; STATES.len()],
    #[cfg(feature = "metrics")]
    shown: BreakerState,
}

/// Counts what is answered without the store.
#[derive(Debug)]
pub(crate) struct AnswerFigures {
    /// Allowed and denied.
    #[cfg(feature = "metrics")]
    answers: [Counter; 2],
}

/// Counts the operations that the store receives late, after an outage.
#[derive(Debug)]
pub(crate) struct LateFigures {
    /// Indexed by operation and outcome.
    #[cfg(feature = "metrics")]
    told: [[Counter; OUTCOMES.len()]; LATE.len()],
}

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
    /// It may be done, and is too old to be repeated.
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

#[cfg(feature = "metrics")]
impl LateFigures {
    pub(crate) fn new(policy: FailurePolicy) -> Self {
        if policy == FailurePolicy::FailClosed {
            // This policy puts nothing off.
            return Self {
                told: std::array::from_fn(|_| std::array::from_fn(|_| Counter::noop())),
            };
        }
        describe_counter!(
            RECONCILIATIONS,
            "Charges and settlements of an outage sent to the store, by operation and outcome"
        );
        let told = LATE.map(|late| {
            OUTCOMES.map(|outcome| {
                counter!(RECONCILIATIONS, "operation" => late.name(), "outcome" => outcome.name())
            })
        });
        Self { told }
    }

    pub(crate) fn count(&self, late: Late, outcome: Outcome) {
        self.told[late as usize][outcome as usize].increment(1);
    }
}

#[cfg(not(feature = "metrics"))]
impl LateFigures {
    pub(crate) const fn new(_policy: FailurePolicy) -> Self {
        Self {}
    }

    pub(crate) const fn count(&self, _late: Late, _outcome: Outcome) {}
}

#[cfg(feature = "metrics")]
impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::GivenUp => "given_up",
        }
    }
}

#[cfg(feature = "metrics")]
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

#[cfg(feature = "metrics")]
impl Drop for StateFigures {
    fn drop(&mut self) {
        self.now[self.shown as usize].decrement(1);
    }
}

#[cfg(feature = "metrics")]
impl AnswerFigures {
    pub(crate) fn new(policy: FailurePolicy) -> Self {
        let policy = match policy {
            FailurePolicy::FailOpen => "fail_open",
            FailurePolicy::LocalShare { .. } => "local_share",
            // It answers nothing without the store.
            FailurePolicy::FailClosed => {
                return Self { answers: [Counter::noop(), Counter::noop()] };
            }
        };
        describe_counter!(ANSWERS, "Answers given without the store, by policy and outcome");
        let answers = ["allowed", "denied"]
            .map(|outcome| counter!(ANSWERS, "policy" => policy, "outcome" => outcome));
        Self { answers }
    }

    pub(crate) fn degraded(&self, decision: &Decision) {
        self.answers[usize::from(!decision.is_allowed())].increment(1);
    }
}

#[cfg(not(feature = "metrics"))]
impl StateFigures {
    pub(crate) const fn new(_shown: BreakerState) -> Self {
        Self {}
    }

    pub(crate) const fn show(&mut self, _state: BreakerState) {}
}

#[cfg(not(feature = "metrics"))]
impl AnswerFigures {
    pub(crate) const fn new(_policy: FailurePolicy) -> Self {
        Self {}
    }

    pub(crate) const fn degraded(&self, _decision: &Decision) {}
}

#[cfg(feature = "metrics")]
const fn state_name(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
    }
}

/// As they are numbered.
#[cfg(feature = "metrics")]
const STATES: [BreakerState; 3] =
    [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];

/// In the order of their numbers.
#[cfg(feature = "metrics")]
const LATE: [Late; 3] = [Late::Record, Late::Settle, Late::Cancel];
/// In the order of their numbers.
#[cfg(feature = "metrics")]
const OUTCOMES: [Outcome; 3] = [Outcome::Done, Outcome::Refused, Outcome::GivenUp];

#[cfg(feature = "metrics")]
const BREAKERS: &str = "limiter_breaker_state";
#[cfg(feature = "metrics")]
const CHANGES: &str = "limiter_breaker_changes_total";
#[cfg(feature = "metrics")]
const ANSWERS: &str = "limiter_degraded_answers_total";
#[cfg(feature = "metrics")]
const RECONCILIATIONS: &str = "limiter_reconciliations_total";
