//! A connection is reused after every answer without `Connection: close`, however much of the request was read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{ADMIN, PATIENCE, Running, content_length};

/// Every route, with and without a body, for known, unknown and anonymous callers. Clients write the head and the body
/// separately, and the server answers some requests before the body arrives.
#[test]
fn ten_thousand_requests_of_every_kind_on_one_connection_are_all_answered() {
    let server = Running::with(&["--log", "off"]);
    let (_, key) = server.member("member", json!({}));
    let kinds = kinds_of_requests(&key);
    let mut connection = Connection::to(&server);
    let mut answered = 0;
    // First with a pause before each body, so that the server handles the head alone.
    for (head, body) in &kinds {
        connection.send(head);
        if !body.is_empty() {
            thread::sleep(Duration::from_millis(5));
            connection.send(body);
        }
        answered += u32::from(connection.answer().stays_open(head));
    }
    // Then without a pause, except for routes with long answers.
    let is_short = |(head, _): &&(Vec<u8>, Vec<u8>)| {
        !head.starts_with(b"GET /metrics") && !head.starts_with(b"GET /openapi.json")
    };
    let rest = kinds.iter().filter(is_short).cycle().take(10_000 - kinds.len());
    for (head, body) in rest {
        connection.send(head);
        if !body.is_empty() {
            connection.send(body);
        }
        answered += u32::from(connection.answer().stays_open(head));
    }
    assert_eq!(answered, 10_000);
}

#[test]
fn a_body_that_is_too_long_is_answered_with_the_end_of_the_connection_and_no_reset() {
    let server = Running::in_memory();
    let (_, key) = server.member("member", json!({}));
    let long = vec![b' '; 2 << 20];
    let chunked = [b"200000\r\n", &long[..], b"\r\n0\r\n\r\n"].concat();
    for (method, path, key, status) in [
        ("POST", "/v1/check", key.as_str(), "413"),
        ("POST", "/sdk/api-keys", ADMIN, "413"),
        ("POST", "/v1/check", NOBODY, "401"),
        ("POST", "/sdk/api-keys", NOBODY, "401"),
        ("GET", "/v1/usage", &key, "200"),
        ("DELETE", "/v1/usage", &key, "405"),
        ("POST", "/nowhere", &key, "404"),
        ("GET", "/openapi.json", "", "200"),
        ("GET", "/healthz", "", "200"),
        ("GET", "/readyz", "", "200"),
        ("GET", "/metrics", "", "200"),
    ] {
        for (length, body) in
            [("content-length: 2097152", &long), ("transfer-encoding: chunked", &chunked)]
        {
            let mut connection = Connection::to(&server);
            connection.send(head(method, path, key, length).as_bytes());
            // Send the whole body before reading the answer.
            connection.send(body);
            let answer = connection.answer();
            let told = format!("{method} {path} with {length}: {answer:?}");
            assert!(answer.head.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
            assert!(answer.closes(), "{told}");
            connection.assert_closed();
        }
    }
}

#[test]
fn a_body_that_does_not_come_is_answered_with_the_end_of_the_connection() {
    let server = Running::in_memory();
    let started = Instant::now();
    // All connections at once: each waits for the same second.
    let connections: Vec<_> = [
        ("POST", "/v1/check", NOBODY, "401"),
        ("GET", "/v1/usage", ADMIN, "200"),
        ("PATCH", "/v1/usage", ADMIN, "405"),
        ("POST", "/nowhere", ADMIN, "404"),
        ("GET", "/healthz", "", "200"),
    ]
    .into_iter()
    .flat_map(|call| [(call, "content-length: 10", "{"), (call, "transfer-encoding: chunked", "9")])
    .map(|((method, path, key, status), length, start)| {
        let mut connection = Connection::to(&server);
        connection.send(format!("{}{start}", head(method, path, key, length)).as_bytes());
        (connection, path, status)
    })
    .collect();
    for (mut connection, path, status) in connections {
        let answer = connection.answer();
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer:?}");
        assert!(answer.closes(), "{path}: {answer:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(8), "it took {:?}", started.elapsed());
}

#[test]
fn a_body_that_cannot_be_read_ends_the_connection() {
    let server = Running::in_memory();
    let (_, key) = server.member("member", json!({}));
    for (key, status) in [(key.as_str(), "400"), (NOBODY, "401")] {
        let mut connection = Connection::to(&server);
        connection.send(head("POST", "/v1/check", key, "transfer-encoding: chunked").as_bytes());
        connection.send(b"no length\r\n");
        let answer = connection.answer();
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {status}")), "{answer:?}");
        assert!(answer.closes(), "{answer:?}");
    }
}

#[test]
fn a_client_that_waits_for_100_continue_sends_a_body_only_if_it_is_wanted() {
    let server = Running::in_memory();
    let (_, key) = server.member("member", json!({}));
    let expecting = "content-length: 2\r\nexpect: 100-continue";

    let mut connection = Connection::to(&server);
    for _ in 0..2 {
        connection.send(head("POST", "/v1/check", &key, expecting).as_bytes());
        assert!(connection.answer().head.starts_with("HTTP/1.1 100"));
        connection.send(b"{}");
        let answer = connection.answer();
        assert!(answer.head.starts_with("HTTP/1.1 200"), "{answer:?}");
        assert!(answer.stays_open(b"a check with a body that was asked for"));
    }

    let too_long = "content-length: 2097152\r\nexpect: 100-continue";
    for (method, path, key, length, status) in [
        ("POST", "/v1/check", NOBODY, expecting, "401"),
        ("POST", "/nowhere", &key, expecting, "404"),
        ("GET", "/v1/usage", &key, expecting, "200"),
        ("GET", "/healthz", "", expecting, "200"),
        ("POST", "/v1/check", &key, too_long, "413"),
    ] {
        let started = Instant::now();
        let mut connection = Connection::to(&server);
        connection.send(head(method, path, key, length).as_bytes());
        let answer = connection.answer();
        let told = format!("{method} {path}: {answer:?}");
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
        assert!(answer.closes(), "{told}");
        // The server does not wait for a body that the client never sends.
        assert!(started.elapsed() < Duration::from_millis(900), "{told}");
    }
}

fn kinds_of_requests(key: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let routes = [
        ("GET", "/sdk/api-keys"),
        ("POST", "/sdk/api-keys"),
        ("GET", "/sdk/api-keys/usage-limits"),
        ("GET", "/sdk/api-keys/none"),
        ("PUT", "/sdk/api-keys/none"),
        ("DELETE", "/sdk/api-keys/none"),
        ("GET", "/sdk/api-keys/none/usage-limits"),
        ("GET", "/v2/models/none"),
        ("GET", "/sdk/models/none"),
        ("POST", "/api/v2/execute/none"),
        ("POST", "/api/v1/execute/669a63646eb56306647e1091"),
        ("POST", "/v1/check"),
        ("POST", "/v1/reserve"),
        ("POST", "/v1/reservations/none/amend"),
        ("POST", "/v1/reservations/none/settle"),
        ("POST", "/v1/reservations/none/cancel"),
        ("GET", "/v1/usage"),
        ("GET", "/v1/history"),
        ("PUT", "/v1/keys"),
        ("PUT", "/v1/keys/none"),
        ("POST", "/v1/keys/none/reset"),
        ("POST", "/v1/keys/none/rotate"),
        ("GET", "/v1/plans"),
        ("PUT", "/v1/plans/none"),
        ("GET", "/openapi.json"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("POST", "/nowhere"),
        ("PATCH", "/v1/check"),
        ("POST", "/healthz"),
    ];
    let bodies: [(&str, &[u8]); 4] = [
        ("accept: */*", b""),
        ("content-length: 2", b"{}"),
        ("content-length: 25", b"{\"unknown\": \"and no JSON\""),
        ("transfer-encoding: chunked", b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
    ];
    let mut kinds = Vec::new();
    for (method, path) in routes {
        for caller in [key, ADMIN, NOBODY, ""] {
            for (length, body) in bodies {
                kinds.push((head(method, path, caller, length).into_bytes(), body.to_vec()));
            }
        }
    }
    kinds
}

fn head(method: &str, path: &str, key: &str, more: &str) -> String {
    let key = if key.is_empty() { String::new() } else { format!("x-api-key: {key}\r\n") };
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{key}{more}\r\n\r\n")
}

/// A connection with its buffered answers.
struct Connection(BufReader<TcpStream>);

#[derive(Debug)]
struct Response {
    head: String,
}

impl Connection {
    fn to(server: &Running) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the server accepts the bytes");
    }

    fn answer(&mut self) -> Response {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let length = self.0.read_line(&mut head).expect("the connection is not reset");
            assert_ne!(length, 0, "the connection ended without an answer, after {head:?}");
        }
        let mut body = vec![0; content_length(&head)];
        self.0.read_exact(&mut body).expect("the connection is not reset, and the answer whole");
        Response { head }
    }

    fn assert_closed(&mut self) {
        let read = self.0.read(&mut [0; 1]).expect("the connection is not reset");
        assert_eq!(read, 0, "nothing comes after the answer");
    }
}

impl Response {
    fn closes(&self) -> bool {
        self.head.to_lowercase().contains("\r\nconnection: close\r\n")
    }

    /// Returns true after asserting that the server did not fail and keeps the connection open.
    fn stays_open(&self, request: &[u8]) -> bool {
        let request = String::from_utf8_lossy(request);
        assert!(!self.head.starts_with("HTTP/1.1 5"), "{request}: {self:?}");
        assert!(!self.closes(), "{request}: {self:?}");
        true
    }
}

const NOBODY: &str = "nobody-has-this-key-1234567890";
