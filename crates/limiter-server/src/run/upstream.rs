//! Models that are run elsewhere: held by an estimate, forwarded, settled by the usage that the answer tells.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Request, Response as HttpResponse, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use limiter::{
    Charge, Credits, Estimate, Limiter, Price, Reservation, Reserved, StreamMeter, Totals,
};
use serde_json::{Map, Value, json};
use tower_http::timeout::TimeoutBody;

use super::priced::PricedTokens;
use super::usage::Tokens;
use super::{Run, draw_id, refused};
use crate::app::App;
use crate::refusal::Refusal;
use crate::wire::{amount, refusal};

/// Runs a model at its provider, and charges for the output that is delivered. The charge is refunded if the provider's
/// answer is not a success that can be passed on. A run whose answer never came keeps its estimate, since it may have
/// been run.
pub(crate) async fn run(app: &Arc<App>, mut run: Run) -> Result<Response, Refusal> {
    let started = Instant::now();
    let model = Arc::clone(&run.model);
    let Some(url) = &model.upstream else {
        return Err(Refusal::not_found("the model has no upstream"));
    };
    let body = json_of(&run.request)?;
    let estimate = estimate(app, &run, body.len()).await?;
    // Parsed, the request takes many times the memory of its bytes. Only the bytes are kept while the provider answers.
    run.request = Map::new();
    let mut reservation = match reserve(app, &run, &estimate).await? {
        Reserved::Allowed(reservation) => reservation,
        Reserved::Denied(denied) => return Err(refusal(&denied)),
    };

    let request = match request(url, model.upstream_authorization_env.as_deref(), body) {
        Ok(request) => request,
        Err(refusal) => return Err(give_back(&mut reservation, refusal).await),
    };
    run.turn.end();
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, app.client.request(request)).await;
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is_connect() => {
            tracing::warn!(
                model = run.model.path,
                error = &error as &dyn std::error::Error,
                "no connection"
            );
            return Err(give_back(&mut reservation, unreachable()).await);
        }
        // It was sent, and may have been run: the estimate stands.
        Ok(Err(error)) => {
            tracing::warn!(
                model = run.model.path,
                error = &error as &dyn std::error::Error,
                "no answer"
            );
            return Err(unreachable());
        }
        Err(_) => {
            let message = "the model's provider did not answer in time";
            return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "upstream", message));
        }
    };
    if !answer.status().is_success() {
        cancel(&mut reservation).await;
        return refused::pass_on(&run.model, answer).await;
    }
    if refused::is_encoded(answer.headers()) {
        let message =
            "the answer of the model's provider is compressed, though it was asked not to";
        return Err(give_back(&mut reservation, broken(message)).await);
    }
    if is_event_stream(answer.headers()) {
        return Ok(events(&run, reservation, answer));
    }
    match object(answer).await {
        Ok(answer) => Ok(whole(&run, reservation, &estimate, answer, started).await),
        Err(refusal) => Err(give_back(&mut reservation, refusal).await),
    }
}

/// What the run is held by until its cost is known. The answer has as many tokens as the request allows, or else as the
/// configuration expects, and never more than a limit does: a small limit is not to shut out every run.
async fn estimate(app: &App, run: &Run, body_bytes: usize) -> Result<Charge, Refusal> {
    let asked = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    let asked = asked.into_iter().find_map(|name| run.request.get(name)?.as_u64());
    let output = asked.unwrap_or(run.model.expected_output_tokens);
    let rules = app.limiter.peek(&run.key, &run.model.id, &Charge::request()).await?;
    let estimate = Estimate::for_prompt_bytes(body_bytes).max_output_tokens(output);
    Ok(estimate.price(run.model.price()).capped_to(rules.rules()).charge()?)
}

async fn reserve(app: &App, run: &Run, estimate: &Charge) -> Result<Reserved, Refusal> {
    let id = draw_id()?;
    Ok(app.limiter.reserve_as(&run.key, &run.model.id, estimate, &id, TTL).await?)
}

fn request(
    url: &str,
    authorization: Option<&str>,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Refusal> {
    let misconfigured = |what: &str| {
        tracing::error!(what, "a model cannot be run as it is configured");
        Refusal::new(
            StatusCode::BAD_GATEWAY,
            "upstream",
            "the model is not configured well: ask its operator",
        )
    };
    let uri: Uri = url.parse().map_err(|_| misconfigured("its upstream is no URL"))?;
    let mut request = Request::post(uri)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, text/event-stream")
        .header(ACCEPT_ENCODING, "identity");
    if let Some(name) = authorization {
        let value = std::env::var(name).ok().and_then(|value| HeaderValue::try_from(value).ok());
        let mut value =
            value.ok_or_else(|| misconfigured("the variable with its authorization is not set"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::new(body)).map_err(|_| misconfigured("its upstream is no URL"))
}

/// Cancels the charge of a run that delivered nothing.
async fn give_back(reservation: &mut Reservation, refusal: Refusal) -> Refusal {
    cancel(reservation).await;
    refusal
}

async fn cancel(reservation: &mut Reservation) {
    if let Err(error) = reservation.cancel().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a run that did not happen stays charged"
        );
    }
}

fn unreachable() -> Refusal {
    broken("the model's provider cannot be reached")
}

fn broken(message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, "upstream", message)
}

fn json_of(request: &Map<String, Value>) -> Result<Bytes, Refusal> {
    let json = serde_json::to_vec(request);
    let json = json.map_err(|error| Refusal::malformed(format!("the run is no JSON: {error}")))?;
    Ok(json.into())
}

/// Returns whether the media type is that of an event stream, regardless of case and parameters.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A stream, passed on as it comes. It settles itself: at its end, before the client sees that, or when the client goes
/// away, by what was seen until then; the provider is hung up on.
fn events(run: &Run, reservation: Reservation, answer: HttpResponse<Incoming>) -> Response {
    let upstream = TimeoutBody::new(IDLE_TIMEOUT, answer.into_body());
    let body = StreamMeter::body(upstream, reservation, PricedTokens::new(run.model.price()));
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    (headers, Body::new(body)).into_response()
}

/// Reads an answer in one piece.
async fn object(answer: HttpResponse<Incoming>) -> Result<Map<String, Value>, Refusal> {
    let collected = Limited::new(answer.into_body(), MAX_ANSWER).collect();
    let collected = tokio::time::timeout(ANSWER_TIMEOUT, collected).await;
    let collected =
        collected.map_err(|_| broken("the answer of the model's provider did not come in time"))?;
    let bytes = collected
        .map_err(|_| broken("the answer of the model's provider is too long, or broke off"))?
        .to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|_| broken("the answer of the model's provider is no JSON object"))
}

/// Settles the run, and adds its cost in credits to the answer.
async fn whole(
    run: &Run,
    mut reservation: Reservation,
    estimate: &Charge,
    answer: Map<String, Value>,
    started: Instant,
) -> Response {
    let mut answer = Value::Object(answer);
    let tokens = Tokens::of(&answer);
    let used = settle(&mut reservation, run.model.price(), tokens)
        .await
        .unwrap_or_else(|| estimate.credits());
    if let Some(fields) = answer.as_object_mut() {
        complete(fields, started);
        fields.insert("usedCredits".to_owned(), amount::number(used));
    }
    Json(answer).into_response()
}

/// Settles by the usage, or by the estimate if none was told, and answers the credits in the first case.
///
/// The answer is here by then: where the store cannot settle, the estimate stands, and the log says so.
async fn settle(
    reservation: &mut Reservation,
    price: Price,
    tokens: Option<Tokens>,
) -> Option<Credits> {
    let totals = tokens.and_then(|tokens| tokens.totals(price).ok());
    let settled = reservation.settle(&totals.unwrap_or_else(Totals::unchanged)).await;
    if let Err(error) = settled {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a run could not be settled: its estimate stands"
        );
        return None;
    }
    totals.and_then(|totals| totals.credits())
}

/// Adds what the SDK must find in an answer, to one of a provider that speaks another dialect.
fn complete(fields: &mut Map<String, Value>, started: Instant) {
    let text = fields
        .get("choices")
        .and_then(|choices| choices.get(0)?.get("message")?.get("content").cloned());
    if let Some(text) = text {
        fields.entry("data").or_insert(text);
    }
    fields.entry("status").or_insert_with(|| json!("SUCCESS"));
    fields.entry("completed").or_insert_with(|| json!(true));
    fields.entry("runTime").or_insert_with(|| json!(started.elapsed().as_secs_f64()));
}

/// Until the answer begins, and again until one that comes in one piece has ended.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(110);
/// Of an answer in one piece: longer than any context that a model has.
const MAX_ANSWER: usize = 8 << 20;
/// The longest silence between two pieces of a stream.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a run can be settled: longer than any answer streams.
const TTL: Duration = Limiter::RESERVATION_TTL;
