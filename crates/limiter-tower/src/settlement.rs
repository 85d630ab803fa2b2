//! The cost of a call, by its response.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::Bytes;
use http::HeaderMap;
use http::response;
use limiter::{Reservation, Totals};
use tokio::runtime::Handle;

/// The settlement of the estimate that a call was charged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is corrected to the actual cost of the call. Absent totals stay as estimated.
    Settle(Totals),
    /// All of it is taken back, the request too: the call never went upstream.
    Cancel,
    /// It stands as the final charge. The reservation ends, so that it takes no place among the open ones of its key.
    Keep,
}

impl From<Totals> for Settlement {
    fn from(totals: Totals) -> Self {
        Self::Settle(totals)
    }
}

/// How the body of a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyEnd {
    /// All of it went to the server that sends it.
    Complete,
    /// It broke off with an error.
    Failed,
    /// It was dropped before its end: the client went away, or wanted no more.
    Dropped,
}

/// A meter of the response of one call, which decides the settlement.
///
/// It sees each part of the body just before it is sent; `settlement` is called once, after the last. For a body that
/// was dropped early or failed, that method settles by the parts seen so far, or keeps the estimate.
///
/// If a method panics, the answer goes on, the estimate stands, and a warning names key and reservation. No method is
/// called after that, nor while the thread unwinds from another panic.
///
/// Where the head of the response says it all, the function given to
/// [`reserve`](crate::RateLimitLayerBuilder::reserve) can return [`Totals`] or a [`Settlement`] at once.
///
/// ```
/// use bytes::Bytes;
/// use limiter::Totals;
/// use limiter_tower::{BodyEnd, ResponseCost, Settlement};
///
/// /// One output token for each line of the answer.
/// #[derive(Default)]
/// struct Lines(u64);
///
/// impl ResponseCost for Lines {
///     fn data(&mut self, data: &Bytes) {
///         self.0 += data.iter().filter(|byte| **byte == b'\n').count() as u64;
///     }
///
///     fn settlement(&mut self, _: BodyEnd) -> Settlement {
///         match Totals::unchanged().with_output_tokens(self.0) {
///             Ok(totals) => totals.into(),
///             Err(_) => Settlement::Keep, // more than can be counted
///         }
///     }
/// }
/// ```
pub trait ResponseCost: Send + 'static {
    /// Some bytes of the body are about to be sent.
    fn data(&mut self, data: &Bytes) {
        let _ = data;
    }

    /// The trailers are about to be sent.
    fn trailers(&mut self, trailers: &HeaderMap) {
        let _ = trailers;
    }

    /// Returns the settlement of the estimate, after the end of the body.
    fn settlement(&mut self, end: BodyEnd) -> Settlement;
}

impl ResponseCost for Settlement {
    fn settlement(&mut self, _: BodyEnd) -> Settlement {
        *self
    }
}

impl ResponseCost for Totals {
    fn settlement(&mut self, _: BodyEnd) -> Settlement {
        Settlement::Settle(*self)
    }
}

/// The function that looks at the head of a response.
pub(crate) type CostOf = dyn Fn(&response::Parts) -> Box<dyn ResponseCost> + Send + Sync;

/// A settlement under way. The store repeats it; a failure here is logged, and the estimate stands.
///
/// If it is dropped before its end, for example when the client leaves, it goes on without a waiter. Most stores in
/// memory finish at once. The others need a task, and so a tokio runtime: that of the thread, or else that of the last
/// poll. Without a runtime the estimate stands, and a warning says so.
pub(crate) struct Settling {
    settlement: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    runtime: Option<Handle>,
}

impl Settling {
    pub(crate) fn start(reservation: Reservation, settlement: Settlement) -> Self {
        Self { settlement: Some(Box::pin(settle(reservation, settlement))), runtime: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(settlement) = &mut self.settlement {
            if settlement.as_mut().poll(cx).is_pending() {
                self.runtime = Handle::try_current().ok().or_else(|| self.runtime.take());
                return Poll::Pending;
            }
            self.settlement = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let Some(mut settlement) = self.settlement.take() else { return };
        let here = Handle::try_current().ok();
        // A settlement that has waited in a runtime cannot go on outside of one.
        if here.is_none()
            && let Some(runtime) = self.runtime.take()
        {
            runtime.spawn(settlement);
            return;
        }
        // In a panic nothing runs here: the store may be the application's own, and panic too.
        let done = !thread::panicking()
            && settlement.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if !done && let Some(runtime) = here {
            runtime.spawn(settlement);
        }
    }
}

async fn settle(mut reservation: Reservation, settlement: Settlement) {
    let outcome = match settlement {
        Settlement::Settle(totals) => reservation.settle(&totals).await,
        Settlement::Cancel => reservation.cancel().await,
        Settlement::Keep => reservation.settle(&Totals::unchanged()).await,
    };
    if let Err(error) = outcome {
        let reason = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(
            key = %reservation.key(), reservation = %reservation.id(), %error, reason,
            "a call could not be settled"
        );
    }
}
