//! Request bodies that a handler left unread.
//!
//! The connection is reused only after a body that was read to its end. The rest of a small body is read and discarded
//! before the answer begins. Any other body is answered with `Connection: close`, so that a client never sends its next
//! request on a connection that ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// Wraps a body, and returns with it the handle to its unread rest.
pub(crate) fn watch(incoming: Incoming, expects_continue: bool) -> (Body, Remainder) {
    if incoming.is_end_stream() {
        return (Body::empty(), Remainder(None));
    }
    let (back, remainder) = oneshot::channel();
    let lent = Lent { incoming: Some(incoming), back: Some(back), must_ask: expects_continue };
    (Body::new(lent), Remainder(Some(remainder)))
}

/// Handle to the rest of a body that a handler left unread.
pub(crate) struct Remainder(Option<oneshot::Receiver<Left>>);

impl Remainder {
    /// Reads the rest, within bounds. Returns whether the body, and with it the request, has reached its end.
    pub(crate) async fn drain(self) -> bool {
        let Some(mut left) = self.0 else { return true };
        match left.try_recv() {
            Ok(Some(incoming)) => {
                tokio::time::timeout(DRAIN_TIME, discard(incoming)).await.unwrap_or(false)
            }
            Err(TryRecvError::Closed) => true,
            // The body is broken, was never asked for with `100 Continue`, or is still held by a task.
            Ok(None) | Err(TryRecvError::Empty) => false,
        }
    }
}

/// `None` for a body that cannot be drained. Nothing is sent for a body that was read to its end.
type Left = Option<Incoming>;

/// A body lent to a handler. Dropped before its end, it hands back the rest.
struct Lent {
    incoming: Option<Incoming>,
    back: Option<oneshot::Sender<Left>>,
    /// Whether the client waits for `100 Continue` before it sends the body, and the handler has read none of it.
    must_ask: bool,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.must_ask = false;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            None => {
                self.incoming = None;
                self.back = None;
            }
            Some(Err(_)) => {
                self.incoming = None;
                self.hand_back(None);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Lent {
    fn hand_back(&mut self, left: Left) {
        if let Some(back) = self.back.take() {
            // The connection may be gone; then no drain is needed.
            let _gone = back.send(left);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let left = self.incoming.take().filter(|incoming| !incoming.is_end_stream());
        if left.is_some() {
            let left = left.filter(|_| !self.must_ask);
            self.hand_back(left);
        }
    }
}

async fn discard(mut incoming: Incoming) -> bool {
    let mut room = DRAIN_BYTES;
    if HttpBody::size_hint(&incoming).lower() > room {
        return false;
    }
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return false };
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        match room.checked_sub(bytes) {
            Some(less) => room = less,
            None => return false,
        }
    }
    true
}

/// Bytes to drain: far more than the `{}` that the aiXplain SDK sends with every GET, and cheaper than a new
/// connection.
const DRAIN_BYTES: u64 = 64 << 10;
/// Time to drain: a small body sent with its head arrives within a round trip.
const DRAIN_TIME: Duration = Duration::from_secs(1);
