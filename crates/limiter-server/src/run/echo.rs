//! The built-in model, which answers with its prompt: to try keys and limits without any provider.
//!
//! Its tokens are words, separated by blanks. So the whole cost of a run is known before it starts, and is checked in
//! one step.

use std::convert::Infallible;
use std::time::Instant;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use limiter::{Charge, Credits, Decision, KeyId, TokenUsage};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::models::Model;
use crate::refusal::Refusal;
use crate::wire::runs::tokens;
use crate::wire::{amount, refusal};

pub(crate) async fn run(
    app: &App,
    key: KeyId,
    model: &Model,
    request: Map<String, Value>,
) -> Result<Response, Refusal> {
    let started = Instant::now();
    let streams = streams(&request);
    // Keep one copy of the prompt, and nothing else of the request.
    let text = match into_prompt(request) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => return Err(Refusal::malformed("the run has no prompt: send it as \"text\"")),
    };
    let words = text.split_whitespace().count() as u64;
    let usage = TokenUsage::new(words, words);
    let price = model.price().of(&usage);
    let charge = Charge::request().with_tokens(words, words)?.with_credits(price);

    let decision = app.limiter.check_and_consume(&key, &model.id, &charge).await?;
    app.denials.keep_of(&key, &decision);
    if let Decision::Denied(denied) = decision {
        return Err(refusal(&denied));
    }
    if streams {
        let pieces = Events { text, at: 0, end: Some(end(&usage, price)) };
        let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)));
        return Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response());
    }
    let answer = Answer {
        status: "SUCCESS",
        completed: true,
        data: &text,
        usage: tokens(&usage),
        used_credits: amount::number(price),
        run_time: started.elapsed().as_secs_f64(),
    };
    let mut body = Vec::with_capacity(text.len() + AROUND_THE_TEXT);
    push_json(&mut body, &answer);
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// Takes the prompt out of a request: `text`, or `data` as older clients name it.
fn into_prompt(mut request: Map<String, Value>) -> Option<Value> {
    ["text", "data"]
        .into_iter()
        .find_map(|name| request.remove(name))
        .filter(|value| !value.is_null())
}

/// Returns whether the request asks for a stream.
fn streams(request: &Map<String, Value>) -> bool {
    let option = request.get("options").and_then(|options| options.get("stream"));
    option.or_else(|| request.get("stream")) == Some(&Value::Bool(true))
}

/// A whole answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    status: &'static str,
    completed: bool,
    data: &'a str,
    usage: Map<String, Value>,
    used_credits: Value,
    run_time: f64,
}

/// The answer as server-sent events, one per word, rendered while they are read. A prompt of 1 MB becomes up to 50 MB
/// of events.
struct Events {
    text: String,
    /// Bytes of the text that were sent.
    at: usize,
    /// The closing events, until they are sent.
    end: Option<String>,
}

impl Iterator for Events {
    type Item = Bytes;

    /// Renders the next few kilobytes of events.
    fn next(&mut self) -> Option<Bytes> {
        let mut events = Vec::with_capacity(PIECE + EVENT_OF_THE_LONGEST);
        while events.len() < PIECE {
            let word = word(self.text.get(self.at..)?);
            if word.is_empty() {
                if let Some(end) = self.end.take() {
                    events.extend_from_slice(end.as_bytes());
                }
                break;
            }
            self.at += word.len();
            push_event(&mut events, word);
        }
        (!events.is_empty()).then(|| events.into())
    }
}

/// Returns the text up to and including its first whitespace, or a part of a longer word.
fn word(text: &str) -> &str {
    let start = text.get(..text.floor_char_boundary(LONGEST_WORD)).unwrap_or(text);
    start.split_inclusive(char::is_whitespace).next().unwrap_or_default()
}

/// Appends an event with the word in two fields: version 2 of the SDK reads OpenAI's `choices`, version 1 reads `data`.
fn push_event(to: &mut Vec<u8>, word: &str) {
    to.extend_from_slice(b"data: {\"data\":");
    let start = to.len();
    push_json(to, &word);
    let escaped = start..to.len();
    to.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{\"content\":");
    to.extend_from_within(escaped);
    to.extend_from_slice(b"},\"finish_reason\":null}]}\n\n");
}

fn end(usage: &TokenUsage, price: Credits) -> String {
    let end = json!({
        "data": "",
        "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }],
        "usage": tokens(usage),
        "usedCredits": amount::number(price),
    });
    format!("data: {end}\n\ndata: [DONE]\n\n")
}

fn push_json(to: &mut Vec<u8>, value: &impl Serialize) {
    // These values always serialize, and writes to a vector never fail.
    let _ = serde_json::to_writer(to, value);
}

/// Bytes rendered ahead of the reader: enough for few system calls, and few compared with a prompt.
const PIECE: usize = 4 << 10;
/// Bytes of a word in one event; a longer word is split.
const LONGEST_WORD: usize = 1 << 10;
/// The word appears twice, and escaping turns each byte into at most six.
const EVENT_OF_THE_LONGEST: usize = 2 * 6 * LONGEST_WORD + 128;
/// Bytes of a whole answer without its text, rounded up.
const AROUND_THE_TEXT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<Bytes> {
        Events { text: text.to_owned(), at: 0, end: Some("data: [DONE]\n\n".to_owned()) }.collect()
    }

    fn echoed(text: &str) -> String {
        let all: Vec<u8> = pieces(text).concat();
        let all = String::from_utf8(all).unwrap();
        let all = all.strip_suffix("data: [DONE]\n\n").expect("the stream has an end");
        all.split_terminator("\n\n")
            .map(|event| {
                let event: Value =
                    serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                assert_eq!(event["data"], event["choices"][0]["delta"]["content"]);
                event["data"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn every_text_is_echoed_unchanged() {
        for text in ["", "Hello", " two  words\n", "\u{1}\"\\", "🦀é x"] {
            assert_eq!(echoed(text), text);
        }
        let long = "🦀é".repeat(LONGEST_WORD);
        assert_eq!(echoed(&long), long, "one word, in parts");
    }

    #[test]
    fn no_piece_is_longer_than_some_kilobytes() {
        for text in ["a ".repeat(100_000), "\u{1}".repeat(100_000), "x".repeat(100_000)] {
            let longest = pieces(&text).iter().map(Bytes::len).max();
            assert!(longest <= Some(PIECE + EVENT_OF_THE_LONGEST), "{longest:?}");
        }
    }
}
