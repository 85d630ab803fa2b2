//! A span around each call, and a warning when the store fails.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use limiter_core::StoreError;
use tracing::Span;
use tracing::field::{Empty, display};

use super::outcome::Told;
use super::{Named, Operation};

/// The spans of a limiter, and what was warned of last.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    warned: Option<Instant>,
    /// Failed since then.
    unsaid: u64,
}

impl Spans {
    pub(crate) fn begin(&self, operation: Operation, (key, asset): Named<'_, '_>) -> Span {
        let span = tracing::debug_span!(
            target: TARGET,
            "limiter",
            operation = operation.name(),
            key = Empty,
            asset = Empty,
            outcome = Empty,
            rule = Empty,
            degraded = Empty,
        );
        if let Some(key) = key {
            span.record("key", display(key));
        }
        if let Some(asset) = asset {
            span.record("asset", display(asset));
        }
        span
    }

    pub(crate) fn ended(&self, operation: Operation, span: &Span, told: &Told<'_>) {
        if let Some(error) = told.error {
            span.in_scope(|| self.failed(operation, error));
        }
        if span.is_disabled() {
            return;
        }
        span.record("outcome", told.outcome.name());
        if let Some(rule) = told.rule {
            span.record("rule", display(rule));
        }
        if told.degraded {
            span.record("degraded", true);
        }
    }

    fn failed(&self, operation: Operation, error: &StoreError) {
        if !is_told_elsewhere(error)
            && let Some(unsaid) = self.to_be_warned_of()
        {
            tracing::warn!(
                target: TARGET,
                operation = operation.name(),
                error = error as &(dyn Error + 'static),
                unsaid,
                "a call has failed in its store"
            );
        }
    }

    /// How many failures were not warned of since the last warning, if another one is due.
    fn to_be_warned_of(&self) -> Option<u64> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if failures.warned.is_some_and(|warned| now.duration_since(warned) < QUIET) {
            failures.unsaid += 1;
            return None;
        }
        failures.warned = Some(now);
        Some(std::mem::take(&mut failures.unsaid))
    }
}

/// Whether a breaker is open: it has said so when it opened.
fn is_told_elsewhere(error: &StoreError) -> bool {
    #[cfg(feature = "policy")]
    if let Some(outage) = error.source().and_then(|source| source.downcast_ref()) {
        return matches!(outage, limiter_policy::Outage::GivenUp { .. });
    }
    let _ = error;
    false
}

/// As the crate is called in a filter of logs.
const TARGET: &str = "limiter";

/// At most so often there is a warning, however many calls fail: one tells that the store fails, and those that follow tell
/// how many calls that met.
const QUIET: Duration = Duration::from_secs(10);
