//! Why a metered stream brings an error.

use limiter_core::{BoxError, Denied, ReservationError};
use thiserror::Error;

/// Why a metered stream brings an error instead of a chunk.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The next chunk does not fit into the limits, and the stream was to [end](super::StreamMeter::ending_at_limit)
    /// then. What was passed on is charged; nothing follows.
    #[error("the answer ends here: {0}")]
    Denied(Denied),
    /// Whether the next chunk fits cannot be told, and the stream was to [end](super::StreamMeter::ending_at_limit) at the
    /// limit. What was passed on is charged, or `tracing` says why not; nothing follows.
    #[error("the answer ends here: the limiter cannot check whether more is allowed")]
    Unknown(#[source] ReservationError),
    /// The [token counter](super::CountTokens) has panicked, so that the cost of the next chunk is unknown. The tokens
    /// counted so far are charged, and the stream ends.
    #[error("the answer ends here: its tokens can no longer be counted")]
    Uncounted,
    /// Upstream failed. What it brought until then is charged when the stream is dropped or ends.
    #[error("the upstream failed before the end of the answer")]
    Upstream(#[source] BoxError),
}
