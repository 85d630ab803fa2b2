//! The example `gateway`, run as a user runs it.

use std::io::{Read, Write};
use std::net::TcpStream;

use limiter_test_servers::{Process, RedisServer, example};
use tempfile::TempDir;

#[test]
fn a_client_of_the_gateway_sees_its_limits_and_pays_for_what_it_got() {
    let ran = example("gateway").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    let answers: Vec<&str> = text.split("<-- ").skip(1).collect();
    let [whole, streamed, responses, embeddings, messages, limited, unknown] = answers[..] else {
        panic!("seven answers are expected: {text}")
    };

    assert!(whole.starts_with("200 OK"), "{whole}");
    // At most 50 tokens out and about 14 in are estimated.
    assert!(whole.contains("x-ratelimit-remaining-tokens: 36"), "{whole}");
    assert!(whole.contains("Sunny, with a chance of crabs."), "{whole}");

    assert!(streamed.starts_with("200 OK"), "{streamed}");
    assert!(streamed.contains("content-type: text/event-stream"), "{streamed}");
    // The first call was settled at 11 tokens meanwhile.
    assert!(streamed.contains("x-ratelimit-remaining-tokens: 25"), "{streamed}");
    assert!(streamed.contains("data: [DONE]"), "{streamed}");
    assert!(!streamed.contains(r#""choices":[]"#), "only the gateway asked for usage: {streamed}");

    assert!(responses.contains("event: response.completed"), "{responses}");
    assert!(embeddings.contains("0.125"), "{embeddings}");
    assert!(messages.contains("event: message_stop"), "{messages}");

    assert!(limited.starts_with("429 Too Many Requests"), "{limited}");
    assert!(limited.contains("retry-after: 31"), "{limited}");
    assert!(limited.contains(r#""code": "rate_limit_exceeded""#), "{limited}");

    assert!(unknown.starts_with("401 Unauthorized"), "{unknown}");
    assert!(unknown.contains(r#""type": "authentication_error""#), "{unknown}");
    let used = |row: &str| -> Vec<&str> {
        let found = unknown.lines().find(|line| line.starts_with(row));
        found.expect("it is in the table").split_whitespace().rev().skip(1).take(3).collect()
    };
    assert_eq!(used("gpt-5, tokens per minute"), ["78", "100", "22"], "all is settled: {unknown}");
    assert_eq!(used("all calls, tokens per day"), ["9951", "10000", "49"], "{unknown}");
}

/// Serves until it is stopped: in memory and on Redis, with the keys that it prints.
#[test]
fn it_serves_any_client() {
    let server = RedisServer::run();
    for arguments in
        [&["--listen", "127.0.0.1:0"][..], &["--listen", "127.0.0.1:0", "--redis", &server.url()]]
    {
        let running = Running::start(arguments);
        let chat = r#"{"model":"gpt-5","max_tokens":50,"messages":[]}"#;
        let answer = running.post("/v1/chat/completions", &running.access_key, chat);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("crabs"), "{answer}");
        assert!(running.post("/v1/messages", &running.of_today, chat).contains("end_turn"));
        let denied = running.post("/v1/messages", &running.of_today, chat);
        assert!(denied.starts_with("HTTP/1.1 429"), "{denied}");
        assert!(denied.contains("x-should-retry: false"), "{denied}");
        assert!(denied.contains(r#""type":"rate_limit_error""#), "{denied}");
    }
}

#[test]
fn help_is_there_and_nonsense_is_refused() {
    let help = example("gateway").arg("--help").output().unwrap();
    assert!(
        help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--redis URL")
    );
    let refused = example("gateway").arg("--listen").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

/// A gateway that serves, until it is dropped.
struct Running {
    _process: Process,
    _folder: TempDir,
    address: String,
    access_key: String,
    of_today: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = Process::start(example("gateway").args(arguments), folder.path());
        let mut value = |name: &str| -> String {
            let line = process.line_with(name).expect("it prints its keys");
            line.strip_prefix(name).unwrap_or_else(|| panic!("{name}: {line}")).to_owned()
        };
        let address = value("url: http://");
        let access_key = value("access key: ");
        let of_today = value("access key for one call a day: ");
        Self { _process: process, _folder: folder, address, access_key, of_today }
    }

    fn post(&self, path: &str, access_key: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nx-api-key: {access_key}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}
