//! Anthropic's messages.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{TEXT, event_stream, named_event, pieces, streams};

pub(super) async fn messages(Json(request): Json<Value>) -> Response {
    let message = |content: Value, stop: Option<&str>, output_tokens: u64| {
        json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "content": content,
            "stop_reason": stop, "stop_sequence": null,
            "usage": {
                "input_tokens": 18, "cache_creation_input_tokens": 207, "cache_read_input_tokens": 831,
                "cache_creation": {"ephemeral_5m_input_tokens": 207, "ephemeral_1h_input_tokens": 0},
                "output_tokens": output_tokens, "service_tier": "standard",
            },
        })
    };
    if !streams(&request) {
        let content = json!([{"type": "text", "text": TEXT}]);
        return Json(message(content, Some("end_turn"), OUTPUT_TOKENS)).into_response();
    }
    let before = [
        json!({"type": "message_start", "message": message(json!([]), None, 1)}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    let deltas = pieces().map(|piece| {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
    });
    let after = [
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        }),
        json!({"type": "message_stop"}),
    ];
    event_stream(before.into_iter().chain(deltas).chain(after).map(|event| named_event(&event)))
}

const OUTPUT_TOKENS: u64 = 58;
