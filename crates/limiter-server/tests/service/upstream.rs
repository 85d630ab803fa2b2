//! Models that run elsewhere: forwarded, streamed, settled.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use limiter::Credits;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::provider::{Provider, STREAM_HEAD, whole};
use crate::support::{Answer, Folder, Running, until};

/// A server with one model, `far/away`, which is held by 10 output tokens and costs a millionth a token.
fn server(folder: &Folder, upstream: &str) -> Running {
    let config = format!(
        "[[models]]\nid = \"far\"\npath = \"far/away\"\nupstream = \"{upstream}\"\nexpected_output_tokens = 10\n\
         price = {{ request = \"0.000005\", input = 1, output = \"1\" }}\n"
    );
    let path = folder.file("config.toml");
    fs::write(&path, config).unwrap();
    Running::with(&["--config", path.to_str().unwrap()])
}

fn stream_run(server: &Running, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"text":"Hi","options":{"stream":true}}"#;
    let request = format!(
        "POST /api/v2/execute/far HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

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

#[test]
fn a_run_is_forwarded_and_settled_by_the_usage_of_its_answer() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let answer = json!({"choices": [{"message": {"content": "Hi!"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let answer = answer.to_string();
    provider.say(&format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    ));
    provider.hang_up();
    let answer =
        server.post(&key, "/api/v2/execute/far%2Faway", &json!({"text": "Hi", "temperature": 0.5}));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["data"], json!("Hi!"));
    assert_eq!(
        (&answer.body["status"], &answer.body["completed"]),
        (&json!("SUCCESS"), &json!(true))
    );
    assert_eq!(answer.body["usedCredits"], json!(0.000012));
    assert_eq!(
        usage(&server, &key),
        (1, 7, 12),
        "5 millionths for the run, and one for each token"
    );
    let received = provider.received.recv().unwrap();
    assert!(
        received.ends_with(r#"{"text":"Hi","temperature":0.5}"#)
            || received.contains("temperature"),
        "{received}"
    );
    assert!(
        !received.contains(&key),
        "the key of the client is nobody else's business: {received}"
    );
}

#[test]
fn a_stream_is_passed_on_as_it_comes_and_settled_when_it_ends() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = BufReader::new(stream_run(&server, &key));
    provider.say(STREAM_HEAD);
    provider.say("data: {\"choices\":[{\"delta\":{\"content\":\"first\"}}]}\n\n");
    let mut seen = String::new();
    while !seen.contains("first") {
        assert!(client.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    let (requests, held, _) = usage(&server, &key);
    assert_eq!(requests, 1);
    assert!(held > 10, "the estimate is held meanwhile: {held}");
    provider.say("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n");
    provider.hang_up();
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("[DONE]"), "{seen}");
    assert_eq!(usage(&server, &key), (1, 5, 10), "settled before the client saw the end");
}

#[test]
fn a_client_that_goes_away_in_the_middle_is_charged_what_came_until_then() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = BufReader::new(stream_run(&server, &key));
    provider.say(STREAM_HEAD);
    provider.say("data: {\"choices\":[{\"delta\":{\"content\":\"first\"}}]}\n\n");
    let mut seen = String::new();
    while !seen.contains("first") {
        assert!(client.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    let (_, held, _) = usage(&server, &key);
    drop(client);
    // Settled without the client, at the latest when the provider goes on: nine of the ten tokens are given back.
    until("it is settled", || {
        provider.pieces.send(Some(": still here\n\n".to_owned())).unwrap();
        usage(&server, &key).1 < held
    });
    let (requests, tokens, _) = usage(&server, &key);
    assert_eq!((requests, tokens), (1, held - 9));
    assert!(server.stop().success(), "nothing is left to wait for");
}

#[test]
fn a_stream_that_breaks_off_is_cut_off_too_and_charged_what_came() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = stream_run(&server, &key);
    provider.say(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"no end\"}}]}\n\n";
    provider.say(&format!("{:x}\r\n{event}\r\n", event.len()));
    let mut seen = Vec::new();
    let mut piece = [0; 4_096];
    while !seen.windows(3).any(|text| text == b"end") {
        let length = client.read(&mut piece).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
    let (_, held, _) = usage(&server, &key);
    provider.hang_up();
    // The end of the chunks is missing, so that the client knows.
    let _ = client.read_to_end(&mut seen);
    assert!(!seen.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&seen));
    until("it is settled", || usage(&server, &key).1 == held - 8);
}

/// Runs a model whose provider gives this answer. Returns the client's answer, the usage, and the request that the
/// provider received.
fn run_answered(answer: &str) -> (Answer, (u64, u64, u64), String) {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    provider.say(answer);
    provider.hang_up();
    let answer = server.post(&key, "/api/v2/execute/far", &json!({"text": "Hi"}));
    (answer, usage(&server, &key), provider.received.recv().unwrap())
}

/// A stream without readable text may have had any number of tokens, so the estimate stands.
#[test]
fn a_stream_that_breaks_off_before_any_text_keeps_the_estimate() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = stream_run(&server, &key);
    provider.say(STREAM_HEAD);
    provider.say(": no text\n\n");
    provider.hang_up();
    let mut seen = String::new();
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("no text"), "{seen}");
    let (requests, tokens, credits) = usage(&server, &key);
    assert!((requests, credits) == (1, 5 + tokens) && tokens > 10, "{tokens} {credits}");
}

#[test]
fn a_run_shows_the_tokens_and_credits_that_it_is_charged() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &format!("{}/v1/messages", provider.origin));
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    for (answer, shown, expected) in [
        (
            json!({"usage": {"input_tokens": 18, "cache_read_input_tokens": 8831, "output_tokens": 26}}),
            json!({"input_tokens": 18, "cache_read_input_tokens": 8831, "output_tokens": 26,
                "prompt_tokens": 8849, "completion_tokens": 26, "total_tokens": 8875}),
            8_875,
        ),
        // The provider reports nothing: the text is counted.
        (
            json!({"content": [{"type": "text", "text": "Hello there, you!"}]}),
            json!({"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}),
            9,
        ),
    ] {
        let (_, before, spent) = usage(&server, &key);
        provider.say(&whole("200 OK", "", &answer.to_string()));
        provider.hang_up();
        let told = server.post(&key, "/api/v2/execute/far", &json!({"text": "Hi"}));
        let (_, tokens, credits) = usage(&server, &key);
        assert_eq!(told.body["usage"], shown, "{told:?}");
        assert_eq!((tokens - before, credits - spent), (expected, 5 + expected), "{told:?}");
        let used = told.body["usedCredits"].as_f64().unwrap() * 1e6;
        assert_eq!(used.round(), (5 + expected) as f64, "{told:?}");
    }
}

#[test]
fn a_refusal_of_the_provider_is_passed_on_and_costs_nothing() {
    let explained = r#"{"error":{"message":"Slow down","code":"rate_limit_exceeded"}}"#;
    for (status, headers, content_type, retry_after) in [
        (
            429,
            "content-type: application/json\r\nretry-after: 7\r\n",
            "application/json",
            Some("7"),
        ),
        (
            429,
            "retry-after: Wed, 21 Oct 2099 07:28:00 GMT\r\n",
            "application/octet-stream",
            Some("Wed, 21 Oct 2099 07:28:00 GMT"),
        ),
        (400, "Content-Type: text/plain; charset=utf-8\r\n", "text/plain; charset=utf-8", None),
        (404, "content-type: application/problem+json\r\n", "application/problem+json", None),
        (
            409,
            "content-type: application/json\r\nx-should-retry: true\r\n",
            "application/json",
            None,
        ),
        (413, "content-type: application/json\r\nset-cookie: a=b\r\n", "application/json", None),
        (
            422,
            "content-type: application/json\r\ncontent-encoding: Identity\r\n",
            "application/json",
            None,
        ),
    ] {
        let (refused, used, _) = run_answered(&whole(&format!("{status} No"), headers, explained));
        assert_eq!((refused.status, refused.text.as_str()), (status, explained), "{refused:?}");
        assert_eq!(refused.header("content-type"), Some(content_type));
        assert_eq!(refused.header("retry-after"), retry_after);
        // Only the provider knows whether a retry helps.
        let should_retry = headers.contains("x-should-retry").then_some("true");
        assert_eq!(refused.header("x-should-retry"), should_retry);
        assert_eq!(refused.header("set-cookie"), None);
        assert_eq!(used, (0, 0, 0));
    }
}

#[test]
fn a_refusal_that_cannot_be_passed_on_keeps_its_status() {
    let long = "x".repeat(65 << 10);
    for (headers, body) in [
        ("retry-after: 7\r\n", ""),
        ("retry-after: 7\r\ncontent-encoding: gzip\r\n", "\u{1f}not really"),
        ("retry-after: 7\r\n", &long),
    ] {
        let (refused, used, _) = run_answered(&whole("429 No", headers, body));
        assert!(refused.assert_refused_on_the_wire(429).contains("429"), "{refused:?}");
        assert_eq!(refused.header("retry-after"), Some("7"));
        assert_eq!(refused.header("x-should-retry"), None);
        assert_eq!(refused.header("content-encoding"), None);
        assert_eq!(used, (0, 0, 0));
    }
}

#[test]
fn a_provider_that_refuses_the_server_does_not_seem_to_refuse_the_caller() {
    for status in ["401 Unauthorized", "402 Payment Required", "403 Forbidden", "407 No"] {
        let headers = "www-authenticate: Bearer\r\n";
        let (refused, used, _) = run_answered(&whole(status, headers, "Incorrect API key: sk-our"));
        let message = refused.assert_refused_on_the_wire(502);
        assert!(message.contains("not the calling key"), "{message}");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert!(!refused.text.contains("sk-our") && refused.header("www-authenticate").is_none());
        assert_eq!(used, (0, 0, 0));
    }
}

#[test]
fn what_the_provider_fails_to_deliver_costs_nothing() {
    let usage = r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let gzip = "content-encoding: gzip\r\n";
    let compressed_stream = "content-type: text/event-stream\r\ncontent-encoding: GZIP\r\n";
    for (answer, retry_after) in [
        (whole("500 No", "", "it broke"), None),
        (whole("503 No", "retry-after: 3\r\n", ""), Some("3")),
        (whole("503 No", "retry-after: 3600\r\n", ""), Some("3600")),
        (whole("301 Moved", "location: http://127.0.0.1:1/\r\n", ""), None),
        (whole("200 OK", gzip, usage), None),
        (whole("200 OK", compressed_stream, "data: {}\n\n"), None),
        (whole("200 OK", "content-type: text/html\r\n", "<html>"), None),
        (whole("200 OK", "", "[]"), None),
        (whole("204 No Content", "", ""), None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"data\"".to_owned(), None),
    ] {
        let (refused, used, _) = run_answered(&answer);
        refused.assert_refused_on_the_wire(502);
        assert_eq!(refused.header("retry-after"), retry_after, "{answer}");
        let should_retry = (retry_after == Some("3600")).then_some("false");
        assert_eq!(refused.header("x-should-retry"), should_retry, "{answer}");
        assert_eq!(refused.header("content-encoding"), None, "{answer}");
        assert_eq!(used, (0, 0, 0), "{answer}");
    }
}

#[test]
fn an_answer_that_never_comes_keeps_the_estimate() {
    let (refused, (requests, tokens, _), _) = run_answered("");
    refused.assert_refused_on_the_wire(502);
    assert!(requests == 1 && tokens > 10, "it may have been run: {requests} {tokens}");
}

#[test]
fn the_provider_is_asked_not_to_compress_and_media_types_have_no_case() {
    let stream = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n";
    for headers in [
        "content-type: Text/Event-Stream; Charset=UTF-8\r\n",
        "content-type: TEXT/EVENT-STREAM\r\n",
        "content-type: text/event-stream ;charset=utf-8\r\ncontent-encoding: identity\r\n",
    ] {
        let (answer, used, received) = run_answered(&whole("200 OK", headers, stream));
        assert_eq!((answer.status, answer.text.as_str()), (200, stream), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(used, (1, 5, 10), "settled like a stream");
        assert!(received.to_lowercase().contains("accept-encoding: identity\r\n"), "{received}");
    }
}

#[test]
fn a_provider_that_is_not_there_costs_nothing() {
    let folder = Folder::new();
    let server = server(&folder, "http://127.0.0.1:1/run");
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    server
        .post(&key, "/api/v2/execute/far", &json!({"text": "Hi"}))
        .assert_refused_on_the_wire(502);
    assert_eq!(usage(&server, &key), (0, 0, 0));
}

#[test]
fn a_run_whose_estimate_never_fits_is_not_forwarded() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"tpd": 2}}));
    server
        .post(&key, "/api/v2/execute/far", &json!({"text": "Hi"}))
        .assert_refused_on_the_wire(429);
    assert!(provider.received.try_recv().is_err());
    assert_eq!(usage(&server, &key), (0, 0, 0));
}

#[test]
fn sigterm_waits_for_a_stream_to_end() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let mut server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = BufReader::new(stream_run(&server, &key));
    provider.say(STREAM_HEAD);
    provider.say("data: first\n\n");
    let mut seen = String::new();
    while !seen.contains("first") {
        assert!(client.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    server.signal(nix::sys::signal::Signal::SIGTERM);
    provider
        .say("data: {\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n");
    provider.hang_up();
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("[DONE]"), "{seen}");
    assert!(server.ended().success());
    assert!(!server.output().contains("not everything ended"), "{}", server.output());
}
