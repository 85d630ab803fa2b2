//! Random values that must differ between clients: tokens, and the lengths of pauses.

use std::fmt;
use std::time::Duration;

use crate::random::draw;

/// Names one change by one client. None is ever drawn twice, in any process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token(String);

impl Token {
    pub(super) fn draw() -> Self {
        Self(format!("{:016x}{:016x}", draw(), draw()))
    }

    /// One that was drawn before.
    pub(super) const fn known(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Pauses that grow, each of a random length, so that clients which wait for one change do not come back all at once.
#[derive(Debug)]
pub(super) struct Pauses {
    longest: Duration,
}

impl Pauses {
    pub(super) const fn new() -> Self {
        Self { longest: FIRST_PAUSE }
    }

    pub(super) fn draw(&mut self) -> Duration {
        let longest = self.longest;
        self.longest = longest.saturating_mul(2).min(LONGEST_PAUSE);
        let half = longest / 2;
        let jitter = draw() % u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(jitter)
    }
}

/// About as long as a change takes between machines that are close.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
/// A hundred waiting clients then ask a few thousand times a second, which a server hardly notices.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut pauses = Pauses::new();
        let drawn: Vec<_> = (0..20).map(|_| pauses.draw()).collect();
        assert!(drawn[0] <= FIRST_PAUSE);
        assert!(drawn.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(drawn[19] >= LONGEST_PAUSE / 2);
    }
}
