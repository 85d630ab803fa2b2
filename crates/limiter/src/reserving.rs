//! A `reserve` whose caller leaves before its answer: the call goes on, and its charge is taken back, or a warning names
//! it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use limiter_core::{AssetId, Charge, KeyId, RequestId, ReservationError, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::limiter::Limiter;
use crate::reservation::Reserved;

type Answer = Result<Reserved, ReservationError>;
type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A `reserve` under an id that was drawn for it, on a store that is not in memory.
///
/// The caller does not have the id before the answer. If this future is dropped earlier, the call goes on as a task,
/// which cancels the reservation. The future owns all data that the task needs.
pub(crate) struct Reserving {
    limiter: Limiter,
    /// `None` after the answer.
    call: Option<Call>,
    /// Set from the first poll until the answer.
    unanswered: Option<Unanswered>,
    key: KeyId,
    id: RequestId,
    /// The runtime of the last poll: the future may be dropped on a thread without one.
    runtime: Option<Handle>,
    /// The bound on calls that go on without their callers.
    places: &'static Semaphore,
}

impl Reserving {
    pub(crate) fn new(
        limiter: Limiter,
        key: KeyId,
        asset: Option<AssetId>,
        estimate: Charge,
        id: RequestId,
        ttl: Duration,
    ) -> Self {
        let (reserves, of, under) = (limiter.clone(), key.clone(), id.clone());
        let call = Box::pin(async move {
            reserves.reserve_here(&of, asset.as_ref(), &estimate, &under, ttl).await
        });
        Self {
            limiter,
            call: Some(call),
            unanswered: None,
            key,
            id,
            runtime: None,
            places: &PLACES,
        }
    }
}

impl Future for Reserving {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let this = &mut *self;
        if let Ok(runtime) = Handle::try_current() {
            this.runtime = Some(runtime);
        }
        if this.unanswered.is_none() {
            this.unanswered = Some(Unanswered::new(&this.key, &this.id));
        }
        let call = this.call.as_mut().expect("a future that is ready is not polled again");
        let answer = ready!(call.as_mut().poll(cx));
        this.call = None;
        if let Some(unanswered) = this.unanswered.take() {
            unanswered.answered();
        }
        Poll::Ready(answer)
    }
}

impl Drop for Reserving {
    fn drop(&mut self) {
        let (Some(call), Some(unanswered)) = (self.call.take(), self.unanswered.take()) else {
            return;
        };
        let runtime = Handle::try_current().ok().or_else(|| self.runtime.take());
        // Without a runtime or a permit, and when the runtime ends before the task, `unanswered` warns.
        if let (Some(runtime), Ok(place)) = (runtime, self.places.try_acquire()) {
            let calling_off = call_off(self.limiter.clone(), call, unanswered);
            runtime.spawn(async move {
                calling_off.await;
                drop(place);
            });
        }
    }
}

/// Waits for the answer of a call whose caller has left, and takes its charge back.
async fn call_off(limiter: Limiter, call: Call, unanswered: Unanswered) {
    match call.await {
        Ok(Reserved::Allowed(mut reservation)) => {
            unanswered.answered();
            // If the cancellation fails, the guard is still open, and warns.
            if let Err(error) = reservation.cancel().await {
                tracing::debug!(%error, "a reservation whose caller has left could not be cancelled");
            }
        }
        Err(ReservationError::Store(StoreError::OutcomeUnknown(_))) => {
            let cancelled = limiter.cancel(&unanswered.key, &unanswered.id).await;
            // An unknown reservation was never made.
            if matches!(cancelled, Ok(_) | Err(ReservationError::Unknown(_))) {
                unanswered.answered();
            }
        }
        // Nothing was charged.
        Ok(Reserved::Denied(_)) | Err(_) => unanswered.answered(),
    }
}

/// A reservation without an answer, which may have been made. Warns if it is dropped in that state.
pub(crate) struct Unanswered {
    key: KeyId,
    id: RequestId,
    open: bool,
}

impl Unanswered {
    pub(crate) fn new(key: &KeyId, id: &RequestId) -> Self {
        Self { key: key.clone(), id: id.clone(), open: true }
    }

    pub(crate) fn answered(mut self) {
        self.open = false;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if self.open {
            tracing::warn!(
                key = %self.key,
                reservation = %self.id,
                "a reservation was dropped before its answer: if it was made, its estimate stands as charged, until it is \
                 settled or cancelled under this id"
            );
        }
    }
}

/// The most calls that go on without their callers at a time, about 2 kB each. If the store answers within 10 ms, they
/// suffice for 400,000 leaving callers a second. If it does not answer, they bound the memory.
static PLACES: Semaphore = Semaphore::const_new(4_096);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;

    /// If the store never answers, the permits bound the calls that go on without their callers.
    #[tokio::test]
    async fn a_call_for_which_there_is_no_place_ends_with_its_caller() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let kept = Arc::new(());
        for _ in 0..3 {
            let held = Arc::clone(&kept);
            let call = async move {
                let _held = held;
                pending().await
            };
            let (key, id) = ("ci".parse().unwrap(), "job-7".parse().unwrap());
            let mut reserving = Reserving::new(
                Limiter::in_memory(),
                key,
                None,
                Charge::request(),
                id,
                Limiter::RESERVATION_TTL,
            );
            reserving.call = Some(Box::pin(call));
            reserving.places = &ONE;
            {
                let mut polled = pin!(&mut reserving);
                let cx = &mut Context::from_waker(Waker::noop());
                assert!(polled.as_mut().poll(cx).is_pending());
            }
            drop(reserving);
            assert_eq!(Arc::strong_count(&kept), 2, "one goes on");
        }
    }
}
