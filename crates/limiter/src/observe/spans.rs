//! A span around each call, and a warning when the store fails.

use std::error::Error;
use std::time::Instant;

use limiter_core::{StoreError, Throttle};
use tracing::Span;
use tracing::field::{Empty, display};

use super::outcome::{Binding, Ended};
use super::{Call, Operation};

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
    /// Opens the span of a call, with those of its names that are shown.
    pub(crate) fn begin(&self, call: &Call<'_>) -> Span {
        let span = tracing::debug_span!(
            target: TARGET,
            "limiter",
            operation = call.operation.name(),
            key = Empty,
            asset = Empty,
            outcome = Empty,
            rule = Empty,
            depth = Empty,
            degraded = Empty,
        );
        if let Some(key) = call.key {
            span.record("key", display(key));
        }
        if let Some(asset) = call.asset {
            span.record("asset", display(asset));
        }
        span
    }

    pub(crate) fn ended(&self, call: &Call<'_>, span: &Span, ended: &Ended<'_>) {
        if let Some(error) = ended.error {
            span.in_scope(|| self.failed(call.operation, error));
        }
        if span.is_disabled() {
            return;
        }
        span.record("outcome", ended.outcome.name());
        if let Some(Binding { rule, depth }) = ended.binding {
            span.record("rule", display(rule));
            span.record("depth", depth);
        }
        if ended.degraded {
            span.record("degraded", true);
        }
    }

    fn failed(&self, operation: Operation, error: &StoreError) {
        if !is_logged_elsewhere(error)
            && let Some(suppressed) = self.warnings.admit(Instant::now())
        {
            tracing::warn!(
                target: TARGET,
                operation = operation.name(),
                error = error as &(dyn Error + 'static),
                suppressed,
                "the store gave no answer to a call"
            );
        }
    }
}

/// Returns whether a circuit breaker refused the call: it has logged that when it opened.
fn is_logged_elsewhere(error: &StoreError) -> bool {
    #[cfg(feature = "policy")]
    if let Some(outage) = error.source().and_then(|source| source.downcast_ref()) {
        return matches!(outage, limiter_policy::Outage::GivenUp { .. });
    }
    let _ = error;
    false
}

/// The name of the crate in log filters.
const TARGET: &str = "limiter";
