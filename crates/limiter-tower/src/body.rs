//! The body of a response: the service's own, watched if the call is to be settled, or that of a refusal.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use limiter::{Reservation, UserCode};
use pin_project_lite::pin_project;

use crate::settlement::{BodyEnd, ResponseCost, Settlement, Settling};

pin_project! {
    /// The body of a response that went through [`RateLimit`](crate::RateLimit).
    ///
    /// Where a call is settled, the end of its body waits for that: who has read it all and looks at usage sees what the
    /// call did cost. With a body of known length it is the last part of it that waits. The wait is bounded by the
    /// deadline of the store. A body that is dropped before its end is settled by a task of its own.
    /// If it is dropped in a panic, the estimate stands, and a warning names key and reservation.
    #[derive(Debug)]
    pub struct ResponseBody<B>
    where
        B: Body,
    {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B>
    where
        B: Body,
    {
        Refusal { body: Option<Bytes> },
        Plain { #[pin] body: B },
        // Boxed, so that the others are not as large: a response is moved often on its way out.
        Settled { body: Pin<Box<SettledBody<B>>> },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(crate) const fn refusal(body: Bytes) -> Self {
        Self { kind: Kind::Refusal { body: Some(body) } }
    }

    pub(crate) const fn plain(body: B) -> Self {
        Self { kind: Kind::Plain { body } }
    }

    pub(crate) fn settled(body: B, reservation: Reservation, cost: Box<dyn ResponseCost>) -> Self {
        let account = Some(Account { reservation, cost: Some(cost) });
        let body = SettledBody { body, account, settling: None, last: None };
        Self { kind: Kind::Settled { body: Box::pin(body) } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Refusal { body } => {
                let body = body.take().filter(|body| !body.is_empty());
                Poll::Ready(body.map(|body| Ok(Frame::data(body))))
            }
            KindProjection::Plain { body } => body.poll_frame(cx),
            KindProjection::Settled { body } => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Refusal { body } => body.as_ref().is_none_or(Bytes::is_empty),
            Kind::Plain { body } => body.is_end_stream(),
            Kind::Settled { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Refusal { body } => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Kind::Plain { body } => body.size_hint(),
            Kind::Settled { body } => body.size_hint(),
        }
    }
}

pin_project! {
    /// A body whose end settles a reservation.
    struct SettledBody<B>
    where
        B: Body,
    {
        #[pin]
        body: B,
        // Until the end is seen.
        account: Option<Account>,
        // From then on until it is settled.
        settling: Option<Settling>,
        // What is sent after that, and nothing behind it.
        last: Option<Result<Frame<B::Data>, B::Error>>,
    }

    impl<B: Body> PinnedDrop for SettledBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // Both go on without a waiter; see `Settling`. In a panic neither the body nor the cost is called, since a
            // second panic would abort the process.
            if let Some(account) = this.account.take() {
                let complete = !thread::panicking() && is_complete(&*this.body);
                drop(account.close(if complete { BodyEnd::Complete } else { BodyEnd::Dropped }));
            }
        }
    }
}

/// A reservation, and the cost that it is settled with: `None` once that has panicked.
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
            (None, Some(Ok(part))) => {
                SizeHint::with_exact(part.data_ref().map_or(0, Bytes::len) as u64)
            }
            (None, _) => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body> std::fmt::Debug for SettledBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SettledBody").finish_non_exhaustive()
    }
}

/// Whether nothing more will come. A server that knows the length of a body does not ask for its end.
fn is_complete(body: &impl Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

static RESPONSE_COST: UserCode = UserCode::new("response_cost");
