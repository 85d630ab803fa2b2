//! Models that are run elsewhere: held by an estimate, forwarded, settled by the usage that the answer tells.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Request, Response as HttpResponse, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use limiter::{Charge, Credits, Estimate, Limiter, Reservation, Reserved, StreamMeter, Totals};
use serde_json::{Map, Value, json};
use tower_http::timeout::TimeoutBody;

use super::priced::PricedTokens;
use super::usage::Tokens;
use super::{Run, draw_id};
use crate::app::App;
use crate::models::Price;
use crate::refusal::Refusal;
use crate::wire::{amount, refusal};

pub(crate) async fn run(app: &Arc<App>, run: Run) -> Result<Response, Refusal> {
    let started = Instant::now();
    let Some(url) = &run.model.upstream else {
        return Err(Refusal::not_found("the model has no upstream"));
    };
    let body = Bytes::from(Value::Object(run.request.clone()).to_string());
    let estimate = estimate(app, &run, body.len()).await?;
    let mut reservation = match reserve(app, &run, &estimate).await? {
        Reserved::Allowed(reservation) => reservation,
        Reserved::Denied(denied) => return Err(refusal(&denied)),
    };

    let request = match request(url, run.model.upstream_authorization_env.as_deref(), body) {
        Ok(request) => request,
        Err(refusal) => return Err(give_back(&mut reservation, refusal).await),
    };
    run.turn.end();
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, app.client.request(request)).await;
    let answer = match answer {
        Ok(Ok(answer)) if answer.status().is_success() => answer,
        Ok(Ok(answer)) => {
            let message = format!("the model's provider answered {}", answer.status().as_u16());
            return Err(give_back(
                &mut reservation,
                Refusal::new(StatusCode::BAD_GATEWAY, "upstream", message),
            )
            .await);
        }
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
    if is_event_stream(&answer) {
        return Ok(events(&run, reservation, answer));
    }
    whole(&run, reservation, &estimate, answer, started).await
}

/// What the run is held by until its cost is known. The answer has as many tokens as the request allows, or else as the
/// configuration expects, and never more than a limit does: a small limit is not to shut out every run.
async fn estimate(app: &App, run: &Run, body_bytes: usize) -> Result<Charge, Refusal> {
    let asked = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    let asked = asked.into_iter().find_map(|name| run.request.get(name)?.as_u64());
    let output = asked.unwrap_or(run.model.expected_output_tokens);
    let rules = app.limiter.peek(&run.key, &run.model.id, &Charge::request()).await?;
    let estimate = Estimate::for_prompt_bytes(body_bytes).max_output_tokens(output);
    let charge = estimate.capped_to(rules.rules()).charge()?;
    let price = run.model.price.of(charge.input_tokens(), charge.output_tokens())?;
    Ok(charge.with_credits(price))
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
        .header(ACCEPT, "application/json, text/event-stream");
    if let Some(name) = authorization {
        let value = std::env::var(name).ok().and_then(|value| HeaderValue::try_from(value).ok());
        let mut value =
            value.ok_or_else(|| misconfigured("the variable with its authorization is not set"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::new(body)).map_err(|_| misconfigured("its upstream is no URL"))
}

/// The call did not go upstream, or was refused there: nothing was used.
async fn give_back(reservation: &mut Reservation, refusal: Refusal) -> Refusal {
    if let Err(error) = reservation.cancel().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a run that did not happen stays charged"
        );
    }
    refusal
}

fn unreachable() -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, "upstream", "the model's provider cannot be reached")
}

fn is_event_stream(answer: &HttpResponse<Incoming>) -> bool {
    let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("text/event-stream"))
}

/// A stream, passed on as it comes. It settles itself: at its end, before the client sees that, or when the client goes
/// away, by what was seen until then; the provider is hung up on.
fn events(run: &Run, reservation: Reservation, answer: HttpResponse<Incoming>) -> Response {
    let upstream = TimeoutBody::new(IDLE_TIMEOUT, answer.into_body());
    let body = StreamMeter::body(upstream, reservation, PricedTokens::new(run.model.price));
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    (headers, Body::new(body)).into_response()
}

/// An answer in one piece: settled, and told with the credits that it did cost.
async fn whole(
    run: &Run,
    mut reservation: Reservation,
    estimate: &Charge,
    answer: HttpResponse<Incoming>,
    started: Instant,
) -> Result<Response, Refusal> {
    let broken = |message: &str| Refusal::new(StatusCode::BAD_GATEWAY, "upstream", message);
    let collected = Limited::new(answer.into_body(), MAX_ANSWER).collect();
    let collected = tokio::time::timeout(ANSWER_TIMEOUT, collected).await;
    let collected =
        collected.map_err(|_| broken("the answer of the model's provider did not come in time"))?;
    let bytes = collected
        .map_err(|_| broken("the answer of the model's provider is too long, or broke off"))?
        .to_bytes();
    let answer: Map<String, Value> = serde_json::from_slice(&bytes)
        .map_err(|_| broken("the answer of the model's provider is no JSON object"))?;
    let mut answer = Value::Object(answer);
    let tokens = Tokens::of(&answer);
    let used = settle(&mut reservation, run.model.price, tokens)
        .await
        .unwrap_or_else(|| estimate.credits());
    if let Some(fields) = answer.as_object_mut() {
        complete(fields, started);
        fields.insert("usedCredits".to_owned(), amount::number(used));
    }
    Ok(Json(answer).into_response())
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
