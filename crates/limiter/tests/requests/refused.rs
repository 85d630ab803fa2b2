//! Requests that are refused, and the model and stream of valid ones.

use limiter::stream::{Api, ApiRequest, RequestError};

fn read(body: &str) -> Result<ApiRequest, RequestError> {
    ApiRequest::read(Api::OpenAiChat, body.as_bytes())
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for body in
        ["", " ", "x", "{", "{}x", "{\"a\":}", "{'a':1}", "\u{feff}{}", "{\"messages\":[", "[1,"]
    {
        assert_eq!(read(body), Err(RequestError::NotJson), "{body:?}");
    }
    assert_eq!(ApiRequest::read(Api::Gemini, b"{\"a\":\"\xff\"}"), Err(RequestError::NotJson));
    for body in ["null", "1", "\"{}\"", "[]", "[{\"max_tokens\":1}]"] {
        assert_eq!(read(body), Err(RequestError::NotAnObject), "{body:?}");
    }
    assert!(read(" \n{}\t").is_ok());
}

/// Of `{"max_tokens":1,"max_tokens":900}`, parsers use the first or the last.
#[test]
fn what_decides_the_cost_stands_once() {
    for (api, body, name) in [
        (Api::OpenAiChat, r#"{"model":"a","model":"b"}"#, "model"),
        (Api::OpenAiChat, r#"{"model":"a","\u006dodel":"b"}"#, "model"),
        (Api::OpenAiChat, r#"{"max_tokens":1,"max_tokens":900}"#, "max_tokens"),
        (Api::OpenAiChat, r#"{"n":1,"messages":[],"n":1}"#, "n"),
        (Api::OpenAiChat, r#"{"stream":true,"stream":false}"#, "stream"),
        (Api::OpenAiChat, r#"{"stream_options":{},"stream_options":null}"#, "stream_options"),
        (
            Api::OpenAiChat,
            r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#,
            "include_usage",
        ),
        (Api::OpenAiCompletions, r#"{"best_of":1,"best_of":2}"#, "best_of"),
        (
            Api::OpenAiResponses,
            r#"{"max_output_tokens":1,"max_output_tokens":2}"#,
            "max_output_tokens",
        ),
        (Api::AnthropicMessages, r#"{"max_tokens":1,"max_tokens":1}"#, "max_tokens"),
        (Api::Gemini, r#"{"generationConfig":{},"generationConfig":{}}"#, "generationConfig"),
        (
            Api::Gemini,
            r#"{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":2}}"#,
            "maxOutputTokens",
        ),
    ] {
        let refused = ApiRequest::read(api, body.as_bytes());
        assert_eq!(refused, Err(RequestError::Repeated { name }), "{body}");
    }
    // Both count, since a server may use either.
    let request =
        read(r#"{"messages":[{"content":"1234"}],"messages":[{"content":"1234"}]}"#).unwrap();
    assert_eq!(request.input_tokens(), 2 + 8 + 3);
    // In other places they do not affect the cost.
    assert!(read(r#"{"metadata":{"n":1,"n":2},"user":"a","user":"b"}"#).is_ok());
}

/// Parsers written in Go treat `Model` as `model`, and the Kelvin sign as a k.
#[test]
fn what_decides_the_cost_has_its_letter_case() {
    for (body, name) in [
        (r#"{"model":"cheap","Model":"dear"}"#, "model"),
        (r#"{"MAX_TOKENS":900}"#, "max_tokens"),
        ("{\"max_to\u{212a}ens\":900}", "max_tokens"),
        (r#"{"N":9}"#, "n"),
        (r#"{"Messages":[]}"#, "messages"),
    ] {
        assert_eq!(read(body), Err(RequestError::LetterCase { name }), "{body}");
    }
    let other = r#"{"Models":1,"maxOutputTokens":1,"X":1,"M\u0000odel":1,"generationConfig":{}}"#;
    assert!(read(other).is_ok());
    assert!(ApiRequest::read(Api::Gemini, br#"{"generationConfig":{},"Model":1}"#).is_ok());
}

#[test]
fn a_model_is_a_string_of_1_to_256_bytes() {
    let longest = "m".repeat(256);
    for (model, expected) in [
        (r#""gpt-5""#.to_owned(), Some("gpt-5")),
        (r#""gpt\u002d5""#.to_owned(), Some("gpt-5")),
        ("null".to_owned(), None),
        (format!("\"{longest}\""), Some(&*longest)),
    ] {
        let request = read(&format!("{{\"model\":{model}}}")).unwrap();
        assert_eq!(request.model(), expected, "{model}");
    }
    assert_eq!(read("{}").unwrap().model(), None);
    for model in [r#""""#, "1", "{}", "[\"a\"]", "true", &format!("\"{longest}m\"")] {
        assert_eq!(read(&format!("{{\"model\":{model}}}")), Err(RequestError::Model), "{model}");
    }
    // Gemini has it in the path: a member in the body does not affect the cost.
    let request = ApiRequest::read(Api::Gemini, br#"{"model":"models/cheap"}"#).unwrap();
    assert_eq!(request.model(), None);
}

#[test]
fn a_request_says_whether_it_streams_with_its_usage() {
    for (body, streams, asks) in [
        ("{}", false, false),
        (r#"{"stream":null}"#, false, false),
        (r#"{"stream":false,"stream_options":null}"#, false, false),
        (r#"{"stream":true}"#, true, false),
        (r#"{"stream":true,"stream_options":{"include_usage":false}}"#, true, false),
        (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, true, true),
        (r#"{"stream":true,"include_usage":true}"#, true, false),
    ] {
        let request = read(body).unwrap();
        assert_eq!((request.streams(), request.asks_for_usage()), (streams, asks), "{body}");
    }
}

#[test]
fn an_error_says_what_to_do() {
    for (error, text) in [
        (RequestError::NotJson, "the request body is not valid JSON: send a JSON object"),
        (RequestError::NotAnObject, "the request body is not a JSON object: send one"),
        (
            RequestError::Repeated { name: "n" },
            "the request body has \"n\" more than once: send it once",
        ),
        (
            RequestError::LetterCase { name: "n" },
            "a member of the request body differs from \"n\" in letter case only: name it \"n\"",
        ),
        (
            RequestError::Model,
            "the request's \"model\" is invalid: it must be a string of 1 to 256 bytes",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
