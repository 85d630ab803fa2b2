//! A request body, read up to a bound.

use std::future::poll_fn;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http_body::Body;

use crate::refusal::Refusal;

/// Reads a body of at most this many bytes. A body in one frame is not copied.
pub(super) async fn read_body<B>(body: B, max_bytes: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
{
    let too_large = Refusal::TooLarge { max_bytes };
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large);
    }
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| Refusal::malformed(BROKEN_OFF))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > max_bytes {
            return Err(too_large);
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            // Memory grows with the bytes received: the length that a client declares is not trusted.
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

pub(crate) const BROKEN_OFF: &str = "the request body broke off: send it again";
