//! The three kinds of response bodies of a layer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A response body: that of a refusal, that of the service as it is, or one that the layer watches.
    #[project = AnyBodyProjection]
    pub(crate) enum AnyBody<B, W: ?Sized>
    where
        B: Body,
        W: Body,
    {
        Refusal { body: Option<Bytes> },
        // The errors of the service are converted to those of watched bodies.
        Plain { #[pin] body: B, convert: fn(B::Error) -> W::Error },
        // Boxed, so that the other kinds stay small: a response is moved often on its way out.
        Watched { body: Pin<Box<W>> },
    }
}

impl<B: Body, W: Body + ?Sized> AnyBody<B, W> {
    pub(crate) fn refusal(body: Bytes) -> Self {
        Self::Refusal { body: Some(body).filter(|body| !body.is_empty()) }
    }
}

impl<B: Body<Data = Bytes>, W: Body<Data = Bytes> + ?Sized> Body for AnyBody<B, W> {
    type Data = Bytes;
    type Error = W::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, W::Error>>> {
        match self.project() {
            AnyBodyProjection::Refusal { body } => {
                Poll::Ready(body.take().map(|body| Ok(Frame::data(body))))
            }
            AnyBodyProjection::Plain { body, convert } => body.poll_frame(cx).map_err(convert),
            AnyBodyProjection::Watched { body } => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Refusal { body } => body.is_none(),
            Self::Plain { body, .. } => body.is_end_stream(),
            Self::Watched { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Refusal { body } => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Plain { body, .. } => body.size_hint(),
            Self::Watched { body } => body.size_hint(),
        }
    }
}

impl<B: Body, W: Body + ?Sized> fmt::Debug for AnyBody<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refusal { .. } => "refusal",
            Self::Plain { .. } => "plain",
            Self::Watched { .. } => "watched",
        })
    }
}

/// Implements the methods of a [`Body`] by those of a pinned field.
macro_rules! body_of {
    ($field:ident, $error:ty) => {
        type Data = Bytes;
        type Error = $error;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, $error>>> {
            self.project().$field.poll_frame(cx)
        }

        fn is_end_stream(&self) -> bool {
            self.$field.is_end_stream()
        }

        fn size_hint(&self) -> http_body::SizeHint {
            self.$field.size_hint()
        }
    };
}

/// The size hint of a body whose last frame is held back: that of the frame.
pub(crate) fn size_of<T: bytes::Buf>(last: &Frame<T>) -> SizeHint {
    SizeHint::with_exact(last.data_ref().map_or(0, bytes::Buf::remaining) as u64)
}

pub(crate) use body_of;
