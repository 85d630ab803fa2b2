//! Random values that must differ between clients: tokens, and the lengths of pauses.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// The standard library seeds its hashers from the operating system, differently in each process and thread, and each
/// new one differs. A token need not be secret: a client that can send one to the server can do anything there.
fn draw() -> u64 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(DRAWN.fetch_add(1, Ordering::Relaxed))
}

/// About as long as a change takes between machines that are close.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
/// A hundred waiting clients then ask a few thousand times a second, which a server hardly notices.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_differ_between_threads() {
        let draw_some = || (0..1_000).map(|_| draw()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw_some)).collect();
        let drawn = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        assert_eq!(drawn.collect::<HashSet<_>>().len(), 4_000);
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut pauses = Pauses::new();
        let drawn: Vec<_> = (0..20).map(|_| pauses.draw()).collect();
        assert!(drawn[0] <= FIRST_PAUSE);
        assert!(drawn.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(drawn[19] >= LONGEST_PAUSE / 2);
    }
}
