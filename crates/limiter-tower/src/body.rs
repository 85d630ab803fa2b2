//! The body of a response, which is watched if its call is settled.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use limiter::__private::UserCode;
use limiter::Reservation;
use pin_project_lite::pin_project;

use crate::any_body::{AnyBody, body_of, size_of};
use crate::settlement::{BodyEnd, ResponseCost, Settlement, Settling};

pin_project! {
    /// The body of a response that went through [`RateLimit`](crate::RateLimit).
    ///
    /// If a call is settled, the end of its body waits for the settlement: a client that has read all of it sees the
    /// final charge in its usage. If the length of the body is known, its last part waits. The wait is bounded by the
    /// deadline of the store. If the body is dropped before its end, a task settles the call. If it is dropped in a
    /// panic, the estimate stands, and a warning names key and reservation.
    #[derive(Debug)]
    pub struct ResponseBody<B>
    where
        B: Body<Data = Bytes>,
    {
        #[pin]
        kind: AnyBody<B, SettledBody<B>>,
    }
}

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    pub(crate) fn refusal(body: Bytes) -> Self {
        Self { kind: AnyBody::refusal(body) }
    }

    pub(crate) fn plain(body: B) -> Self {
        Self { kind: AnyBody::Plain { body, convert: |error| error } }
    }

    pub(crate) fn settled(body: B, reservation: Reservation, cost: Box<dyn ResponseCost>) -> Self {
        let account = Some(Account { reservation, cost: Some(cost) });
        let body = SettledBody { body, account, settling: None, last: None };
        Self { kind: AnyBody::Watched { body: Box::pin(body) } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    body_of!(kind, B::Error);
}

pin_project! {
    /// A body whose end settles a reservation.
    struct SettledBody<B>
    where
        B: Body,
    {
        #[pin]
        body: B,
        // Until the end of the body.
        account: Option<Account>,
        // From the end of the body until the call is settled.
        settling: Option<Settling>,
        // The last frame or error, sent after the settlement.
        last: Option<Result<Frame<B::Data>, B::Error>>,
    }

    impl<B: Body> PinnedDrop for SettledBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // The settlement goes on without a waiter; see `Settling`. In a panic neither the body nor the cost is
            // called, since a second panic would abort the process.
            if let Some(account) = this.account.take() {
                let complete = !thread::panicking() && is_complete(&*this.body);
                drop(account.close(if complete { BodyEnd::Complete } else { BodyEnd::Dropped }));
            }
        }
    }
}

/// A reservation, and the cost to settle it with: `None` once that has panicked.
struct Account {
    reservation: Reservation,
    cost: Option<Box<dyn ResponseCost>>,
}

impl Account {
    /// Starts the settlement. `None` if the cost has panicked: the reservation is then dropped here, which keeps the
    /// estimate and warns.
    fn close(self, end: BodyEnd) -> Option<Settling> {
        let mut cost = self.cost?;
        let settlement: Settlement = RESPONSE_COST.run(move || cost.settlement(end))?;
        Some(Settling::start(self.reservation, settlement))
    }

    /// Shows the frame to the cost. A panic does not end the answer, and a cost that has panicked is not called again.
    fn see(&mut self, frame: &Frame<Bytes>) {
        let Some(mut cost) = self.cost.take() else { return };
        self.cost = RESPONSE_COST.run(move || {
            if let Some(data) = frame.data_ref() {
                cost.data(data);
            }
            if let Some(trailers) = frame.trailers_ref() {
                cost.trailers(trailers);
            }
            cost
        });
    }
}

impl<B: Body<Data = Bytes>> Body for SettledBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if let Some(account) = this.account {
            let frame = ready!(this.body.as_mut().poll_frame(cx));
            let end = match &frame {
                None => BodyEnd::Complete,
                Some(Err(_)) => BodyEnd::Failed,
                Some(Ok(part)) => {
                    account.see(part);
                    if !part.is_trailers() && !is_complete(&*this.body) {
                        return Poll::Ready(frame);
                    }
                    BodyEnd::Complete
                }
            };
            *this.settling = this.account.take().and_then(|account| account.close(end));
            *this.last = frame;
        }
        if let Some(settling) = this.settling {
            ready!(settling.poll(cx));
            *this.settling = None;
        }
        Poll::Ready(this.last.take())
    }

    fn is_end_stream(&self) -> bool {
        self.account.is_none() && self.settling.is_none() && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.account, &self.last) {
            (Some(_), _) => self.body.size_hint(),
            (None, Some(Ok(part))) => size_of(part),
            (None, _) => SizeHint::with_exact(0),
        }
    }
}

/// Whether the body has ended. A server that knows the length of a body does not poll for its end.
fn is_complete(body: &impl Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

static RESPONSE_COST: UserCode = UserCode::new("response_cost");
