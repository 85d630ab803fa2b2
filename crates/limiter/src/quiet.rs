//! Log lines that may come in floods: at most one in ten seconds, with the number left out since.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one log line of a kind through every ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    logged: Option<Instant>,
    left_out: u64,
}

impl Quiet {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Lines { logged: None, left_out: 0 }))
    }

    /// How many lines were left out since the last one, if another one is due.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if lines.logged.is_some_and(|logged| now.duration_since(logged) < QUIET) {
            lines.left_out = lines.left_out.saturating_add(1);
            return None;
        }
        lines.logged = Some(now);
        Some(std::mem::take(&mut lines.left_out))
    }
}

/// The first line says that something fails; those that follow say how often.
const QUIET: Duration = Duration::from_secs(10);
