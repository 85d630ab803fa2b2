//! The error for a slow subscriber.

use thiserror::Error;

/// Events that a slow subscriber has missed. The stream goes on with the oldest event that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{events} events were missed: the subscriber is too slow")]
#[non_exhaustive]
pub struct Missed {
    /// The number of missed events.
    pub events: u64,
}
