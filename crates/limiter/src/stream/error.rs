//! The errors of a metered stream.

use limiter_core::{BoxError, Denied, ReservationError};
use thiserror::Error;

/// The error that a metered stream returns instead of a chunk.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The next chunk does not fit into the limits, and the stream was set to
    /// [end](super::StreamMeter::ending_at_limit) then. The chunks that were passed on are charged; nothing follows.
    #[error("the answer ends here: {0}")]
    Denied(Denied),
    /// The store could not decide whether the next chunk fits, and the stream was set to
    /// [end](super::StreamMeter::ending_at_limit) at the limit. The chunks that were passed on are charged, or
    /// `tracing` logs why not; nothing follows.
    #[error("the answer ends here: the limiter cannot check whether more is allowed")]
    Unknown(#[source] ReservationError),
    /// The [token counter](super::CountTokens) has panicked, so that the cost of the next chunk is unknown. The tokens
    /// counted so far are charged, and the stream ends.
    #[error("the answer ends here: its tokens can no longer be counted")]
    Uncounted,
    /// Upstream failed. The chunks before that are charged when the stream is dropped or ends.
    #[error("the upstream failed before the end of the answer")]
    Upstream(#[source] BoxError),
}
