//! Calls of models that run at a provider: reserved by an estimate, forwarded, and settled by what their answers report.
//!
//! The wire of the aiXplain SDK and the APIs of OpenAI and Anthropic share this code. Only the answers to clients
//! differ.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Response as HttpResponse, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyDataStream, BodyExt, Limited};
use hyper::body::Incoming;
use limiter::decision::SettledAs;
use limiter::stream::{AnswerReader, Api, ApiRequest, RequestChanges, StreamMeter};
use limiter::{Charge, Denied, Estimate, KeyId, MAX_COUNT, Reservation, Reserved, Settled};
use limiter_tower::WithoutUsageChunk;
use tower_http::timeout::TimeoutBody;

use super::{refused, send};
use crate::admission::Turn;
use crate::app::App;
use crate::models::Model;
use crate::refusal::Refusal;
use crate::upstream::Upstream;

/// A call to forward.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) key: KeyId,
    pub(crate) model: Arc<Model>,
    pub(crate) upstream: Upstream,
    pub(crate) request: ApiRequest,
    /// The bytes that `request` was read from.
    pub(crate) body: Bytes,
    /// The headers of the client.
    pub(crate) headers: HeaderMap,
    /// The call's turn to be decided. It ends before the call waits for a provider.
    pub(crate) turn: Turn,
}

/// A provider's successful answer, whose call is not settled yet.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) reservation: Reservation,
    pub(crate) response: HttpResponse<Incoming>,
    reader: AnswerReader,
    /// Whether only this server asked for the chunk with the usage.
    hides_usage: bool,
}

/// A call without a successful answer. Nothing is charged, unless the outcome is unknown.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A limit, a budget or the key denied the call.
    Denied(Box<Denied>),
    /// This server refuses the call, or gives up on its provider.
    Refused(Refusal),
    /// The provider refuses the call, in its own words.
    ByProvider(Box<Response>),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Forwards a call within the limits of its key. The charge is refunded if the provider reports an error. If no
/// answer comes, the estimate stands: the call may have been run.
pub(crate) async fn forward(app: &App, call: Call) -> Result<Answered, Stopped> {
    let Call { key, model, upstream, request, body, headers, turn } = call;
    let estimate = estimate(&model, &request, body.len());
    let reserved = app.limiter.reserve_estimated(&key, &model.id, &estimate).await;
    let mut reservation = match reserved.map_err(Refusal::from)? {
        Reserved::Allowed(reservation) => reservation,
        Reserved::Denied(denied) => {
            app.denials.keep(&key, &denied);
            return Err(Stopped::Denied(Box::new(denied)));
        }
    };

    let changes = RequestChanges {
        ask_for_usage: upstream.api.is_some_and(Api::reports_usage_if_asked),
        max_output_tokens: (model.send_maximum && upstream.api.is_some())
            .then(|| reservation.estimate().output_tokens() / request.answers().max(1)),
    };
    let changed = match &model.upstream_model {
        Some(model) if request.api() != Api::Gemini => {
            request.rewritten_for_model(&body, &changes, model)
        }
        _ => request.rewritten(&body, &changes),
    };
    let hides_usage = changes.ask_for_usage && request.streams() && !request.asks_for_usage();
    let sent = send::request(&model, &upstream, &headers, changed.map_or(body, Bytes::from));
    let sent = match sent {
        Ok(sent) => sent,
        Err(refusal) => {
            cancel(&mut reservation).await;
            return Err(refusal.into());
        }
    };
    turn.end();
    let response = tokio::time::timeout(ANSWER_TIMEOUT, app.client.request(sent)).await;
    let response = match response {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is_connect() => {
            tracing::warn!(model = model.path, error = &error as &dyn Error, "no connection");
            return Err(give_up(&mut reservation, UNREACHABLE).await.into());
        }
        // It was sent, and may have been run: the estimate stands.
        Ok(Err(error)) => {
            tracing::warn!(model = model.path, error = &error as &dyn Error, "no answer");
            return Err(broken(UNREACHABLE).into());
        }
        Err(_) => {
            let message = "the model's provider did not answer in time; the call stays charged by its estimate";
            return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "upstream", message).into());
        }
    };
    if !response.status().is_success() {
        cancel(&mut reservation).await;
        return Err(refused::pass_on(&model, response).await);
    }
    if refused::is_encoded(response.headers()) {
        return Err(give_up(&mut reservation, COMPRESSED).await.into());
    }
    let reader = upstream.api.map_or_else(AnswerReader::of_any_api, AnswerReader::new);
    Ok(Answered { reservation, response, reader, hides_usage })
}

/// Estimates the call: for each answer that it asks for, the largest one that it allows, or else the expected output of
/// the configuration.
fn estimate(model: &Model, request: &ApiRequest, body_bytes: usize) -> Estimate {
    // If the request does not follow its API, its prompt may be anywhere in the body.
    let input = match request.input_tokens() {
        // No usize has more than 64 bits.
        0 => (body_bytes as u64).div_ceil(BYTES_OF_A_TOKEN),
        tokens => tokens.min(MAX_COUNT),
    };
    let output = match request.max_output_tokens() {
        _ if !request.api().has_output() => 0,
        Some(tokens) => tokens,
        None => model.expected_output_tokens,
    };
    // Capped at the largest charge, which a limit then denies.
    let output = output.saturating_mul(request.answers()).min(MAX_COUNT - input);
    Estimate::for_input_tokens(input).max_output_tokens(output).price(model.price())
}

impl Answered {
    /// Returns whether the answer is a stream of server-sent events.
    pub(crate) fn streams(&self) -> bool {
        self.is("text/event-stream")
    }

    /// Returns whether the content type of the answer is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is("application/json")
    }

    /// Compares the media type, regardless of case and parameters.
    fn is(&self, media_type: &str) -> bool {
        let content_type = self.response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let name = content_type.and_then(|value| value.split(';').next());
        name.is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type))
    }

    /// Returns the answer as a body that settles itself at its end, before the client sees the end. If it breaks off or
    /// the client leaves, the tokens seen until then are charged, and the provider's connection is closed.
    pub(crate) fn into_body(self) -> Body {
        let silence = if self.streams() { IDLE_TIMEOUT } else { ANSWER_TIMEOUT };
        let upstream = TimeoutBody::new(silence, self.response.into_body());
        let metered = StreamMeter::body(upstream, self.reservation, self.reader);
        // Without a known length, the server polls for the end, which waits for the settlement.
        match self.hides_usage {
            true => Body::from_stream(BodyDataStream::new(WithoutUsageChunk::new(metered))),
            false => Body::from_stream(BodyDataStream::new(metered)),
        }
    }

    /// Reads the answer in one piece.
    pub(crate) async fn collect(self) -> Result<Collected, Refusal> {
        let Self { mut reservation, response, mut reader, .. } = self;
        let collected = Limited::new(response.into_body(), MAX_ANSWER).collect();
        let failure = match tokio::time::timeout(ANSWER_TIMEOUT, collected).await {
            Ok(Ok(collected)) => {
                let bytes = collected.to_bytes();
                reader.read(&bytes);
                return Ok(Collected { reservation, reader, bytes });
            }
            Ok(Err(_)) => {
                "the answer of the model's provider is too long, or broke off; nothing was charged"
            }
            Err(_) => {
                "the answer of the model's provider did not arrive in time; nothing was charged"
            }
        };
        Err(give_up(&mut reservation, failure).await)
    }
}

/// A whole answer, whose call is not settled yet.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) reservation: Reservation,
    reader: AnswerReader,
    pub(crate) bytes: Bytes,
}

impl Collected {
    /// Settles the call by its answer, and returns the charge, or in shadow mode the charge that it would have.
    ///
    /// If the store cannot settle, the estimate stands, and an error is logged: the answer is delivered all the same.
    pub(crate) async fn settle(self) -> Charge {
        let Self { mut reservation, reader, .. } = self;
        let estimate = *reservation.estimate();
        let usage = reader.close(&estimate);
        let price = reservation.price().copied().unwrap_or_default();
        match reservation.settle_usage(&usage).await {
            Ok(Settled { outcome: SettledAs::Uncharged, .. }) => {
                price.totals(&usage).and_then(|totals| totals.applied_to(&estimate))
            }
            Ok(settled) => Ok(settled.charge.unwrap_or(estimate)),
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, "a run could not be settled: its estimate stands");
                Ok(estimate)
            }
        }
        .unwrap_or(estimate)
    }
}

/// Cancels the charge of a call that delivered nothing, and refuses it.
pub(crate) async fn give_up(reservation: &mut Reservation, message: &'static str) -> Refusal {
    cancel(reservation).await;
    broken(message)
}

async fn cancel(reservation: &mut Reservation) {
    if let Err(error) = reservation.cancel().await {
        let error = &error as &dyn Error;
        tracing::warn!(error, "a run that did not happen stays charged");
    }
}

/// Refuses a call whose provider failed.
pub(super) fn broken(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, "upstream", message)
}

const UNREACHABLE: &str = "the model's provider cannot be reached: try again later";
const COMPRESSED: &str =
    "the answer of the model's provider is compressed, though it was asked not to";
/// The API by which requests are read if their own is unknown: most providers are compatible with it.
pub(crate) const ANY_API: Api = Api::OpenAiChat;
/// A rule of thumb for English text.
const BYTES_OF_A_TOKEN: u64 = 4;
/// Until the answer begins, and again until one that comes in one piece has ended.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(110);
/// Of an answer in one piece: longer than any context that a model has.
const MAX_ANSWER: usize = 8 << 20;
/// The longest silence between two pieces of a stream.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
