//! What a check has seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of times that each kind of event was seen, so that worlds that are too small are found. A world counts together
/// with its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<[AtomicU64; 9]>);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight {
    Allowed,
    Denied,
    Fired,
    Refunded,
    Overran,
    FailedAgain,
    Rebased,
    ChangedLimits,
    CameLate,
}

impl Seen {
    pub(super) fn saw(&self, sight: Sight) {
        self.0[sight as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, sight: Sight) -> u64 {
        self.0[sight as usize].load(Ordering::Relaxed)
    }
}
