//! The end of a server: what was admitted was answered, and what was answered is saved.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use limiter_test_servers::Process;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{MODEL, Running};

#[test]
fn sigterm_under_load_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let mut first = Running::with(&flags);
    let (_, key) = first.member("member", json!({"globalLimits": {"rpd": 1_000_000}}));
    let (allowed, stopping) = (AtomicU64::new(0), AtomicBool::new(false));
    let url = format!("{}/api/v2/execute/{MODEL}", first.url);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let config = ureq::Agent::config_builder().http_status_as_error(false).build();
                let agent = ureq::Agent::new_with_config(config);
                while !stopping.load(Ordering::Relaxed) {
                    let request = agent.post(&url).header("x-api-key", &key);
                    match request.send_json(json!({"text": "Hello"})) {
                        Ok(answer) => {
                            assert_eq!(answer.status().as_u16(), 200);
                            allowed.fetch_add(1, Ordering::Relaxed);
                        }
                        // Refused, or closed before it was read: nothing was charged.
                        Err(_) => thread::sleep(Duration::from_millis(5)),
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(700));
        first.signal(Signal::SIGTERM);
        let ended = first.ended();
        stopping.store(true, Ordering::Relaxed);
        assert!(ended.success(), "{ended}: {}", first.output());
    });
    let allowed = allowed.into_inner();
    assert!(allowed > 50, "there was load: {allowed}");
    let second = Running::with(&flags);
    assert_eq!(
        second.used_today(&key).0,
        allowed,
        "each charge was answered, and each answer charged"
    );
}

#[test]
fn a_request_under_way_is_finished() {
    use std::io::{Read, Write};
    let mut server = Running::in_memory();
    let (_, key) = server.member("member", json!({}));
    let mut slow = std::net::TcpStream::connect(server.address()).unwrap();
    let request = format!(
        "POST /v1/check HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 2\r\n\r\n{{"
    );
    slow.write_all(request.as_bytes()).unwrap();
    // Another request on the way: by then, the first has been begun.
    thread::sleep(Duration::from_millis(300));
    server.signal(Signal::SIGTERM);
    thread::sleep(Duration::from_millis(100));
    slow.write_all(b"}").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(server.ended().success());
}

#[test]
fn who_does_not_come_to_an_end_is_cut_off() {
    use std::io::Write;
    let mut server = Running::with(&["--shutdown-timeout", "1"]);
    let mut stuck = std::net::TcpStream::connect(server.address()).unwrap();
    stuck.write_all(b"POST /v1/check HTTP/1.1\r\nhost: x\r\nx-api-key: admin-key-of-a-test-7Qm2vXc94bLr\r\ncontent-length: 9\r\n\r\n").unwrap();
    thread::sleep(Duration::from_millis(300));
    server.signal(Signal::SIGINT);
    assert!(server.ended().success());
    assert!(server.output().contains("not everything ended in time"), "{}", server.output());
}

#[test]
fn sigterm_while_it_connects_to_redis_ends_it_at_once() {
    // The listener accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let (mut command, folder) =
        (Command::new(env!("CARGO_BIN_EXE_limiter-server")), TempDir::new().unwrap());
    command.args(["--listen", "127.0.0.1:0", "--redis", &url]);
    let mut process = Process::start(&command, folder.path());
    let _connected = silent.accept().unwrap();
    let started = Instant::now();
    process.signal(Signal::SIGTERM);
    let status = process.ended();
    assert!(status.success(), "{status}");
    // Without the signal, connecting would give up after 5 s.
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());
}
