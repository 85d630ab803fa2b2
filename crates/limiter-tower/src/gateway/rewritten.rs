//! A body whose bytes are rewritten while they are sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// A change to the data of a body, in pieces cut anywhere.
pub(super) trait Rewrite<E> {
    /// Takes a piece, and returns the bytes to pass on now.
    fn push(&mut self, piece: Bytes) -> Bytes;

    /// Returns the bytes that are held back, at the end of the data.
    fn end(&mut self) -> Bytes;

    /// Returns the last bytes instead of an error, or the error.
    fn fail(&mut self, error: E) -> Result<Bytes, E> {
        Err(error)
    }

    /// Whether bytes are held back.
    fn is_holding(&self) -> bool;

    /// Returns the most bytes that are left to pass on, if at most `rest` come in.
    fn longest(&self, rest: u64) -> Option<u64>;
}

pin_project! {
    /// A body that passes on what its [`Rewrite`] returns.
    pub(super) struct Rewritten<B, R>
    where
        B: Body,
    {
        #[pin]
        body: B,
        pub(super) rewrite: R,
        // The trailers or the error to pass on after the held bytes.
        next: Option<Result<Frame<Bytes>, B::Error>>,
        has_ended: bool,
    }
}

impl<B: Body, R> Rewritten<B, R> {
    pub(super) const fn new(body: B, rewrite: R) -> Self {
        Self { body, rewrite, next: None, has_ended: false }
    }
}

impl<B: Body<Data = Bytes>, R: Rewrite<B::Error>> Body for Rewritten<B, R> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        loop {
            if let Some(frame) = this.next.take() {
                return Poll::Ready(Some(frame));
            }
            if *this.has_ended {
                return Poll::Ready(None);
            }
            let passed = match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => this.rewrite.push(piece),
                    Err(trailers) => {
                        *this.next = Some(Ok(trailers));
                        this.rewrite.end()
                    }
                },
                Some(Err(error)) => match this.rewrite.fail(error) {
                    Ok(last) => {
                        *this.has_ended = true;
                        last
                    }
                    Err(error) => {
                        *this.next = Some(Err(error));
                        this.rewrite.end()
                    }
                },
                None => {
                    *this.has_ended = true;
                    this.rewrite.end()
                }
            };
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_empty = self.next.is_none() && !self.rewrite.is_holding();
        is_empty && (self.has_ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        let mut hint = SizeHint::new();
        let rest = if self.has_ended { Some(0) } else { self.body.size_hint().upper() };
        if let Some(longest) = rest.and_then(|rest| self.rewrite.longest(rest)) {
            hint.set_upper(longest);
        }
        hint
    }
}
