//! Which errors mean that the store cannot answer, and those of this crate.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{KeysError, ReservationError, StoreError};
use thiserror::Error;

/// Why the store was not asked, or not waited for: the `source()` of a [`StoreError`].
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
    /// Too many calls failed: the store is left alone until a probe succeeds.
    #[error(
        "the circuit breaker is open: the store is not called until a probe succeeds; last failure: {last_failure}"
    )]
    GivenUp {
        /// What failed last.
        last_failure: Arc<str>,
    },
}

/// The error of a call, which may mean that the store cannot answer.
pub(crate) trait CallError: From<StoreError> + std::error::Error {
    fn of_store(&self) -> Option<&StoreError>;

    /// Whether nothing is known of the answer. What cannot be read, and verdicts that differ, are answers.
    fn is_outage(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)))
    }
}

impl CallError for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl CallError for ReservationError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl CallError for KeysError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// An error and all its causes, in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> Arc<str> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.into()
}
