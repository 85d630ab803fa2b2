//! OpenAI's chat completions, completions, responses and embeddings.

use std::iter::once;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{TEXT, event_stream, named_event, pieces, streams};

pub(super) async fn chat(Json(request): Json<Value>) -> Response {
    let usage = json!({
        "prompt_tokens": 121, "completion_tokens": 64, "total_tokens": 185,
        "prompt_tokens_details": {"cached_tokens": 96, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 40, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    if !streams(&request) {
        let message =
            json!({"role": "assistant", "content": TEXT, "refusal": null, "annotations": []});
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        return Json(json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": CREATED, "model": request["model"],
            "choices": [choice], "usage": usage, "service_tier": "default", "system_fingerprint": "fp_1",
        }))
        .into_response();
    }
    let delta = |delta: Value, finish: Option<&str>| json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    let choices = once(delta(json!({"role": "assistant", "content": "", "refusal": null}), None))
        .chain(pieces().map(|piece| delta(json!({"content": piece}), None)))
        .chain([delta(json!({}), Some("stop"))]);
    chunks(&request, "chat.completion.chunk", choices, usage)
}

pub(super) async fn completions(Json(request): Json<Value>) -> Response {
    let usage = json!({"prompt_tokens": 33, "completion_tokens": 41, "total_tokens": 74});
    let choice = |text, finish: Option<&str>| json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish});
    if !streams(&request) {
        return Json(json!({
            "id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": request["model"],
            "choices": [choice(TEXT, Some("stop"))], "usage": usage,
        }))
        .into_response();
    }
    let choices = pieces().map(|piece| choice(piece, None)).chain([choice("", Some("stop"))]);
    chunks(&request, "text_completion", choices, usage)
}

/// Returns a stream of chunks. If the request asks for usage, a last chunk without choices has it, and all other chunks
/// have `null`. Otherwise no chunk has the field.
fn chunks(
    request: &Value,
    object: &str,
    choices: impl Iterator<Item = Value>,
    usage: Value,
) -> Response {
    let reports_usage = request["stream_options"]["include_usage"] == true;
    let mut chunks: Vec<Value> = choices
        .map(|choice| {
            json!({
                "id": "chatcmpl-1", "object": object, "created": CREATED, "model": request["model"],
                "service_tier": "default", "system_fingerprint": "fp_1", "choices": [choice],
            })
        })
        .collect();
    if reports_usage {
        let mut last = chunks.last().cloned().expect("a stream has chunks");
        for chunk in &mut chunks {
            chunk["usage"] = Value::Null;
        }
        (last["choices"], last["usage"]) = (json!([]), usage);
        chunks.push(last);
    }
    let events = chunks.into_iter().map(|chunk| format!("data: {chunk}\n\n"));
    event_stream(events.chain(["data: [DONE]\n\n".to_owned()]))
}

pub(super) async fn responses(Json(request): Json<Value>) -> Response {
    let item = |status: &str, content: Value| json!({"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": content});
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let done = item("completed", json!([part(TEXT)]));
    let completed = response(&request, "completed", json!([done.clone()]));
    if !streams(&request) {
        return Json(completed).into_response();
    }
    let begun = response(&request, "in_progress", json!([]));
    let of_part = |mut event: Value| {
        event["item_id"] = json!("msg_1");
        (event["output_index"], event["content_index"]) = (json!(0), json!(0));
        event
    };
    let before = [
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item("in_progress", json!([]))}),
        of_part(json!({"type": "response.content_part.added", "part": part("")})),
    ];
    let deltas = pieces().map(|piece| {
        of_part(json!({"type": "response.output_text.delta", "delta": piece, "logprobs": []}))
    });
    let after = [
        of_part(json!({"type": "response.output_text.done", "text": TEXT, "logprobs": []})),
        of_part(json!({"type": "response.content_part.done", "part": part(TEXT)})),
        json!({"type": "response.output_item.done", "output_index": 0, "item": done}),
        json!({"type": "response.completed", "response": completed}),
    ];
    let events = before.into_iter().chain(deltas).chain(after).enumerate();
    event_stream(events.map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        named_event(&event)
    }))
}

fn response(request: &Value, status: &str, output: Value) -> Value {
    let usage = (status == "completed").then(|| {
        json!({
            "input_tokens": 143, "input_tokens_details": {"cached_tokens": 128, "cache_write_tokens": 0},
            "output_tokens": 77, "output_tokens_details": {"reasoning_tokens": 50}, "total_tokens": 220,
        })
    });
    json!({
        "id": "resp_1", "object": "response", "created_at": CREATED, "status": status, "background": false, "error": null,
        "incomplete_details": null, "instructions": null, "max_output_tokens": request["max_output_tokens"],
        "max_tool_calls": null, "model": request["model"], "output": output, "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "service_tier": "default",
        "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled",
        "usage": usage, "user": null, "metadata": {},
    })
}

/// Returns the vector (0.5, -0.25): as numbers, or in base64 if the SDK asks for that.
pub(super) async fn embeddings(Json(request): Json<Value>) -> Response {
    let vector = match request["encoding_format"].as_str() {
        Some("base64") => json!("AAAAPwAAgL4="),
        _ => json!([0.5, -0.25]),
    };
    Json(json!({
        "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": request["model"], "usage": {"prompt_tokens": 28, "total_tokens": 28},
    }))
    .into_response()
}

const CREATED: u64 = 1_767_268_829;
