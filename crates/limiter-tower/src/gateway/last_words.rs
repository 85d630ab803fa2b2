//! A stream that ends with an error event of its API if its meter ends it.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use limiter::{Api, StreamError};
use memchr::memrchr2;
use pin_project_lite::pin_project;

use super::config::GatewayConfig;
use crate::problem::Problem;
use crate::refusal::Refusal;

pin_project! {
    /// Server-sent events that a meter may end. The meter's error becomes the last event; an upstream error stays an
    /// error.
    ///
    /// An incomplete line is held back, up to [`MAX_HELD_BYTES`], so that the last event does not land within it.
    pub(super) struct LastWords<B> {
        #[pin]
        body: B,
        config: Arc<GatewayConfig>,
        api: Api,
        held: BytesMut,
        // The frame or error to pass on after the held bytes.
        next: Option<Result<Frame<Bytes>, StreamError>>,
        has_ended: bool,
    }
}

impl<B> LastWords<B> {
    pub(super) fn new(body: B, config: Arc<GatewayConfig>, api: Api) -> Self {
        Self { body, config, api, held: BytesMut::new(), next: None, has_ended: false }
    }
}

impl<B: Body<Data = Bytes, Error = StreamError>> Body for LastWords<B> {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
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
                    Ok(data) => whole_lines(this.held, data),
                    Err(trailers) => {
                        *this.next = Some(Ok(trailers));
                        mem::take(this.held).freeze()
                    }
                },
                Some(Err(error @ StreamError::Upstream(_))) => {
                    *this.next = Some(Err(error));
                    mem::take(this.held).freeze()
                }
                Some(Err(error)) => {
                    // The line was not passed on, and not charged.
                    this.held.clear();
                    *this.has_ended = true;
                    last_event(this.config, *this.api, error)
                }
                None => {
                    *this.has_ended = true;
                    mem::take(this.held).freeze()
                }
            };
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none()
            && (self.has_ended || (self.held.is_empty() && self.body.is_end_stream()))
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// Returns the bytes up to the end of the last line, and holds back the rest.
fn whole_lines(held: &mut BytesMut, mut data: Bytes) -> Bytes {
    let mut end = memrchr2(b'\n', b'\r', &data).map_or(0, |end| end + 1);
    let held_before = if end == 0 { held.len() } else { 0 };
    if held_before + data.len() - end > MAX_HELD_BYTES {
        end = data.len();
    }
    let rest = data.split_off(end);
    let passed = if held.is_empty() || data.is_empty() {
        data
    } else {
        held.extend_from_slice(&data);
        held.split().freeze()
    };
    held.extend_from_slice(&rest);
    passed
}

/// Returns the error event. The two line ends before it complete an unfinished line and event; otherwise they mean
/// nothing.
fn last_event(config: &GatewayConfig, api: Api, error: StreamError) -> Bytes {
    let event = match error {
        StreamError::Denied(denied) => config.last_event(api, &Refusal::Denied(denied)),
        StreamError::Unknown(error) => config.last_event(api, &Refusal::from(error)),
        other => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "internal", other.to_string()).to_api_event(api)
        }
    };
    let mut last = BytesMut::with_capacity(event.len() + 2);
    last.extend_from_slice(b"\n\n");
    last.extend_from_slice(&event);
    last.freeze()
}

/// 64 KiB: an event of text has less than 1 KiB. A longer line, such as a picture, is passed on as it comes.
const MAX_HELD_BYTES: usize = 64 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_passed_on() {
        let text = "data: a\n\ndata: bc\r\n\r\n: d\rdata: e";
        for length in 1..=text.len() {
            let mut held = BytesMut::new();
            let mut passed = Vec::new();
            for piece in text.as_bytes().chunks(length) {
                passed.extend(whole_lines(&mut held, Bytes::copy_from_slice(piece)));
                assert!(passed.is_empty() || passed.ends_with(b"\n") || passed.ends_with(b"\r"));
            }
            assert_eq!(held, "data: e", "in pieces of {length}");
            passed.extend(held);
            assert_eq!(passed, text.as_bytes());
        }
    }

    #[test]
    fn a_line_beyond_the_bound_is_passed_on_as_it_comes() {
        for length in [1_000, MAX_HELD_BYTES, 3 * MAX_HELD_BYTES] {
            let mut held = BytesMut::new();
            let mut passed = 0;
            for _ in 0..(4 * MAX_HELD_BYTES).div_ceil(length) {
                passed += whole_lines(&mut held, vec![b'x'; length].into()).len();
                assert!(held.len() <= MAX_HELD_BYTES);
            }
            assert!(passed >= 3 * MAX_HELD_BYTES, "{passed}");
        }
    }
}
