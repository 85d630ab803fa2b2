//! Pauses between retries of refused operations.

use std::time::Duration;

use tokio::time::Instant;

/// The pause before a refused operation is tried again, which grows with each refusal in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    refusals: u32,
    until: Option<Instant>,
}

impl Pause {
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Starts the next, longer pause after a refusal.
    pub(crate) fn grow(&mut self, now: Instant) {
        let doubled = FIRST.saturating_mul(1 << self.refusals.min(MOST_DOUBLINGS));
        self.refusals = self.refusals.saturating_add(1);
        self.until = Some(now + doubled.min(LONGEST));
    }

    /// Ends the pause after a success.
    pub(crate) const fn end(&mut self) {
        *self = Self { refusals: 0, until: None };
    }
}

/// A brief refusal, such as in a failover, ends soon.
const FIRST: Duration = Duration::from_secs(1);
/// A repair by an admin takes longer; after it, the retry comes within this time.
const LONGEST: Duration = Duration::from_secs(300);
/// Enough doublings to reach the longest pause.
const MOST_DOUBLINGS: u32 = 9;

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
}
