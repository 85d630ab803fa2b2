//! The figures of this crate: their names, and the handles by which they are counted. Without the feature `metrics` there is
//! nothing here.

#[cfg(feature = "metrics")]
use std::sync::OnceLock;

#[cfg(feature = "metrics")]
use metrics::{Histogram, Unit, describe_histogram, histogram};

/// Counts batches. The handle is asked of the recorder with the first batch, and kept.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    #[cfg(feature = "metrics")]
    batches: OnceLock<Histogram>,
}

impl Figures {
    /// Records the number of calls that go together.
    #[cfg(feature = "metrics")]
    pub(crate) fn batch(&self, calls: usize) {
        let register = || {
            describe_histogram!(BATCHES, Unit::Count, "Decisions that went to Redis in one script");
            histogram!(BATCHES)
        };
        // At most a few thousand: exact.
        self.batches.get_or_init(register).record(calls as f64);
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) const fn batch(&self, _calls: usize) {}
}

#[cfg(feature = "metrics")]
const BATCHES: &str = "limiter_redis_batch_calls";
