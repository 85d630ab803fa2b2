//! Waiting for what another process does.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until something holds, and panics with its name if it takes too long.
pub(super) fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, holds), "after {PATIENCE:?}, it is not true that {what}");
}

/// Whether something holds in time.
pub(super) fn holds_within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        sleep(PAUSE);
    }
}

/// Clusters agree within seconds; a machine that is busy with other tests may take ten times as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// A server is up after some ten of them.
const PAUSE: Duration = Duration::from_millis(5);
