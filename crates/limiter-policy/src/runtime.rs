//! Calls outside of a tokio runtime: an outage instead of a panic.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::runtime::Handle;

/// A call was polled where no tokio runtime is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRuntime {
    /// At its first poll: it did nothing.
    NotBegun,
    /// It began in a runtime.
    Left,
}

/// Polls a call only inside a tokio runtime, since its timers and tasks panic elsewhere.
pub(crate) async fn in_runtime<T>(call: impl Future<Output = T>) -> Result<T, NoRuntime> {
    let mut call = pin!(call);
    let mut outside = NoRuntime::NotBegun;
    poll_fn(move |cx| {
        if Handle::try_current().is_err() {
            return Poll::Ready(Err(outside));
        }
        outside = NoRuntime::Left;
        call.as_mut().poll(cx).map(Ok)
    })
    .await
}
