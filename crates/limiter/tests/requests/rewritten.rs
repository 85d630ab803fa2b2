//! Changes that a gateway makes to a request before it passes it on.

use limiter::stream::Api::{
    self, AnthropicMessages, Gemini, OpenAiChat, OpenAiCompletions, OpenAiEmbeddings,
    OpenAiResponses, Rerank,
};
use limiter::stream::{ApiRequest, RequestChanges};

fn rewritten(api: Api, body: &str, changes: RequestChanges) -> Option<String> {
    let request = ApiRequest::read(api, body.as_bytes()).unwrap();
    let made = request.rewritten(body.as_bytes(), &changes)?;
    Some(String::from_utf8(made).unwrap())
}

#[test]
fn a_stream_is_asked_for_its_usage() {
    let changes = RequestChanges { ask_for_usage: true, ..RequestChanges::default() };
    for (api, body, expected) in [
        (
            OpenAiChat,
            r#" { "stream": true }"#,
            Some(r#" {"stream_options":{"include_usage":true}, "stream": true }"#),
        ),
        (
            OpenAiCompletions,
            r#"{"stream":true,"prompt":"{"}"#,
            Some(r#"{"stream_options":{"include_usage":true},"stream":true,"prompt":"{"}"#),
        ),
        (
            OpenAiChat,
            r#"{"stream":true,"stream_options":null}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        ),
        (
            OpenAiChat,
            r#"{"stream":true,"stream_options":[{"include_usage":false}]}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        ),
        (
            OpenAiChat,
            r#"{"stream_options":{ },"stream":true}"#,
            Some(r#"{"stream_options":{"include_usage":true },"stream":true}"#),
        ),
        (
            OpenAiChat,
            r#"{"stream_options":{"x":1},"stream":true}"#,
            Some(r#"{"stream_options":{"include_usage":true,"x":1},"stream":true}"#),
        ),
        (
            OpenAiChat,
            r#"{"stream_options":{"x":1,"include_usage" : false},"stream":true}"#,
            Some(r#"{"stream_options":{"x":1,"include_usage" : true},"stream":true}"#),
        ),
        (
            OpenAiChat,
            r#"{"stream_options":{"include_usage":null},"stream":true}"#,
            Some(r#"{"stream_options":{"include_usage":true},"stream":true}"#),
        ),
        (OpenAiChat, r#"{"stream_options":{"include_usage":true},"stream":true}"#, None),
        (OpenAiChat, r#"{"stream":false}"#, None),
        (OpenAiChat, "{}", None),
        // These APIs report it without being asked, and refuse unknown members.
        (OpenAiResponses, r#"{"stream":true}"#, None),
        (AnthropicMessages, r#"{"stream":true}"#, None),
        (Gemini, r#"{"stream":true}"#, None),
    ] {
        assert_eq!(rewritten(api, body, changes).as_deref(), expected, "{body}");
    }
}

#[test]
fn the_maximum_that_was_held_is_sent() {
    let changes = RequestChanges { max_output_tokens: Some(50), ..RequestChanges::default() };
    for (api, body, expected) in [
        (OpenAiChat, "{}", Some(r#"{"max_completion_tokens":50}"#)),
        (OpenAiChat, r#"{"n":2}"#, Some(r#"{"max_completion_tokens":50,"n":2}"#)),
        (OpenAiChat, r#"{"max_tokens":51}"#, Some(r#"{"max_tokens":50}"#)),
        (OpenAiChat, r#"{"max_tokens":50}"#, None),
        (OpenAiChat, r#"{"max_tokens":49.0}"#, None),
        (
            OpenAiChat,
            r#"{"max_tokens":10,"max_completion_tokens": 900 }"#,
            Some(r#"{"max_tokens":10,"max_completion_tokens": 50 }"#),
        ),
        // OpenAI refuses a request with both.
        (OpenAiChat, r#"{"max_tokens":null}"#, Some(r#"{"max_tokens":50}"#)),
        (
            OpenAiChat,
            r#"{"max_tokens":null,"max_completion_tokens":60}"#,
            Some(r#"{"max_tokens":null,"max_completion_tokens":50}"#),
        ),
        (OpenAiChat, r#"{"max_tokens":null,"max_completion_tokens":40}"#, None),
        // A server ignores an invalid maximum, or reads an unknown number from it. So it is replaced.
        (OpenAiChat, r#"{"max_tokens":-1}"#, Some(r#"{"max_tokens":50}"#)),
        (OpenAiChat, r#"{"max_tokens":0}"#, Some(r#"{"max_tokens":50}"#)),
        (OpenAiChat, r#"{"max_tokens":{"a":[]},"n":1}"#, Some(r#"{"max_tokens":50,"n":1}"#)),
        (OpenAiChat, r#"{"max_tokens":"900"}"#, Some(r#"{"max_tokens":50}"#)),
        (OpenAiCompletions, "{ }", Some(r#"{"max_tokens":50 }"#)),
        (OpenAiResponses, r#"{"input":""}"#, Some(r#"{"max_output_tokens":50,"input":""}"#)),
        (AnthropicMessages, r#"{"max_tokens":1e3}"#, Some(r#"{"max_tokens":50}"#)),
        (Gemini, "{}", Some(r#"{"generationConfig":{"maxOutputTokens":50}}"#)),
        (
            Gemini,
            r#"{"contents":[]}"#,
            Some(r#"{"generationConfig":{"maxOutputTokens":50},"contents":[]}"#),
        ),
        (
            Gemini,
            r#"{"generationConfig":{"topK":1}}"#,
            Some(r#"{"generationConfig":{"maxOutputTokens":50,"topK":1}}"#),
        ),
        (
            Gemini,
            r#"{"generationConfig":null}"#,
            Some(r#"{"generationConfig":{"maxOutputTokens":50}}"#),
        ),
        (
            Gemini,
            r#"{"generation_config":{"max_output_tokens":8192,"topK":1}}"#,
            Some(r#"{"generation_config":{"max_output_tokens":50,"topK":1}}"#),
        ),
        (Gemini, r#"{"generationConfig":{"maxOutputTokens":8}}"#, None),
        (OpenAiEmbeddings, r#"{"input":"a"}"#, None),
        (Rerank, r#"{"query":"a"}"#, None),
    ] {
        assert_eq!(rewritten(api, body, changes).as_deref(), expected, "{body}");
    }
}

#[test]
fn both_changes_go_into_one_body() {
    let changes = RequestChanges { ask_for_usage: true, max_output_tokens: Some(50) };
    for (body, expected) in [
        (
            r#"{"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"max_completion_tokens":50,"stream":true}"#,
        ),
        (
            r#"{"stream_options":{},"max_tokens":900,"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"max_tokens":50,"stream":true}"#,
        ),
        (
            r#"{"max_tokens":900,"stream":true,"user":"é"}"#,
            r#"{"stream_options":{"include_usage":true},"max_tokens":50,"stream":true,"user":"é"}"#,
        ),
    ] {
        assert_eq!(rewritten(OpenAiChat, body, changes).as_deref(), Some(expected), "{body}");
    }
}

/// Servers refuse a maximum of 0, or treat it as none.
#[test]
fn the_least_maximum_is_one() {
    let changes = RequestChanges { max_output_tokens: Some(0), ..RequestChanges::default() };
    let made = rewritten(OpenAiChat, r#"{"max_tokens":9}"#, changes);
    assert_eq!(made.as_deref(), Some(r#"{"max_tokens":1}"#));
}

#[test]
fn another_body_is_not_changed() {
    let request = ApiRequest::read(OpenAiChat, br#"{"max_tokens":900}"#).unwrap();
    let changes = RequestChanges { max_output_tokens: Some(50), ..RequestChanges::default() };
    assert_eq!(request.rewritten(b"{}", &changes), None);
    assert_eq!(request.rewritten(&[0xff; 18], &changes), None);
    assert_eq!(request.rewritten(br#"{"max_tokens":900}"#, &RequestChanges::default()), None);
}
