//! An LLM provider for tests, over HTTP, with the APIs of OpenAI and Anthropic.
//!
//! It answers each call with the same text, whole or streamed, in the sequence of events that the providers document. The
//! usage that it reports differs from any estimate: it has cached tokens and reasoning tokens.

mod anthropic;
mod openai;

use std::thread;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

/// Starts a provider on a free port of 127.0.0.1, which runs until the process of the test ends. Returns its URL, such as
/// `http://127.0.0.1:12345`.
pub fn start() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.set_nonblocking(true).expect("a socket can be asynchronous");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be started").block_on(async {
            let listener = TcpListener::from_std(listener).expect("it runs on this runtime");
            axum::serve(listener, router()).await
        })
    });
    url
}

fn router() -> Router {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/responses", post(openai::responses))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/messages", post(anthropic::messages))
}

/// The answer to each call.
const TEXT: &str =
    "It will be sunny in the morning, cloudy after noon, with a small chance of crabs at night.";

/// Returns the pieces of the streamed text.
fn pieces() -> impl Iterator<Item = &'static str> {
    TEXT.split_inclusive(' ')
}

/// Returns a stream of server-sent events, each in its own piece.
fn event_stream(events: impl IntoIterator<Item = String>) -> Response {
    let events: Vec<_> = events.into_iter().map(Ok::<_, std::io::Error>).collect();
    let body = Body::from_stream(futures_util::stream::iter(events));
    ([("content-type", "text/event-stream; charset=utf-8")], body).into_response()
}

/// Formats an event. Its name is the `type` in its data.
fn named_event(data: &Value) -> String {
    let name = data["type"].as_str().expect("each event has a type");
    format!("event: {name}\ndata: {data}\n\n")
}

fn streams(request: &Value) -> bool {
    request["stream"] == true
}
