//! The built-in model, which answers with what it was told: to try keys and limits without any provider.
//!
//! Its tokens are words: what stands between blanks. So the whole cost of a run is known before it starts, and is
//! checked in one step.

use std::time::Instant;

use axum::Json;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use limiter::{Charge, Credits, Decision};
use serde_json::{Value, json};

use super::Run;
use super::usage::Tokens;
use crate::app::App;
use crate::refusal::Refusal;
use crate::wire::{amount, refusal};

pub(crate) async fn run(app: &App, run: Run) -> Result<Response, Refusal> {
    let started = Instant::now();
    let text = match run.prompt() {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => return Err(Refusal::malformed("a run needs its prompt as \"text\"")),
    };
    let words = text.split_whitespace().count() as u64;
    let tokens = Tokens { input: words, output: words };
    let price = run.model.price.of(tokens.input, tokens.output)?;
    let charge = Charge::request().with_tokens(tokens.input, tokens.output)?.with_credits(price);

    let decision = app.limiter.check_and_consume(&run.key, &run.model.id, &charge).await?;
    if let Decision::Denied(denied) = decision {
        return Err(refusal(&denied));
    }
    if run.streams() {
        return Ok(
            ([(CONTENT_TYPE, "text/event-stream")], events(&text, tokens, price)).into_response()
        );
    }
    Ok(Json(json!({
        "status": "SUCCESS",
        "completed": true,
        "data": text,
        "usage": tokens.on_the_wire(),
        "usedCredits": amount::number(price),
        "runTime": started.elapsed().as_secs_f64(),
    }))
    .into_response())
}

/// The answer as server-sent events, a word each: version 2 of the SDK reads OpenAI's `choices`, version 1 reads `data`.
fn events(text: &str, tokens: Tokens, price: Credits) -> String {
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        json!({
            "data": word,
            "choices": [{ "index": 0, "delta": { "content": word }, "finish_reason": null }],
        })
    });
    let end = json!({
        "data": "",
        "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }],
        "usage": tokens.on_the_wire(),
        "usedCredits": amount::number(price),
    });
    let mut events: String = words.chain([end]).map(|event| format!("data: {event}\n\n")).collect();
    events.push_str("data: [DONE]\n\n");
    events
}
