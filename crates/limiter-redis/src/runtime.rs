//! Calls outside of a tokio runtime: an error instead of a panic.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::runtime::Handle;

use crate::error::{CommandError, RedisError};

/// The runtime of the calling task.
///
/// # Errors
/// [`RedisError::NoRuntime`] if there is none.
pub(crate) fn current() -> Result<Handle, RedisError> {
    Handle::try_current().map_err(|_| RedisError::NoRuntime)
}

/// Polls a call only inside a tokio runtime, since its timers and tasks panic elsewhere.
///
/// # Errors
/// [`RedisError::NoRuntime`] as soon as it is polled outside of one: as [`CommandError::NotRun`] if that is the first poll.
pub(crate) async fn in_runtime<T, E: From<CommandError>>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut call = pin!(call);
    let mut begun = false;
    poll_fn(move |cx| match current() {
        Ok(_) => {
            begun = true;
            call.as_mut().poll(cx)
        }
        Err(error) if begun => Poll::Ready(Err(CommandError::Unknown(error).into())),
        Err(error) => Poll::Ready(Err(CommandError::NotRun(error).into())),
    })
    .await
}

/// The same of a call that changes nothing, or whose caller looks for itself how far it came.
///
/// # Errors
/// [`RedisError::NoRuntime`] as soon as it is polled outside of a runtime.
pub(crate) async fn reading_in_runtime<T>(
    call: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let called = in_runtime(async { call.await.map_err(CommandError::NotRun) }).await;
    called.map_err(|(CommandError::NotRun(error) | CommandError::Unknown(error))| error)
}
