//! Closing a connection whose client still sends.
//!
//! Closing a socket with unread input resets the connection, and a client that has not yet read the answer never sees
//! it. So the write half is shut down first. Then input is discarded until the client closes too, within bounds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A stream whose `shutdown` discards the rest of the input, if more is due.
pub(crate) struct Lingering<S> {
    stream: S,
    input_is_due: InputIsDue,
    discarding: Option<Discarding>,
}

/// A flag, shared by clones: an answer was given before the request was read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputIsDue(Arc<AtomicBool>);

struct Discarding {
    room: usize,
    until: Pin<Box<Sleep>>,
}

impl InputIsDue {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Lingering<S> {
    pub(crate) const fn new(stream: S, input_is_due: InputIsDue) -> Self {
        Self { stream, input_is_due, discarding: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.discarding.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let discarding = this.discarding.get_or_insert_with(|| Discarding {
            room: LINGER_BYTES,
            until: Box::pin(tokio::time::sleep(LINGER_TIME)),
        });
        loop {
            let mut piece = [0; PIECE_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut this.stream).poll_read(context, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    // Set for unexpected input too: a head that is too long, or bytes that are not HTTP.
                    this.input_is_due.set();
                    match discarding.room.checked_sub(piece.filled().len()) {
                        Some(room) => discarding.room = room,
                        None => return Poll::Ready(Ok(())),
                    }
                }
                // The client has closed its side, or the connection is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if this.input_is_due.is_set() => {
                    ready!(discarding.until.as_mut().poll(context));
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

/// Bytes discarded before the client may see a reset: eight times the longest body by default.
const LINGER_BYTES: usize = 8 << 20;
/// Time for a client to notice that it should stop; it occupies a connection meanwhile.
const LINGER_TIME: Duration = Duration::from_secs(5);
/// Bytes read at a time, into a buffer on the stack.
const PIECE_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// Closes the server's side, and returns how long that took.
    async fn close(stream: DuplexStream, is_due: bool) -> Duration {
        let (due, started) = (InputIsDue::default(), Instant::now());
        if is_due {
            due.set();
        }
        Lingering::new(stream, due).shutdown().await.unwrap();
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_waits_only_for_input_that_is_due_and_only_so_long() {
        for (is_due, waited) in [(false, Duration::ZERO), (true, LINGER_TIME)] {
            let (server, _silent) = duplex(64);
            assert_eq!(close(server, is_due).await, waited);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn input_is_discarded_until_the_client_closes() {
        let (server, mut client) = duplex(64);
        let closing = tokio::spawn(close(server, true));
        client.write_all(&[0; 10_000]).await.unwrap();
        // The client sees the end of the answer before it closes.
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        drop(client);
        assert!(closing.await.unwrap() < LINGER_TIME);
    }

    /// Input that has already arrived is discarded even without the flag.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_for_ever_is_left_in_time() {
        let (server, mut client) = duplex(64 << 10);
        client.write_all(&[0; 1]).await.unwrap();
        let endless = tokio::spawn(async move {
            let mut bytes = 0;
            while client.write_all(&[0; PIECE_BYTES]).await.is_ok() {
                bytes += PIECE_BYTES;
            }
            bytes
        });
        assert_eq!(close(server, false).await, Duration::ZERO);
        assert!(endless.await.unwrap() >= LINGER_BYTES);
    }
}
