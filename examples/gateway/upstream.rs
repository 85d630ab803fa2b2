//! The upstream: a model that knows one answer.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::stream;
use serde_json::{Value, json};

use crate::Failure;

pub(crate) fn router() -> Router {
    Router::new().route("/v1/chat/completions", post(answer))
}

/// Six tokens, at once or one by one as server-sent events.
async fn answer(Json(chat): Json<Value>) -> Response {
    let words = ["Sunny,", " with", " a", " chance", " of", " crabs."];
    let usage = json!({"prompt_tokens": 5, "completion_tokens": words.len()});
    if chat["stream"] != true {
        let message = json!({"role": "assistant", "content": words.concat()});
        return Json(json!({"choices": [{"message": message}], "usage": usage})).into_response();
    }
    let pieces = words.map(|word| json!({"choices": [{"delta": {"content": word}}]}));
    let events = pieces.into_iter().chain([json!({"choices": [], "usage": usage})]);
    let mut events: Vec<_> = events.map(|event| format!("data: {event}\n\n")).collect();
    events.push("data: [DONE]\n\n".to_owned());
    let body = Body::from_stream(stream::iter(events.into_iter().map(Ok::<_, Failure>)));
    ([("content-type", "text/event-stream")], body).into_response()
}
