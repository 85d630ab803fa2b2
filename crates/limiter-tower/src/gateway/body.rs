//! The body of a response that went through a gateway's layer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use limiter::{BoxError, StreamError};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that went through a [`Gateway`](super::Gateway).
    ///
    /// The end of a counted answer waits until the call is settled: see [`StreamMeter`](limiter::StreamMeter). If the
    /// body is dropped earlier, a task settles the tokens seen until then.
    pub struct GatewayBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<R> {
        Refusal { body: Option<Bytes> },
        Plain { #[pin] body: R },
        Metered { metered: Metered },
    }
}

/// A counted body. A server that knows the length does not poll for the end, so the last bytes wait for it.
struct Metered {
    body: Pin<Box<dyn Body<Data = Bytes, Error = StreamError> + Send>>,
    /// The last bytes, until the end has come.
    last: Option<Frame<Bytes>>,
    /// The frame or error that came instead of the end.
    next: Option<Result<Frame<Bytes>, StreamError>>,
}

impl<R> GatewayBody<R> {
    pub(super) fn refusal(body: Bytes) -> Self {
        Self { kind: Kind::Refusal { body: Some(body).filter(|body| !body.is_empty()) } }
    }

    pub(super) const fn plain(body: R) -> Self {
        Self { kind: Kind::Plain { body } }
    }

    pub(super) fn metered(
        body: impl Body<Data = Bytes, Error = StreamError> + Send + 'static,
    ) -> Self {
        Self {
            kind: Kind::Metered {
                metered: Metered { body: Box::pin(body), last: None, next: None },
            },
        }
    }
}

impl<R> Body for GatewayBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match self.project().kind.project() {
            KindProjection::Refusal { body } => {
                Poll::Ready(body.take().map(|body| Ok(Frame::data(body))))
            }
            KindProjection::Plain { body } => {
                body.poll_frame(cx).map_err(|error| StreamError::Upstream(error.into()))
            }
            KindProjection::Metered { metered } => metered.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Refusal { body } => body.is_none(),
            Kind::Plain { body } => body.is_end_stream(),
            Kind::Metered { metered } => metered.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Refusal { body } => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Kind::Plain { body } => body.size_hint(),
            Kind::Metered { metered } => metered.size_hint(),
        }
    }
}

impl Metered {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if let Some(frame) = self.next.take() {
            return Poll::Ready(Some(frame));
        }
        if self.last.is_none() {
            match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) if self.body.size_hint().exact() == Some(0) => {
                    self.last = Some(frame);
                }
                frame => return Poll::Ready(frame),
            }
        }
        self.next = ready!(self.body.as_mut().poll_frame(cx));
        Poll::Ready(self.last.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.next.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.last {
            None => self.body.size_hint(),
            Some(frame) => SizeHint::with_exact(frame.data_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl<R> fmt::Debug for GatewayBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Refusal { .. } => "Refusal",
            Kind::Plain { .. } => "Plain",
            Kind::Metered { .. } => "Metered",
        };
        f.debug_struct("GatewayBody").field("kind", &kind).finish_non_exhaustive()
    }
}
