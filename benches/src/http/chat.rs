//! A chat completion of 2 kB and its answer, and a layer that only reads its body.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub(super) const PATH: &str = "/v1/chat/completions";

/// Reads the body of a request and passes it on.
pub(super) fn reads_body(router: Router) -> Router {
    router.layer(from_fn(async |request: Request, next: Next| -> Result<Response, StatusCode> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 32 << 20).await.map_err(|_| StatusCode::BAD_REQUEST)?;
        Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
    }))
}

/// A short conversation, of 2 kB in all.
pub(super) fn request() -> Bytes {
    let text = "The quick brown fox jumps over the lazy dog, and says \"good morning\". ".repeat(4);
    let message = |role: &str| json!({"role": role, "content": text});
    let messages: Vec<_> =
        ["system", "user", "assistant", "user", "assistant", "user"].map(message).into();
    let request = json!({
        "model": super::ours::MODEL, "messages": messages, "max_tokens": 500, "temperature": 0.7, "stream": false,
    });
    let request = request.to_string();
    assert!((1_900..2_200).contains(&request.len()), "{}", request.len());
    request.into()
}

/// A provider's answer to it.
pub(super) async fn answer(request: Bytes) -> Response {
    std::hint::black_box(&request);
    ([("content-type", "application/json")], ANSWER).into_response()
}

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"It is a pangram: a sentence with every letter of the alphabet."},"finish_reason":"stop"}],"usage":{"prompt_tokens":400,"completion_tokens":14,"total_tokens":414}}"#;
