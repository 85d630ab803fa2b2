//! Bounds on all input.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use limiter_test_servers::until;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{ADMIN, Answer, MODEL, PATIENCE, Running};

#[test]
fn a_thousand_connections_are_held_while_others_are_served() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let server = Running::in_memory();
    let held: Vec<TcpStream> =
        (0..1_000).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 100}}));
    for _ in 0..20 {
        assert_eq!(server.run(&key, "Hello").status, 200);
    }
    // Each held connection is served too.
    for mut stream in held {
        let answer =
            exchange(&mut stream, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn one_connection_too_many_waits_for_its_turn() {
    let server = Running::with(&["--max-connections", "2"]);
    let held: Vec<TcpStream> =
        (0..2).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let mut waiting = TcpStream::connect(server.address()).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let nothing = waiting.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");
    drop(held);
    let answer = exchange(&mut waiting, b"");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn who_does_not_finish_the_headers_is_cut_off() {
    let server = Running::with(&["--read-timeout", "1"]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let started = Instant::now();
    // A byte now and then does not help.
    let mut writer = stream.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        for byte in b"GET /healthz HTTP/1.1\r\nhost: " {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    let answer = exchange(&mut stream, b"");
    assert!(!answer.contains("200"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(10), "it held out for {:?}", started.elapsed());
    dripping.join().unwrap();
}

#[test]
fn a_body_that_never_ends_is_cut_off() {
    let server = Running::with(&["--read-timeout", "1", "--max-body-bytes", "1000"]);
    let request = |length: &str| {
        format!("POST /v1/check HTTP/1.1\r\nhost: x\r\nx-api-key: {ADMIN}\r\n{length}\r\n\r\n")
    };
    // The body is announced and does not come.
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let answer = exchange(&mut stream, request("content-length: 900").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    // The body never ends.
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(request("transfer-encoding: chunked").as_bytes()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let endless = thread::spawn(move || while writer.write_all(b"4\r\nxxxx\r\n").is_ok() {});
    let answer = exchange(&mut stream, b"");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    drop(stream);
    drop(server);
    endless.join().unwrap();
}

#[test]
fn headers_that_are_too_long_or_too_many_are_431() {
    let server = Running::in_memory();
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    let many = (0..100).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    for headers in [long, many] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let answer = exchange(
            &mut stream,
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[test]
fn one_request_too_many_is_503_with_a_time_to_try_again_and_the_watchers_are_still_answered() {
    let provider = SilentProvider::start();
    let server = Running::with(&["--max-requests", "1", "--config", provider.config()]);
    let (_, key) = server.member("member", json!({}));
    thread::scope(|scope| {
        let run = scope.spawn(|| server.post(&key, "/api/v2/execute/far", &json!({"text": "x"})));
        let answering = provider.called();
        assert_is_busy(&server.post(&key, "/v1/check", &json!({})), true);
        assert_is_busy(&server.run(&key, "x"), false);
        assert_eq!(server.get("", "/healthz").status, 200);
        drop(answering);
        assert_eq!(run.join().unwrap().status, 502);
    });
    assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
}

/// The bound of ended reservations, over `/v1` and over the API of a provider; then that of open ones, and of request ids.
#[test]
fn a_call_that_cannot_be_remembered_is_503_with_the_time_at_which_there_is_room() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.toml");
    // It is never called.
    let upstream = "http://127.0.0.1:1/v1/chat/completions";
    let model = format!("[[models]]\nid = \"far\"\npath = \"a/far\"\nupstream = \"{upstream}\"\n");
    fs::write(&config, model).unwrap();
    let config = config.to_str().unwrap();
    let bounds = ["--max-ended-reservations", "1", "--max-request-ids", "1", "--dedupe-time", "50"];
    let server = Running::with(&[&["--config", config][..], &bounds].concat());
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 100}}));
    let room = |answer: &Answer| {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("x-should-retry").is_none(), "{answer:?}");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((40..=50).contains(&seconds), "{answer:?}");
    };
    let reserve = |id: &str| server.post(&key, "/v1/reserve", &json!({"request_id": id}));
    let settle =
        |id: &str| server.post(&key, &format!("/v1/reservations/{id}/settle"), &json!({})).status;
    assert_eq!((reserve("a").status, reserve("b").status), (200, 200));
    assert_eq!((settle("a"), settle("b")), (200, 200), "the second exceeds the bound");
    let refused = reserve("c");
    refused.assert_problem(503);
    assert_eq!(refused.body["reason"], json!("too_many_reservations"));
    assert!(refused.body["detail"].as_str().unwrap().contains("1 ended reservations"));
    room(&refused);
    assert_eq!((settle("a"), reserve("b").status), (200, 200), "repetitions need no room");

    let chat = json!({"model": "far", "messages": [{"role": "user", "content": "Hi"}]});
    let refused = server.post(&key, "/v1/chat/completions", &chat);
    assert_eq!(refused.body["error"]["code"], json!("server_is_overloaded"), "{refused:?}");
    room(&refused);

    let check = |id: &str| server.post(&key, "/v1/check", &json!({"request_id": id}));
    assert_eq!(check("a").status, 200);
    room(&check("b"));
    assert_eq!(server.used_today(&key).0, 3, "what is refused charges nothing");
}

#[test]
fn one_open_reservation_too_many_is_503_until_its_ttl() {
    let server = Running::with(&["--max-open-reservations", "1"]);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 100}}));
    let reserve = |id: &str| {
        let call = json!({"request_id": id, "ttl_seconds": 1});
        server.post(&key, "/v1/reserve", &call)
    };
    assert_eq!(reserve("a").status, 200);
    let refused = reserve("b");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    until("the first is forgotten", || reserve("b").status == 200);
}

#[test]
fn a_body_that_comes_slowly_takes_no_place_of_others() {
    let server = Running::with(&["--max-requests", "1"]);
    let (_, key) = server.member("member", json!({}));
    let mut slow = TcpStream::connect(server.address()).unwrap();
    slow.write_all(begun(&key, 2).as_bytes()).unwrap();
    // By now the server should have handled the head. If not, the test passes without testing anything.
    thread::sleep(Duration::from_millis(50));
    for _ in 0..20 {
        assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
    }
    let answer = exchange(&mut slow, b"}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn runs_that_wait_for_a_provider_do_not_hold_up_decisions() {
    let provider = SilentProvider::start();
    for server in Running::on_each_store_with(&["--config", provider.config()]) {
        let (_, key) = server.member("member", json!({}));
        let request = format!(
            "POST /api/v2/execute/far HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 12\r\n\r\n{{\"text\":\"x\"}}"
        );
        // More runs than places for decisions. Each run is forwarded before the next starts, or it would have to queue.
        let mut answering = Vec::new();
        let runs: Vec<TcpStream> = (0..300)
            .map(|_| {
                let mut run = TcpStream::connect(server.address()).unwrap();
                run.write_all(request.as_bytes()).unwrap();
                answering.push(provider.called());
                run
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
        }
        drop(answering);
        drop(runs);
    }
}

#[test]
fn the_bodies_of_all_requests_together_have_a_bound() {
    let server = Running::with(&["--max-body-bytes", "1000", "--max-buffered-bytes", "1000"]);
    let (_, key) = server.member("member", json!({}));
    let mut first = TcpStream::connect(server.address()).unwrap();
    first.write_all(begun(&key, 902).as_bytes()).unwrap();
    first.write_all(" ".repeat(900).as_bytes()).unwrap();
    let long = json!({"asset": "x".repeat(200)});
    let mut busy = None;
    until("the first body has arrived", || {
        let answer = server.post(&key, "/v1/check", &long);
        let is_busy = answer.status == 503;
        busy = Some(answer);
        is_busy
    });
    assert_is_busy(&busy.unwrap(), true);
    // A small body still has room.
    assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
    let answer = exchange(&mut first, b"}");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.post(&key, "/v1/check", &long).status, 200);
}

fn assert_is_busy(answer: &Answer, on_the_engine: bool) {
    match on_the_engine {
        true => answer.assert_problem(503),
        false => answer.assert_refused_on_the_wire(503),
    };
    assert!(answer.text.contains("busy"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    assert_eq!(answer.header("x-should-retry"), None, "{answer:?}");
}

/// The start of a check: a head that announces this body length, and a brace.
fn begun(key: &str, length: usize) -> String {
    format!(
        "POST /v1/check HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n{{"
    )
}

/// A provider that accepts runs and never answers, and the configuration of its model `far`.
struct SilentProvider {
    listener: TcpListener,
    config: PathBuf,
    _folder: TempDir,
}

impl SilentProvider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (folder, address) = (TempDir::new().unwrap(), listener.local_addr().unwrap());
        let config = folder.path().join("config.toml");
        let model = format!(
            "[[models]]\nid = \"far\"\npath = \"a/far\"\nupstream = \"http://{address}\"\n"
        );
        let echo = format!("[[models]]\nid = \"{MODEL}\"\npath = \"an/echo\"\n");
        fs::write(&config, model + &echo).unwrap();
        Self { listener, config, _folder: folder }
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    /// Waits for the next run. Dropping it ends the run without an answer.
    fn called(&self) -> TcpStream {
        let mut run = None;
        until("a run is forwarded", || {
            run = self.listener.accept().ok();
            run.is_some()
        });
        run.expect("it was waited for").0
    }
}

#[test]
fn what_is_no_http_ends_the_connection_and_not_the_server() {
    let server = Running::in_memory();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let answer = exchange(&mut stream, bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(server.get("", "/healthz").status, 200);
}

/// Sends, and reads all that comes until the other side closes the connection or has answered.
fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..length]);
        if answer.windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
