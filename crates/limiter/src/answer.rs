//! The answer of a limiter: a future, and in memory also a plain value.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use limiter_core::StoreError;
use pin_project_lite::pin_project;
use thiserror::Error;

pin_project! {
    /// The answer to a call of a limiter: await it, or call [`now`](Self::now) where the limiter is in memory.
    ///
    /// Nothing happens before it is polled.
    #[derive(Debug)]
    #[must_use = "a call does nothing unless it is awaited, or answered by now()"]
    pub struct Answer<F> {
        #[pin]
        call: F,
        in_memory: bool,
    }
}

impl<F: Future> Answer<F> {
    pub(crate) const fn new(in_memory: bool, call: F) -> Self {
        Self { call, in_memory }
    }
}

impl<T, E: From<StoreError>, F: Future<Output = Result<T, E>>> Answer<F> {
    /// Answers at once, without an async runtime: for a limiter in memory.
    ///
    /// ```
    /// use limiter::{Charge, Limiter};
    ///
    /// let limiter = Limiter::in_memory();
    /// let decision = limiter.check_and_consume(&"ci".parse()?, None, &Charge::request()).now()?;
    /// assert!(!decision.is_allowed(), "no key has this id");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of the call. [`StoreError::Unavailable`] for a limiter on any other store, which is not called. The same
    /// error for a change of keys while another one is written to a [`Journal`](crate::memory::Journal).
    #[inline]
    pub fn now(self) -> Result<T, E> {
        if !self.in_memory {
            return Err(StoreError::unavailable(NotInMemory).into());
        }
        match pin!(self.call).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => Err(StoreError::unavailable(Busy).into()),
        }
    }
}

impl<F: Future> Future for Answer<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().call.poll(context)
    }
}

#[derive(Debug, Error)]
#[error("this limiter is not in memory: await the call instead of now()")]
struct NotInMemory;

#[derive(Debug, Error)]
#[error("another change of keys is under way: await the call instead of now()")]
struct Busy;
