//! The circuit breaker: it stops calls to a failing store, and depends neither on stores nor on time.

use crate::metrics::StateFigures;

/// A circuit breaker that opens after too many failures in a row.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: BreakerState,
    failures: u32,
    most_failures: u32,
    /// Changes with the state: the outcome of a call that began before the change no longer counts.
    turn: Turn,
    figures: StateFigures,
}

/// The state of the circuit breaker of a store or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are sent.
    Closed,
    /// Calls are not sent: too many failed in a row.
    Open,
    /// One probe is under way, and no other call is sent.
    HalfOpen,
}

/// The period between two changes of a breaker, in which a call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Identifies the breaker among those that a part has had.
    breaker: u64,
    /// How often the breaker has opened or closed.
    change: u64,
}

impl Breaker {
    /// Creates a closed breaker that opens after `most_failures` failures in a row. No other breaker of the same part
    /// has its `number`.
    pub(crate) fn new(most_failures: u32, number: u64) -> Self {
        let state = BreakerState::Closed;
        let figures = StateFigures::new(state);
        let turn = Turn { breaker: number, change: 0 };
        Self { state, failures: 0, most_failures, turn, figures }
    }

    pub(crate) const fn state(&self) -> BreakerState {
        self.state
    }

    /// Admits a call or not. Report its end with the returned turn.
    pub(crate) const fn admit(&self) -> Option<Turn> {
        match self.state {
            BreakerState::Closed => Some(self.turn),
            BreakerState::Open | BreakerState::HalfOpen => None,
        }
    }

    pub(crate) fn succeeded(&mut self, began: Turn) {
        if began == self.turn {
            self.failures = 0;
        }
    }

    /// Counts a failure and returns whether it opened the breaker.
    pub(crate) fn failed(&mut self, began: Turn) -> bool {
        if began != self.turn {
            return false;
        }
        self.failures += 1;
        let opens = self.failures >= self.most_failures;
        if opens {
            self.turn_to(BreakerState::Open);
        }
        opens
    }

    /// Begins the one probe if the breaker is open.
    pub(crate) fn begin_probe(&mut self) -> bool {
        let is_open = self.state == BreakerState::Open;
        if is_open {
            self.come_to(BreakerState::HalfOpen);
        }
        is_open
    }

    /// Closes the breaker if the probe succeeded, else opens it again.
    pub(crate) fn end_probe(&mut self, succeeded: bool) {
        if self.state == BreakerState::HalfOpen {
            self.turn_to(if succeeded { BreakerState::Closed } else { BreakerState::Open });
        }
    }

    /// Opens the breaker in any state.
    pub(crate) fn open(&mut self) {
        self.turn_to(BreakerState::Open);
    }

    fn turn_to(&mut self, state: BreakerState) {
        self.failures = 0;
        self.turn.change += 1;
        self.come_to(state);
    }

    fn come_to(&mut self, state: BreakerState) {
        self.state = state;
        self.figures.show(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(2, 0);
        let began = breaker.admit().unwrap();
        assert!(!breaker.failed(began));
        assert!(breaker.failed(began));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_then_nothing_is_let_through() {
        let breaker = opened();
        assert_eq!((breaker.state(), breaker.admit()), (BreakerState::Open, None));
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::new(2, 0);
        let began = breaker.admit().unwrap();
        for _ in 0..5 {
            assert!(!breaker.failed(began));
            breaker.succeeded(began);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn one_probe_at_a_time_is_let_through() {
        let mut breaker = opened();
        assert!(breaker.begin_probe());
        assert!(!breaker.begin_probe());
        assert_eq!((breaker.state(), breaker.admit()), (BreakerState::HalfOpen, None));
    }

    #[test]
    fn one_probe_that_succeeds_closes_it_and_one_that_fails_leaves_it_open() {
        let mut breaker = opened();
        assert!(breaker.begin_probe());
        breaker.end_probe(false);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(breaker.begin_probe());
        breaker.end_probe(true);
        assert!(breaker.admit().is_some());
    }

    #[test]
    fn a_call_that_began_before_the_outage_says_nothing_about_now() {
        let mut breaker = Breaker::new(1, 0);
        let before = breaker.admit().unwrap();
        assert!(breaker.failed(before));
        assert!(breaker.begin_probe());
        breaker.end_probe(true);
        assert!(!breaker.failed(before));
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.succeeded(before);
        let now = breaker.admit().unwrap();
        assert!(breaker.failed(now));
    }
}
