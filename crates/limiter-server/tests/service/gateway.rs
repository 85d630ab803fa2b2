//! The APIs of OpenAI and Anthropic: calls forwarded, streamed, refused.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use limiter::Credits;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::provider::{Provider, STREAM_HEAD, whole};
use crate::support::{ADMIN, Answer, Folder, MODEL, Running, until};

/// A server with the model `far/away` behind this path of a provider. It holds 10 output tokens if a request has no
/// maximum. A call costs 5 millionths of a credit, an input token 1, a cached one 0.1, an output token 2.
fn config(folder: &Folder, provider: &Provider, path: &str) -> String {
    let config = format!(
        "[[models]]\nid = \"far\"\npath = \"far/away\"\nupstream = \"{}{path}\"\nexpected_output_tokens = 10\n\
         upstream_model = \"theirs\"\nupstream_authorization_env = \"LIMITER_WEBHOOK_SECRET\"\n\
         price = {{ request = \"0.000005\", input = 1, cached_input = \"0.1\", output = 2 }}\n\
         [[models]]\nid = \"{MODEL}\"\npath = \"echo\"\n",
        provider.origin
    );
    let path = folder.file("config.toml");
    fs::write(&path, config).unwrap();
    path.to_str().unwrap().to_owned()
}

fn server(folder: &Folder, provider: &Provider, path: &str) -> Running {
    Running::with(&["--config", &config(folder, provider, path)])
}

fn on_each_store(folder: &Folder, provider: &Provider, path: &str) -> [Running; 2] {
    Running::on_each_store_with(&["--config", &config(folder, provider, path)])
}

/// Requests, tokens, and millionths of a credit.
fn usage(server: &Running, key: &str) -> (u64, u64, u64) {
    let usage = server.get(key, "/v1/usage").body;
    let figure = |value: &Value| value.as_u64().unwrap();
    let day = &usage["global"]["day"];
    (
        figure(&day["requests"]["used"]),
        figure(&day["tokens"]["used"]),
        Credits::deserialize(&usage["credits"]["spent"]).unwrap().millionths(),
    )
}

/// Sends a call whose answer comes later.
fn begin(server: &Running, key: &str, path: &str, body: &Value) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

/// Reads up to the line with this text.
fn read_until(client: &mut BufReader<TcpStream>, text: &str) -> String {
    let (mut seen, mut line) = (String::new(), String::new());
    while !line.contains(text) {
        line.clear();
        assert!(client.read_line(&mut line).unwrap() > 0, "{seen}");
        seen.push_str(&line);
    }
    seen
}

const JSON: &str = "content-type: application/json\r\nx-request-id: req-7\r\n";
const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const APIS: [&str; 6] =
    [CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", MESSAGES];

#[test]
fn each_api_is_passed_on_and_settled_by_the_usage_of_its_answer() {
    let cases = [
        (
            CHAT,
            json!({"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
            7,
            16,
        ),
        (
            "/v1/completions",
            json!({"choices": [{"text": "Hi"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4.0}}),
            7,
            16,
        ),
        (
            "/v1/responses",
            json!({"output": [], "usage": {"input_tokens": 3, "output_tokens": 4}}),
            7,
            16,
        ),
        (
            "/v1/embeddings",
            json!({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}),
            8,
            13,
        ),
        ("/v1/rerank", json!({"results": [], "usage": {"total_tokens": 9}}), 9, 14),
        (
            MESSAGES,
            json!({"content": [{"type": "text", "text": "Hi"}], "usage": {"input_tokens": 18, "cache_read_input_tokens": 8831, "output_tokens": 26}}),
            8875,
            959,
        ),
    ];
    let (folder, provider) = (Folder::new(), Provider::start());
    for server in on_each_store(&folder, &provider, CHAT) {
        for (path, answer, tokens, credits) in &cases {
            let (_, key) = server.member(path, json!({"globalLimits": {"rpd": 10}}));
            let answer = answer.to_string();
            provider.say(&whole("200 OK", JSON, &answer));
            provider.hang_up();
            let body =
                json!({"temperature": 0.5, "model": "far/away", "input": "Hi", "messages": []});
            let told = server.post(&key, path, &body);
            assert_eq!((told.status, &told.text), (200, &answer), "{told:?}");
            assert_eq!(told.header("x-request-id"), Some("req-7"), "{told:?}");
            assert_eq!(usage(&server, &key), (1, *tokens, *credits), "{path}");
            let received = provider.received.recv().unwrap();
            assert!(received.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{received}");
            assert!(received.contains("\"model\":\"theirs\""), "{received}");
            assert!(!received.contains(&key), "the client's key is not forwarded: {received}");
        }
    }
}

/// The events of a stream, and at its end the usage: 3 input tokens and 40 output tokens.
fn streams() -> [(&'static str, Value, &'static str, &'static str); 4] {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"model": "far", "stream": true, "messages": messages});
    let message = json!({"model": "far", "stream": true, "max_tokens": 10, "messages": messages});
    let text = json!({"model": "far", "stream": true, "prompt": "Hi"});
    let input = json!({"model": "far", "stream": true, "input": "Hi"});
    [
        (
            CHAT,
            chat,
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":40}}\n\ndata: [DONE]\n\n",
        ),
        (
            "/v1/completions",
            text,
            "data: {\"choices\":[{\"index\":0,\"text\":\"word\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":40}}\n\ndata: [DONE]\n\n",
        ),
        (
            "/v1/responses",
            input,
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"word\"}\n\n",
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":40}}}\n\n",
        ),
        (
            MESSAGES,
            message,
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"word\"}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":3,\"output_tokens\":40}}\n\n",
        ),
    ]
}

#[test]
fn a_stream_of_each_api_is_passed_on_and_settled_before_its_end_is_seen() {
    let (folder, provider) = (Folder::new(), Provider::start());
    for server in on_each_store(&folder, &provider, CHAT) {
        for (path, body, event, end) in streams() {
            let (_, key) = server.member(path, json!({"globalLimits": {"rpd": 10}}));
            let mut client = begin(&server, &key, path, &body);
            provider.say(STREAM_HEAD);
            provider.say(event);
            let mut seen = read_until(&mut client, "word");
            provider.say(end);
            provider.hang_up();
            client.read_to_string(&mut seen).unwrap();
            assert_eq!(usage(&server, &key), (1, 43, 88), "{path}");
            let received = provider.received.recv().unwrap();
            let asks = matches!(path, CHAT | "/v1/completions");
            assert_eq!(received.contains("\"stream_options\":{\"include_usage\":true}"), asks);
            assert!(!seen.contains("\"choices\":[]"), "{seen}");
            assert_eq!(seen.contains("[DONE]"), asks, "{seen}");
            assert!(seen.contains("content-type: text/event-stream"), "{seen}");
        }
    }
}

#[test]
fn a_caller_that_asks_for_the_chunk_with_the_usage_gets_it() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider, CHAT);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let [(path, mut body, event, end), ..] = streams();
    body["stream_options"] = json!({"include_usage": true});
    let mut client = begin(&server, &key, path, &body);
    provider.say(&[STREAM_HEAD, event, end].concat());
    provider.hang_up();
    let mut seen = String::new();
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("\"choices\":[]"), "{seen}");
    assert_eq!(usage(&server, &key), (1, 43, 88));
}

#[test]
fn a_client_that_hangs_up_before_the_usage_pays_the_price_of_the_tokens_it_got() {
    let (folder, provider) = (Folder::new(), Provider::start());
    for server in on_each_store(&folder, &provider, CHAT) {
        for (path, mut body, event, _) in streams() {
            let (_, key) = server.member(path, json!({"globalLimits": {"rpd": 10}}));
            let most = if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" };
            body[most] = json!(5_000);
            let mut client = begin(&server, &key, path, &body);
            provider.say(STREAM_HEAD);
            provider.say(&event.repeat(4_000));
            provider.say(": all of it\n\n");
            read_until(&mut client, ": all of it");
            let (_, held, _) = usage(&server, &key);
            assert!((5_001..5_100).contains(&held), "{path}: {held}");
            drop(client);
            // Settled at the latest when the provider goes on.
            until("it is settled", || {
                provider.pieces.send(Some(": still here\n\n".to_owned())).unwrap();
                usage(&server, &key).1 < held
            });
            let (requests, tokens, credits) = usage(&server, &key);
            let input = held - 5_000;
            assert_eq!((requests, tokens), (1, input + 4_000), "{path}");
            assert_eq!(credits, 5 + input + 2 * 4_000, "{path}: tokens and credits agree");
            provider.hang_up();
        }
    }
}

#[test]
fn a_whole_answer_that_breaks_off_is_cut_off_and_its_tokens_and_credits_agree() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider, CHAT);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let body = json!({"model": "far", "messages": [], "max_tokens": 900});
    let mut client = begin(&server, &key, CHAT, &body);
    provider.say(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n\
         {\"choices\":[{\"message\":{\"content\":\"one two three four\"}}],",
    );
    provider.hang_up();
    let mut seen = String::new();
    let _ = client.read_to_string(&mut seen);
    assert!(seen.contains("three") && !seen.ends_with("0\r\n\r\n"), "{seen}");
    let (requests, tokens, credits) = usage(&server, &key);
    assert!(requests == 1 && tokens > 3, "{tokens}");
    let output = credits - 5 - tokens;
    assert!(output > 3 && output <= tokens.min(900), "{tokens} {credits}");
}

#[test]
fn a_call_holds_the_largest_answer_that_its_request_allows() {
    let (folder, provider) = (Folder::new(), Provider::start());
    for server in on_each_store(&folder, &provider, CHAT) {
        for (path, body, held) in [
            (CHAT, json!({"max_tokens": 1, "max_completion_tokens": 900}), 900),
            (CHAT, json!({"max_tokens": 900, "max_completion_tokens": 1}), 900),
            (CHAT, json!({"n": 10, "max_tokens": 90}), 900),
            (CHAT, json!({"max_tokens": 25.0}), 25),
            (CHAT, json!({}), 10),
            (CHAT, json!({"n": 3}), 30),
            ("/v1/responses", json!({"max_output_tokens": 900}), 900),
            (MESSAGES, json!({"max_tokens": 900}), 900),
            ("/v1/embeddings", json!({}), 0),
            ("/v1/rerank", json!({}), 0),
        ] {
            let name = format!("{path} {body}");
            let (_, key) = server.member(&name, json!({"globalLimits": {"tpm": 1_000}}));
            let mut body = body;
            body["model"] = json!("far");
            let client = begin(&server, &key, path, &body);
            // Reserved before it goes to the provider.
            provider.received.recv().unwrap();
            let (_, tokens, credits) = usage(&server, &key);
            assert!((held..held + 40).contains(&tokens), "{name}: {tokens}");
            assert_eq!(credits, 5 + (tokens - held) + 2 * held, "{name}");
            if held == 900 {
                let denied = server.post(&key, path, &body);
                assert_eq!(denied.status, 429, "{name}: {denied:?}");
            }
            provider.say(&whole("500 No", "", ""));
            provider.hang_up();
            drop(client);
        }
    }
}

#[test]
fn the_held_output_is_sent_as_the_maximum_if_the_configuration_says_so() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let config = config(&folder, &provider, CHAT);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen("price", "send_maximum = true\nprice", 1)).unwrap();
    let server = Running::with(&["--config", &config]);
    for (path, fields, sent) in [
        (CHAT, json!({"n": 2}), "\"max_completion_tokens\":10"),
        // No answer can have more than the whole limit, of which the prompt takes a part.
        (CHAT, json!({"max_tokens": 900, "messages": []}), "\"max_tokens\":88"),
        (MESSAGES, json!({"max_tokens": 7}), "\"max_tokens\":7"),
        ("/v1/responses", json!({}), "\"max_output_tokens\":10"),
        ("/v1/embeddings", json!({"input": "Hi"}), "{\"input\":\"Hi\",\"model\":\"theirs\"}"),
    ] {
        let (_, key) = server.member(sent, json!({"globalLimits": {"tpd": 100}}));
        let mut body = fields;
        body["model"] = json!("far");
        provider.say(&whole("200 OK", JSON, "{}"));
        provider.hang_up();
        let answer = server.post(&key, path, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let received = provider.received.recv().unwrap();
        assert!(received.contains(sent), "{received}");
    }
}

/// An error in the format of the path's API: its status, kind and message. The kind is OpenAI's `code` or Anthropic's
/// `type`.
fn error<'a>(answer: &'a Answer, path: &str) -> (u16, &'a str, &'a str) {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    let error = &answer.body["error"];
    let kind = match path {
        MESSAGES => {
            assert_eq!(answer.body["type"], json!("error"), "{answer:?}");
            &error["type"]
        }
        _ => {
            assert!(error["type"].is_string() && error["param"].is_null(), "{answer:?}");
            &error["code"]
        }
    };
    (answer.status, kind.as_str().unwrap(), error["message"].as_str().unwrap())
}

#[test]
fn denials_and_refusals_are_errors_of_the_api_that_was_called() {
    let (folder, provider) = (Folder::new(), Provider::start());
    for server in on_each_store(&folder, &provider, CHAT) {
        let (_, small) = server.member("small", json!({"globalLimits": {"tpd": 2}}));
        let (_, poor) = server.member("poor", json!({"budget": 0.000001}));
        let (_, key) = server.member("member", json!({}));
        for path in APIS {
            let ours = path == MESSAGES;
            let text = "a prompt of more than two tokens";
            let call = json!({
                "model": "far", "messages": [{"role": "user", "content": text}], "prompt": text, "input": text,
                "query": text, "documents": [text],
            });
            let refused = |key: &str, body: &str| server.call("POST", key, path, body);

            let denied = refused(&small, &call.to_string());
            let kind = if ours { "rate_limit_error" } else { "rate_limit_exceeded" };
            let (status, told, message) = error(&denied, path);
            assert_eq!((status, told), (429, kind), "{denied:?}");
            assert!(message.contains("tokens per day"), "{message}");
            assert_eq!(denied.header("x-should-retry"), Some("false"), "it never fits");
            assert!(denied.header("ratelimit-policy").is_some(), "{denied:?}");
            let own =
                if ours { "anthropic-ratelimit-tokens-limit" } else { "x-ratelimit-limit-tokens" };
            assert_eq!(denied.header(own), Some("2"), "{denied:?}");

            let denied = refused(&poor, &call.to_string());
            let expected = if ours { (402, "billing_error") } else { (429, "insufficient_quota") };
            let (status, kind, _) = error(&denied, path);
            assert_eq!((status, kind), expected, "{denied:?}");

            let words =
                |ours_is: &'static str, theirs: &'static str| if ours { ours_is } else { theirs };
            let named = |name: &str| json!({"model": name}).to_string();
            for (key, body, status, kind, says) in [
                (
                    "",
                    call.to_string(),
                    401,
                    words("authentication_error", "invalid_api_key"),
                    "access key",
                ),
                (ADMIN, call.to_string(), 403, words("permission_error", "admin_key"), "admin"),
                (&key, named("gpt-6"), 404, words("not_found_error", "model_not_found"), "gpt-6"),
                (
                    &key,
                    named(MODEL),
                    404,
                    words("not_found_error", "model_not_found"),
                    "no provider",
                ),
                (&key, "[]".to_owned(), 400, words("invalid_request_error", "malformed"), "object"),
                (&key, "{}".to_owned(), 400, words("invalid_request_error", "malformed"), "model"),
            ] {
                let refused = refused(key, &body);
                let (told, told_kind, message) = error(&refused, path);
                assert_eq!((told, told_kind), (status, kind), "{path}: {refused:?}");
                assert!(message.contains(says), "{path}: {message}");
            }
            let wrong = server.call("GET", &key, path, "");
            assert_eq!(error(&wrong, path).0, 405, "{wrong:?}");
        }
        assert_eq!(usage(&server, &small), (0, 0, 0));
        assert!(provider.received.try_recv().is_err(), "nothing was forwarded");
    }
}

#[test]
fn a_body_beyond_the_bound_is_refused_in_the_words_of_the_api() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let config = config(&folder, &provider, CHAT);
    let server = Running::with(&["--config", &config, "--max-body-bytes", "100"]);
    let (_, key) = server.member("member", json!({}));
    let body = json!({"model": "far", "messages": [], "user": "x".repeat(100)});
    for (path, kind) in [(CHAT, "request_too_large"), (MESSAGES, "request_too_large")] {
        let refused = server.post(&key, path, &body);
        let (status, told, _) = error(&refused, path);
        assert_eq!((status, told), (413, kind), "{refused:?}");
    }
}

#[test]
fn a_refusal_of_the_provider_is_passed_on_and_one_of_this_server_is_not_the_callers() {
    let explained = r#"{"error":{"message":"Slow down","code":"rate_limit_exceeded"}}"#;
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider, CHAT);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let call = |path: &str, answer: &str| {
        provider.say(answer);
        provider.hang_up();
        server.post(&key, path, &json!({"model": "far", "messages": []}))
    };
    let headers = "content-type: application/json\r\nretry-after: 7\r\nx-should-retry: true\r\n";
    let refused = call(CHAT, &whole("429 No", headers, explained));
    assert_eq!((refused.status, refused.text.as_str()), (429, explained));
    assert_eq!(refused.header("retry-after"), Some("7"));
    assert_eq!(refused.header("x-should-retry"), Some("true"));
    for (path, kind) in [(CHAT, "upstream"), (MESSAGES, "invalid_request_error")] {
        let unreadable = call(path, &whole("422 No", "retry-after: 7\r\n", ""));
        let (status, told, _) = error(&unreadable, path);
        assert_eq!((status, told), (422, kind), "{unreadable:?}");
        assert_eq!(unreadable.header("retry-after"), Some("7"), "{unreadable:?}");
    }
    for (path, answer, kind) in [
        (CHAT, whole("401 No", JSON, "sk-our"), "upstream_credentials"),
        (MESSAGES, whole("401 No", JSON, "sk-our"), "api_error"),
        (CHAT, whole("500 No", JSON, "{}"), "upstream"),
        (MESSAGES, whole("529 No", JSON, "{}"), "api_error"),
        (CHAT, whole("200 OK", "content-type: text/html\r\n", "<html>"), "upstream"),
        (
            CHAT,
            whole("200 OK", "content-type: application/json\r\ncontent-encoding: gzip\r\n", "x"),
            "upstream",
        ),
    ] {
        let refused = call(path, &answer);
        let (status, told, _) = error(&refused, path);
        assert_eq!((status, told), (502, kind), "{refused:?}");
        assert!(!refused.text.contains("sk-our"), "{refused:?}");
    }
    assert_eq!(usage(&server, &key), (0, 0, 0));
}

#[test]
fn anthropics_api_gets_its_own_headers() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider, MESSAGES);
    let (_, key) = server.member("member", json!({}));
    let body = json!({"model": "far", "messages": [], "max_tokens": 5}).to_string();
    let call = |path: &str, headers: &[(&str, &str)]| {
        provider.say(&whole("200 OK", JSON, "{}"));
        provider.hang_up();
        let headers = [&[("x-api-key", key.as_str())], headers].concat();
        assert_eq!(server.call_with("POST", path, headers, &body).status, 200);
        provider.received.recv().unwrap().to_lowercase()
    };
    let received = call(MESSAGES, &[]);
    assert!(received.contains("\r\nanthropic-version: 2023-06-01\r\n"), "{received}");
    assert!(received.contains("\r\nx-api-key: secret-of-the-webhook-of-a-test\r\n"), "{received}");
    assert!(!received.contains("authorization:"), "{received}");
    let received = call(
        "/v1/messages?beta=true",
        &[("anthropic-version", "2099-01-01"), ("anthropic-beta", "new")],
    );
    assert!(received.starts_with("post /v1/messages http/1.1\r\n"), "{received}");
    assert!(received.contains("\r\nanthropic-version: 2099-01-01\r\n"), "{received}");
    assert!(received.contains("\r\nanthropic-beta: new\r\n"), "{received}");
}

#[test]
fn answers_say_how_limits_stand_unless_no_headers_are_wanted() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let config = config(&folder, &provider, CHAT);
    for (flags, own) in [(&[][..], true), (&["--headers", "none"][..], false)] {
        let server = Running::with(&[&["--config", &config], flags].concat());
        let (_, key) = server.member("member", json!({"globalLimits": {"tpd": 1_000}}));
        for (path, header) in [
            (CHAT, "x-ratelimit-remaining-tokens"),
            (MESSAGES, "anthropic-ratelimit-tokens-remaining"),
        ] {
            provider.say(&whole(
                "200 OK",
                JSON,
                "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}",
            ));
            provider.hang_up();
            let answer = server.post(&key, path, &json!({"model": "far", "messages": []}));
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header(header).is_some(), own, "{answer:?}");
            assert_eq!(answer.header("ratelimit").is_some(), own, "{answer:?}");
        }
    }
}

#[test]
fn the_models_that_can_be_called_are_listed() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider, CHAT);
    let (_, key) = server.member("member", json!({}));
    let list = server.get(&key, "/v1/models");
    let model = json!({"id": "far/away", "object": "model", "created": 0, "owned_by": "away"});
    assert_eq!((list.status, list.body), (200, json!({"object": "list", "data": [model]})));
    let refused = server.get("", "/v1/models");
    assert_eq!(error(&refused, CHAT).1, "invalid_api_key");
}
