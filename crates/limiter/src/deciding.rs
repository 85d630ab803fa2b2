//! A decision: made at once in memory, awaited on any other store.

use std::pin::Pin;
use std::task::{Context, Poll};

use limiter_core::{Decision, StoreError};

use crate::observe::{Call, Observer};

/// The future of a decision. In memory it is small and boxes nothing: a decision there takes less time than a box.
pub(crate) enum Deciding<'a, C, D> {
    /// By `decide`, and observed as `call`.
    Now { observer: &'a Observer, call: C, decide: D },
    /// By the store, observed.
    Later(Pin<Box<dyn Future<Output = Result<Decision, StoreError>> + Send + 'a>>),
}

impl<'a, C, D> Future for Deciding<'_, C, D>
where
    C: Fn() -> Call<'a> + Unpin,
    D: Fn() -> Decision + Unpin,
{
    type Output = Result<Decision, StoreError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now { observer, call, decide } => {
                let begun = observer.begin(&call());
                let mut answer = Poll::Ready(Ok(begun.in_scope(decide)));
                if let Poll::Ready(Ok(decision)) = &mut answer
                    && !observer.ignores(decision)
                {
                    observer.decided(&call(), &begun, decision);
                }
                answer
            }
            Self::Later(answer) => answer.as_mut().poll(context),
        }
    }
}
