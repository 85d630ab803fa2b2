//! Random values that must differ between clients: tokens, and the lengths of pauses.

use std::fmt;
use std::time::Duration;

use crate::random::draw;

/// Names one change by one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token(pub(super) String);

/// Draws one that was never drawn before, in any process.
impl Default for Token {
    fn default() -> Self {
        Self(format!("{:016x}{:016x}", draw(), draw()))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pause after this many tries: of random length, so that clients which wait for one change do not come back all at once.
pub(super) fn pause(tries: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << tries.min(MOST_DOUBLINGS)).min(LONGEST_PAUSE);
    let half = longest / 2;
    let jitter = draw() % u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(jitter)
}

/// About as long as a change takes between machines that are close.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
/// A hundred waiting clients then ask a few thousand times a second, which a server hardly notices.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Enough to reach the longest pause.
const MOST_DOUBLINGS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let drawn: Vec<_> = (0..20).map(pause).collect();
        assert!(drawn[0] <= FIRST_PAUSE);
        assert!(drawn.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(drawn[19] >= LONGEST_PAUSE / 2);
    }
}
