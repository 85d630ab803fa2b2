//! A provider's answer: it is counted, or its reservation is cancelled.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Response};
use http_body::Body;
use limiter::store::BoxError;
use limiter::stream::{AnswerReader, Api, CountTokens, Reported, StreamMeter};

use super::body::GatewayBody;
use super::call::{Metered, encoding};
use super::config::GatewayConfig;
use super::last_words::last_words;
use super::without_usage::WithoutUsageChunk;
use crate::settlement::{Settlement, Settling};

/// Adds the rate limit headers to an answer, and counts its body.
pub(super) async fn answer<R>(
    config: &Arc<GatewayConfig>,
    call: Box<Metered>,
    response: Response<R>,
) -> Response<GatewayBody<R>>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let Metered { api, reservation, asked_for_usage } = *call;
    let (mut parts, body) = response.into_parts();
    config.shared.write_headers(reservation.decision().into(), &mut parts.headers);
    if !parts.status.is_success() {
        // The provider did not run it.
        let mut settling = Settling::start(reservation, Settlement::Cancel);
        poll_fn(|cx| settling.poll(cx)).await;
        return Response::from_parts(parts, GatewayBody::plain(body));
    }
    let is_readable = encoding(&parts.headers).is_none();
    let mut reader = AnswerReader::new(api);
    if let Some(tokenizer) = &config.options.tokenizer {
        reader = reader.counting_by(Arc::clone(tokenizer));
    }
    let counter = Counter { reader, is_readable };
    let meter = StreamMeter::body(body, reservation, counter);
    if !is_readable || !is_event_stream(&parts.headers) {
        return Response::from_parts(parts, GatewayBody::metered(meter));
    }
    if asked_for_usage || config.options.ends_at_limit {
        // The answer may get shorter or longer.
        parts.headers.remove(CONTENT_LENGTH);
    }
    let body = match (config.options.ends_at_limit, asked_for_usage) {
        (false, false) => GatewayBody::metered(meter),
        (false, true) => GatewayBody::metered(WithoutUsageChunk::new(meter)),
        (true, asked_for_usage) => {
            let body = last_words(meter.ending_at_limit(), config.clone(), api);
            match asked_for_usage {
                true => GatewayBody::metered(WithoutUsageChunk::new(body)),
                false => GatewayBody::metered(body),
            }
        }
    };
    Response::from_parts(parts, body)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes().trim_ascii_start());
    let start = media_type.and_then(|value| value.get(..EVENT_STREAM.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
}

/// The counter of an answer.
struct Counter {
    reader: AnswerReader,
    /// Whether the answer is plain. The estimate of a compressed one stands.
    is_readable: bool,
}

impl CountTokens<Bytes> for Counter {
    fn count(&mut self, chunk: &Bytes) -> u64 {
        if self.is_readable { self.reader.read(chunk) } else { 0 }
    }

    fn end(&mut self) -> u64 {
        self.reader.finish()
    }

    fn reported(&self) -> Reported {
        self.reader.reported()
    }

    fn estimate_stands(&self) -> bool {
        self.reader.estimate_stands()
    }

    fn api(&self) -> Option<Api> {
        self.reader.api()
    }
}

const EVENT_STREAM: &[u8] = b"text/event-stream";
