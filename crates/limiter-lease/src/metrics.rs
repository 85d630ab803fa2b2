//! The metrics of this crate: their names, and the handles by which they are counted. Without the feature `metrics` there is
//! nothing here.

#[cfg(feature = "metrics")]
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(feature = "metrics")]
use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

#[cfg(feature = "metrics")]
use parking_lot::Mutex;

use crate::book::Figures;

/// Shows what a store's [`Figures`] are, and how long its grants take. The handles are asked of the recorder when the first is
/// shown, and kept.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    #[cfg(feature = "metrics")]
    handles: OnceLock<Handles>,
    #[cfg(feature = "metrics")]
    shown: Mutex<Figures>,
}

/// What came of asking for a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Granted,
    /// There was too little room for one.
    Refused,
    /// The store did not answer.
    Failed,
}

#[cfg(feature = "metrics")]
#[derive(Debug)]
struct Handles {
    decisions: [Counter; 3],
    requests: [Counter; 3],
    grants: [Histogram; 3],
}

#[cfg(feature = "metrics")]
impl Metrics {
    /// Adds what has come since the figures were shown last: so no decision in memory waits for its counter.
    pub(crate) fn show(&self, figures: Figures) {
        let handles = self.handles();
        let mut shown = self.shown.lock();
        let since = |of: fn(&Figures) -> u64| of(&figures).saturating_sub(of(&shown));
        handles.decisions[0].increment(since(|it| it.local));
        handles.decisions[1].increment(since(|it| it.denied));
        handles.decisions[2].increment(since(|it| it.direct));
        handles.requests[0].increment(since(|it| it.leased));
        handles.requests[1].increment(since(|it| it.returned));
        handles.requests[2].increment(since(|it| it.stranded));
        *shown = figures;
    }

    pub(crate) fn asked(&self, outcome: Asked, took: Duration) {
        self.handles().grants[outcome as usize].record(took.as_secs_f64());
    }

    fn handles(&self) -> &Handles {
        self.handles.get_or_init(|| {
            describe_counter!(DECISIONS, "Checks, by where they were decided");
            describe_counter!(REQUESTS, "Requests of leases, by what became of them");
            describe_histogram!(GRANTS, Unit::Seconds, "How long a grant took, by outcome");
            Handles {
                decisions: ["leased", "denied", "direct"]
                    .map(|decided| counter!(DECISIONS, "decided" => decided)),
                requests: ["leased", "returned", "stranded"]
                    .map(|became| counter!(REQUESTS, "became" => became)),
                grants: ["granted", "refused", "failed"]
                    .map(|outcome| histogram!(GRANTS, "outcome" => outcome)),
            }
        })
    }
}

#[cfg(not(feature = "metrics"))]
impl Metrics {
    pub(crate) const fn show(&self, _figures: Figures) {}

    pub(crate) const fn asked(&self, _outcome: Asked, _took: Duration) {}
}

#[cfg(feature = "metrics")]
const DECISIONS: &str = "limiter_lease_decisions_total";
#[cfg(feature = "metrics")]
const REQUESTS: &str = "limiter_lease_requests_total";
#[cfg(feature = "metrics")]
const GRANTS: &str = "limiter_lease_grant_duration_seconds";
