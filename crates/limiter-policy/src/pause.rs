//! How long to leave alone what the store refuses, and how seldom to warn of it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The pause before what was refused is tried again: longer with each refusal in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    refusals: u32,
    until: Option<Instant>,
}

/// Lets a warning through now and then, however many there would be.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Warned>);

#[derive(Debug, Default)]
struct Warned {
    last: Option<Instant>,
    unsaid: u64,
}

impl Pause {
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// After a refusal.
    pub(crate) fn grow(&mut self, now: Instant) {
        let doubled = FIRST.saturating_mul(1 << self.refusals.min(MOST_DOUBLINGS));
        self.refusals = self.refusals.saturating_add(1);
        self.until = Some(now + doubled.min(LONGEST));
    }

    /// After it was accepted.
    pub(crate) const fn end(&mut self) {
        *self = Self { refusals: 0, until: None };
    }
}

impl Seldom {
    /// Adds to what is to be warned of, and answers how much that is since the last warning, if another one is due.
    pub(crate) fn due(&self, more: u64) -> Option<u64> {
        let (mut warned, now) = (self.0.lock(), Instant::now());
        warned.unsaid = warned.unsaid.saturating_add(more);
        if warned.unsaid == 0 || warned.last.is_some_and(|last| now - last < QUIET) {
            return None;
        }
        warned.last = Some(now);
        Some(std::mem::take(&mut warned.unsaid))
    }
}

/// What was refused for a moment, such as in a failover, is accepted soon after.
const FIRST: Duration = Duration::from_secs(1);
/// What needs an admin takes longer, and need not wait long once it is repaired.
const LONGEST: Duration = Duration::from_secs(300);
/// Enough to come from the first to the longest.
const MOST_DOUBLINGS: u32 = 9;
/// One line says that the store refuses, and those that follow say how often.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_with_each_refusal_up_to_five_minutes() {
        let now = Instant::now();
        let mut pause = Pause::default();
        assert!(pause.is_over(now));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            pause.grow(now);
            let last = Duration::from_secs(seconds);
            assert!(!pause.is_over(now + last - Duration::from_millis(1)), "{seconds} s");
            assert!(pause.is_over(now + last), "{seconds} s");
        }
        pause.end();
        assert!(pause.is_over(now));
        pause.grow(now);
        assert!(pause.is_over(now + FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn one_warning_in_ten_seconds_says_how_many_there_were() {
        let seldom = Seldom::default();
        assert_eq!(seldom.due(0), None);
        assert_eq!(seldom.due(3), Some(3));
        assert_eq!((seldom.due(2), seldom.due(1)), (None, None));
        tokio::time::advance(QUIET).await;
        assert_eq!((seldom.due(0), seldom.due(0)), (Some(3), None));
    }
}
