//! Running a model, within the limits of the calling key.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use limiter::TokenUsage;
use serde_json::{Map, Value, json};

use super::models::find;
use super::{amount, refusal};
use crate::admission::Turn;
use crate::app::App;
use crate::auth::Identified;
use crate::body::{self, Segment, Whole};
use crate::refusal::Refusal;
use crate::run::upstream::ANY_API;
use crate::run::{Answered, Call, Stopped, echo, forward, give_up};
use crate::upstream::Upstream;

pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
    turn: Turn,
    Segment(id_or_path): Segment,
    Whole(body): Whole,
) -> Result<Response, Refusal> {
    let model = Arc::clone(find(&app, &id_or_path)?);
    let Some(upstream) = Upstream::of(&model) else {
        return echo::run(&app, key, &model, body::object(&body)?).await;
    };
    let started = Instant::now();
    let request = body::api_request(upstream.api.unwrap_or(ANY_API), &body)?;
    let headers = HeaderMap::new();
    let call = Call { key, model, upstream, request, body, headers, turn };
    match forward(&app, call).await {
        Ok(answer) if answer.streams() => {
            let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
            Ok((headers, answer.into_body()).into_response())
        }
        Ok(answer) => whole(answer, started).await,
        Err(Stopped::Denied(denied)) => Err(refusal(&denied)),
        Err(Stopped::Refused(refusal)) => Err(refusal),
        Err(Stopped::ByProvider(response)) => Ok(*response),
    }
}

/// Returns the provider's answer, with the fields that the SDK requires and the charge.
async fn whole(answer: Answered, started: Instant) -> Result<Response, Refusal> {
    let mut answer = answer.collect().await?;
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(&answer.bytes) else {
        let message = "the answer of the model's provider is not a JSON object";
        return Err(give_up(&mut answer.reservation, message).await);
    };
    let charge = answer.settle().await;
    let usage = TokenUsage::new(charge.input_tokens(), charge.output_tokens());
    complete(&mut fields, started);
    let told = fields.entry("usage").or_insert(Value::Null);
    match told {
        Value::Object(told) => told.extend(tokens(&usage)),
        other => *other = Value::Object(tokens(&usage)),
    }
    fields.insert("usedCredits".to_owned(), amount::number(charge.credits()));
    Ok(Json(fields).into_response())
}

/// Returns the tokens of a run under this wire's names.
pub(crate) fn tokens(usage: &TokenUsage) -> Map<String, Value> {
    [
        ("prompt_tokens", usage.input),
        ("completion_tokens", usage.output),
        ("total_tokens", usage.total()),
    ]
    .map(|(name, tokens)| (name.to_owned(), json!(tokens)))
    .into_iter()
    .collect()
}

/// Adds the fields that the SDK requires to a provider's answer.
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
