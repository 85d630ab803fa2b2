//! A throttle for repeated log lines.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A throttle for repeated events, such as warnings of a dead store: it admits one in a while and counts the others.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    admitted: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Creates a throttle that admits one event in this time.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        Self { every, state: Mutex::new(State { admitted: None, suppressed: 0 }) }
    }

    /// Creates a throttle that admits one warning in 10 seconds.
    #[must_use]
    pub const fn of_warnings() -> Self {
        Self::new(BETWEEN_WARNINGS)
    }

    /// Admits the event at `now` and returns how many were suppressed since the last one, or suppresses it: `None`.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        self.add(1, now).map(|events| events.saturating_sub(1))
    }

    /// Adds events at `now`. Admits all since the last admitted ones and returns their number, or suppresses them: `None`.
    pub fn add(&self, events: u64, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.suppressed = state.suppressed.saturating_add(events);
        let is_early = |last| now.saturating_duration_since(last) < self.every;
        if state.suppressed == 0 || state.admitted.is_some_and(is_early) {
            return None;
        }
        state.admitted = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

/// One line reports that a store fails, and the next ones how many warnings were suppressed since.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(10);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant cannot be made otherwise")]
mod tests {
    use super::*;

    #[test]
    fn one_event_in_a_while_is_admitted_and_the_others_are_counted() {
        let (throttle, start) = (Throttle::of_warnings(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!([1, 5, 9].map(|seconds| throttle.admit(after(seconds))), [None; 3]);
        assert_eq!(throttle.admit(after(10)), Some(3));
        assert_eq!(throttle.admit(after(19)), None);
        assert_eq!(throttle.admit(after(20)), Some(1));
    }

    #[test]
    fn events_that_were_suppressed_are_admitted_later_also_without_another_one() {
        let (throttle, start) = (Throttle::of_warnings(), Instant::now());
        assert_eq!(throttle.add(0, start), None);
        assert_eq!(throttle.add(3, start), Some(3));
        assert_eq!((throttle.add(2, start), throttle.add(1, start)), (None, None));
        let later = start + BETWEEN_WARNINGS;
        assert_eq!((throttle.add(0, later), throttle.add(0, later)), (Some(3), None));
    }
}
