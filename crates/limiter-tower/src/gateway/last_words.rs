//! A stream that ends with an error event of its API if its meter ends it.

use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body;
use limiter::stream::{Api, StreamError};
use memchr::memrchr2;

use super::config::GatewayConfig;
use super::rewritten::{Rewrite, Rewritten};
use crate::problem::Problem;
use crate::refusal::Refusal;

/// Ends a stream of server-sent events with an error event of its API if its meter ends it. An upstream error stays an
/// error.
pub(super) fn last_words<B>(
    body: B,
    config: Arc<GatewayConfig>,
    api: Api,
) -> Rewritten<B, LastWords>
where
    B: Body<Data = Bytes, Error = StreamError>,
{
    Rewritten::new(body, LastWords { config, api, held: BytesMut::new() })
}

/// Holds back an incomplete line, up to [`MAX_HELD_BYTES`], so that the last event does not land within it.
pub(super) struct LastWords {
    config: Arc<GatewayConfig>,
    api: Api,
    held: BytesMut,
}

impl Rewrite<StreamError> for LastWords {
    fn push(&mut self, piece: Bytes) -> Bytes {
        whole_lines(&mut self.held, piece)
    }

    fn end(&mut self) -> Bytes {
        mem::take(&mut self.held).freeze()
    }

    fn fail(&mut self, error: StreamError) -> Result<Bytes, StreamError> {
        if matches!(error, StreamError::Upstream(_)) {
            return Err(error);
        }
        // The line was not passed on, and not charged.
        self.held.clear();
        Ok(last_event(&self.config, self.api, error))
    }

    fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    fn longest(&self, _: u64) -> Option<u64> {
        None
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
