//! The errors of this crate.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// The reason why the store gave no answer: the `source()` of a [`StoreError`](limiter_core::StoreError).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Outage {
    /// No answer within the deadline.
    #[error("no answer within the deadline of {after:?}")]
    Deadline {
        /// The deadline.
        after: Duration,
    },
    /// The call was polled where no tokio runtime is.
    #[error(
        "a call to a guarded store was polled outside of a tokio runtime, which its deadlines need: \
         await it in a task of one, or in Runtime::block_on"
    )]
    NoRuntime,
    /// Too many calls failed: no calls are sent until a probe succeeds.
    #[error(
        "the circuit breaker is open: the store is not called until a probe succeeds; last failure: {last_failure}"
    )]
    GivenUp {
        /// The last failure.
        last_failure: Arc<str>,
    },
}

/// Formats an error and all its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> Arc<str> {
    limiter_core::with_causes(error).into()
}
