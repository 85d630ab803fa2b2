//! The built-in model renders its answer while it is read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{MODEL, PATIENCE, Running};

#[test]
fn streams_that_nobody_reads_cost_their_prompts_and_no_more() {
    let server = &Running::in_memory();
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10_000}}));
    // This prompt of 1 MB becomes about 50 MB of events.
    let prompt = "a ".repeat((1 << 19) - 100);
    let (key, prompt) = (&key, &prompt);
    let before = server.peak_kib();
    let held: Vec<TcpStream> = thread::scope(|scope| {
        let clients = (0..4).map(|_| {
            let begun =
                move || (0..STREAMS / 4).map(|_| begun_stream(server, key, prompt)).collect();
            scope.spawn(begun)
        });
        let clients: Vec<thread::ScopedJoinHandle<'_, Vec<TcpStream>>> = clients.collect();
        while clients.iter().any(|client| !client.is_finished()) {
            assert_eq!(server.run(key, "Hello").status, 200, "others are served meanwhile");
            thread::sleep(Duration::from_millis(20));
        }
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(held.len(), STREAMS);
    let grown_kib = server.peak_kib() - before;
    println!("{STREAMS} unread streams took {grown_kib} KiB at most");
    assert!(grown_kib < STREAMS as u64 * KIB_A_STREAM, "{grown_kib} KiB");
}

#[test]
fn a_stream_that_is_read_is_whole() {
    let server = Running::in_memory();
    let (_, key) = server.member("member", json!({}));
    let prompt = format!("{}{}", "one two ".repeat(5_000), "é".repeat(5_000));
    let mut stream = begun_stream(&server, &key, &prompt);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    // Drop the lines around the chunks.
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = events.filter_map(|event| serde_json::from_str(event).ok()).collect();
    let told: String = events.iter().filter_map(|event| event["data"].as_str()).collect();
    assert_eq!(told, prompt);
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], json!(10_001));
    assert!(text.contains("data: [DONE]"), "the end is missing");
}

#[test]
fn a_whole_answer_of_a_megabyte_is_the_prompt() {
    let server = Running::in_memory();
    let (_, key) = server.member("member", json!({}));
    let prompt = "é \u{1}\"".repeat(90_000);
    let answer = server.run(&key, &prompt);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.body["data"], json!(prompt));
    assert_eq!(answer.body["usage"]["prompt_tokens"], json!(90_001));
    assert!(answer.header("content-length").is_some(), "it is no stream: {:?}", answer.headers);
    let of_numbers = json!({"data": [1, {"b": 2}]});
    let answer = server.post(&key, &format!("/api/v2/execute/{MODEL}"), &of_numbers);
    assert_eq!(answer.body["data"], Value::from("[1,{\"b\":2}]"));
}

/// Sends a request and reads only the start of the answer.
fn begun_stream(server: &Running, key: &str, prompt: &str) -> TcpStream {
    let body = json!({"text": prompt, "options": {"stream": true}}).to_string();
    let mut stream = connect(server.address());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /api/v2/execute/{MODEL} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

/// Connects with a receive buffer of a few kilobytes: the system's default would take megabytes.
fn connect(address: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(address.parse().unwrap()).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

const STREAMS: usize = 40;
/// The prompt, its copies while the request is read, and memory that the system's allocator keeps: far below the 47 MB
/// of all its events.
const KIB_A_STREAM: u64 = 4 << 10;
