//! The provider: a model with one answer, in the formats of OpenAI's and Anthropic's APIs.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::stream;
use serde_json::{Value, json};

use crate::Failure;

pub(crate) fn router() -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/responses", post(responses))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/messages", post(messages))
}

/// Six tokens.
const WORDS: [&str; 6] = ["Sunny,", " with", " a", " chance", " of", " crabs."];

async fn chat(Json(call): Json<Value>) -> Response {
    let answer = |object: &str, choices: Value, usage: Value| {
        json!({
            "id": "chatcmpl-1", "object": object, "created": 1_767_268_829, "model": call["model"],
            "choices": choices, "usage": usage,
        })
    };
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11});
    if call["stream"] != true {
        let message = json!({"role": "assistant", "content": WORDS.concat(), "refusal": null});
        let choice =
            json!({"index": 0, "message": message, "finish_reason": "stop", "logprobs": null});
        return Json(answer("chat.completion", json!([choice]), usage)).into_response();
    }
    let chunk = |delta: Value, end: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": end});
        answer("chat.completion.chunk", json!([choice]), Value::Null)
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    chunks.extend(WORDS.map(|word| chunk(json!({"content": word}), Value::Null)));
    chunks.push(chunk(json!({}), json!("stop")));
    if call["stream_options"]["include_usage"] == true {
        chunks.push(answer("chat.completion.chunk", json!([]), usage));
    }
    let mut events: Vec<_> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events.push("data: [DONE]\n\n".to_owned());
    event_stream(events)
}

async fn responses(Json(call): Json<Value>) -> Response {
    let text = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let message = |status: &str, content: Value| json!({"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content});
    let response = |status: &str, output: Value, usage: Value| {
        json!({
            "id": "resp_1", "object": "response", "created_at": 1_767_268_829, "status": status,
            "model": call["model"], "output": output, "usage": usage, "error": null, "incomplete_details": null,
            "instructions": null, "metadata": {}, "parallel_tool_calls": true, "temperature": 1.0,
            "tool_choice": "auto", "tools": [], "top_p": 1.0,
        })
    };
    let usage = json!({
        "input_tokens": 5, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 6, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 11,
    });
    let whole = message("completed", json!([text(&WORDS.concat())]));
    let completed = response("completed", json!([whole]), usage);
    if call["stream"] != true {
        return Json(completed).into_response();
    }
    let part = json!({"item_id": "msg_1", "output_index": 0, "content_index": 0});
    let with = |member: &str, value: Value| {
        let mut event = part.clone();
        event[member] = value;
        event
    };
    let item = |item: Value| json!({"output_index": 0, "item": item});
    let started = response("in_progress", json!([]), Value::Null);
    let mut events = vec![
        ("response.created", json!({"response": started})),
        ("response.output_item.added", item(message("in_progress", json!([])))),
        ("response.content_part.added", with("part", text(""))),
    ];
    events.extend(WORDS.map(|word| ("response.output_text.delta", with("delta", json!(word)))));
    events.extend([
        ("response.output_text.done", with("text", json!(WORDS.concat()))),
        ("response.content_part.done", with("part", text(&WORDS.concat()))),
        ("response.output_item.done", item(whole)),
        ("response.completed", json!({"response": completed})),
    ]);
    let numbered = events.into_iter().enumerate().map(|(number, (name, mut event))| {
        event["sequence_number"] = json!(number);
        named(name, event)
    });
    event_stream(numbered.collect())
}

async fn embeddings(Json(call): Json<Value>) -> Response {
    let embedding = json!({"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.125]});
    let usage = json!({"prompt_tokens": 5, "total_tokens": 5});
    let answer =
        json!({"object": "list", "data": [embedding], "model": call["model"], "usage": usage});
    Json(answer).into_response()
}

async fn messages(Json(call): Json<Value>) -> Response {
    let message = |content: Value, end: Value, output_tokens: usize| {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": call["model"], "content": content,
            "stop_reason": end, "stop_sequence": null,
            "usage": {"input_tokens": 5, "output_tokens": output_tokens},
        })
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    if call["stream"] != true {
        let content = json!([text(&WORDS.concat())]);
        return Json(message(content, json!("end_turn"), WORDS.len())).into_response();
    }
    let delta = |word| json!({"index": 0, "delta": {"type": "text_delta", "text": word}});
    let end = json!({"stop_reason": "end_turn", "stop_sequence": null});
    let mut events = vec![
        ("message_start", json!({"message": message(json!([]), Value::Null, 1)})),
        ("content_block_start", json!({"index": 0, "content_block": text("")})),
    ];
    events.extend(WORDS.map(|word| ("content_block_delta", delta(word))));
    events.extend([
        ("content_block_stop", json!({"index": 0})),
        ("message_delta", json!({"delta": end, "usage": {"output_tokens": WORDS.len()}})),
        ("message_stop", json!({})),
    ]);
    event_stream(events.into_iter().map(|(name, event)| named(name, event)).collect())
}

/// An event whose data has its name too.
fn named(name: &str, mut event: Value) -> String {
    event["type"] = json!(name);
    format!("event: {name}\ndata: {event}\n\n")
}

fn event_stream(events: Vec<String>) -> Response {
    let body = Body::from_stream(stream::iter(events.into_iter().map(Ok::<_, Failure>)));
    ([("content-type", "text/event-stream")], body).into_response()
}
