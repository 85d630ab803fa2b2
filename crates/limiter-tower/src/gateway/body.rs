//! The body of a response that went through a gateway's layer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use limiter::store::BoxError;
use limiter::stream::StreamError;
use pin_project_lite::pin_project;

use crate::any_body::{AnyBody, body_of, size_of};

pin_project! {
    /// The body of a response that went through a [`Gateway`](super::Gateway).
    ///
    /// The end of a counted answer waits until the call is settled: see [`StreamMeter`](limiter::stream::StreamMeter). If the
    /// body is dropped earlier, a task settles the tokens seen until then.
    #[derive(Debug)]
    pub struct GatewayBody<R>
    where
        R: Body,
    {
        #[pin]
        kind: AnyBody<R, Metered>,
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

impl<R: Body> GatewayBody<R> {
    pub(super) fn refusal(body: Bytes) -> Self {
        Self { kind: AnyBody::refusal(body) }
    }

    pub(super) fn plain(body: R) -> Self
    where
        R::Error: Into<BoxError>,
    {
        let convert = |error: R::Error| StreamError::Upstream(error.into());
        Self { kind: AnyBody::Plain { body, convert } }
    }

    pub(super) fn metered(
        body: impl Body<Data = Bytes, Error = StreamError> + Send + 'static,
    ) -> Self {
        let metered = Metered { body: Box::pin(body), last: None, next: None };
        Self { kind: AnyBody::Watched { body: Box::pin(metered) } }
    }
}

impl<R> Body for GatewayBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    body_of!(kind, StreamError);
}

impl Body for Metered {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
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
            Some(frame) => size_of(frame),
        }
    }
}
