//! The three kinds of response bodies of a layer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A response body: that of a refusal, that of the service as it is, or one that the layer watches.
    #[project = AnyBodyProjection]
    #[derive(Debug)]
    pub(crate) enum AnyBody<B, W: ?Sized> {
        Refusal { body: Option<Bytes> },
        Plain { #[pin] body: B },
        // Boxed, so that the other kinds stay small: a response is moved often on its way out.
        Watched { body: Pin<Box<W>> },
    }
}

impl<B, W: ?Sized> AnyBody<B, W> {
    pub(crate) fn refusal(body: Bytes) -> Self {
        Self::Refusal { body: Some(body).filter(|body| !body.is_empty()) }
    }
}

impl<B: Body<Data = Bytes>, W: Body<Data = Bytes> + ?Sized> AnyBody<B, W> {
    /// Polls for the next frame. The service's own errors are converted to those of watched bodies.
    pub(crate) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        convert: impl FnOnce(B::Error) -> W::Error,
    ) -> Poll<Option<Result<Frame<Bytes>, W::Error>>> {
        match self.project() {
            AnyBodyProjection::Refusal { body } => {
                Poll::Ready(body.take().map(|body| Ok(Frame::data(body))))
            }
            AnyBodyProjection::Plain { body } => body.poll_frame(cx).map_err(convert),
            AnyBodyProjection::Watched { body } => body.as_mut().poll_frame(cx),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Refusal { body } => body.is_none(),
            Self::Plain { body } => body.is_end_stream(),
            Self::Watched { body } => body.is_end_stream(),
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Refusal { body } => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Plain { body } => body.size_hint(),
            Self::Watched { body } => body.size_hint(),
        }
    }
}

/// The size hint of a body whose last frame is held back: that of the frame.
pub(crate) fn size_of<T: bytes::Buf>(last: &Frame<T>) -> SizeHint {
    SizeHint::with_exact(last.data_ref().map_or(0, bytes::Buf::remaining) as u64)
}
