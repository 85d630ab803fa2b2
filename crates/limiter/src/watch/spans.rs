//! A span around each call, and a warning when the store fails.

use std::error::Error;
use std::time::Instant;

use limiter_core::{StoreError, Throttle};
use tracing::Span;
use tracing::field::{Empty, display};

use super::outcome::Told;
use super::{Named, Operation};

/// The spans of a limiter, and the throttle of its warnings about a failing store.
#[derive(Debug)]
pub(crate) struct Spans {
    warnings: Throttle,
}

impl Default for Spans {
    fn default() -> Self {
        Self { warnings: Throttle::of_warnings() }
    }
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
            && let Some(suppressed) = self.warnings.admit(Instant::now())
        {
            tracing::warn!(
                target: TARGET,
                operation = operation.name(),
                error = error as &(dyn Error + 'static),
                suppressed,
                "a call has failed in its store"
            );
        }
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
