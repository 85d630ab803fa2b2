//! Unknown callers take no resources from known ones.

use std::io::{Read, Write};
use std::net::TcpStream;

use limiter_test_servers::{RedisServer, fresh_name, shared, until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::support::{ADMIN, MODEL, PATIENCE, Running};

/// Half of the routes used to read and parse the body before they authenticated the caller.
#[test]
fn nothing_of_an_unknown_caller_is_read() {
    for server in Running::on_each_store() {
        for (method, path) in [
            ("POST", "/sdk/api-keys"),
            ("PUT", "/sdk/api-keys/some"),
            ("POST", &format!("/api/v2/execute/{MODEL}")),
            ("POST", "/api/v1/execute/none"),
            ("POST", "/v1/check"),
            ("POST", "/v1/reserve"),
            ("POST", "/v1/reservations/some/amend"),
            ("POST", "/v1/reservations/some/settle"),
        ] {
            for key in [NOBODY, ""] {
                let answer = server.call(method, key, path, "no JSON");
                assert_eq!(answer.status, 401, "{method} {path}: {answer:?}");
            }
        }
    }
}

#[test]
fn a_thousand_strangers_who_begin_a_body_take_no_place() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // On Redis, each of them also needs a look-up.
    let server = Running::on_redis_with(&["--log", "off"]);
    let (_, key) = server.member("member", json!({}));
    assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
    let begun = format!(
        "POST /sdk/api-keys HTTP/1.1\r\nhost: x\r\nx-api-key: {NOBODY}\r\ncontent-length: 1000000\r\n\r\n{{"
    );
    let strangers: Vec<TcpStream> = (0..1_030)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(begun.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
        assert_eq!(server.get(ADMIN, "/sdk/api-keys").status, 200);
    }
    // The server answers each without waiting for its body.
    for mut stream in strangers {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        let is_refused = [&b"HTTP/1.1 401"[..], b"HTTP/1.1 503"].contains(&&answer[..]);
        assert!(is_refused, "{}", String::from_utf8_lossy(&answer));
    }
}

/// The store is frozen, so that look-ups take long.
#[test]
fn guesses_wait_for_each_other_and_known_callers_for_none_of_them() {
    let redis = RedisServer::run();
    let server = Running::with(&["--redis", &redis.url()]);
    let (_, key) = server.member("member", json!({}));
    assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
    redis.freeze();
    let guesses: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let guess = format!(
                "GET /v1/usage HTTP/1.1\r\nhost: x\r\nx-api-key: a-guess-of-somebody-{number}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(guess.as_bytes()).unwrap();
            stream
        })
        .collect();
    // The known caller waits for the store, not for the guesses.
    let answer = server.post(&key, "/v1/check", &json!({}));
    answer.assert_problem(503);
    assert_ne!(answer.body["reason"], json!("busy"), "{answer:?}");
    let mut busy = 0;
    for mut stream in guesses {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        if answer.contains("\"busy\"") {
            busy += 1;
            assert!(answer.to_lowercase().contains("retry-after: 1\r\n"), "{answer}");
        }
    }
    redis.thaw();
    assert!(busy >= 100 - 32, "{busy} were refused at once");
    until("the store answers again", || server.post(&key, "/v1/check", &json!({})).status == 200);
}

/// A key deleted by another server soon becomes unknown here too.
#[test]
fn the_bodies_of_a_key_that_was_deleted_elsewhere_are_no_longer_read() {
    let prefix = fresh_name("deleted");
    let flags = ["--redis", shared().url(), "--redis-prefix", &prefix];
    let servers = [Running::with(&flags), Running::with(&flags)];
    let (id, key) = servers[0].member("member", json!({}));
    assert_eq!(servers[1].call("POST", &key, "/v1/check", "no JSON").status, 400);
    assert_eq!(servers[0].call("DELETE", ADMIN, &format!("/sdk/api-keys/{id}"), "").status, 200);
    until("the second server refuses the key", || {
        servers[1].call("POST", &key, "/v1/check", "no JSON").status == 401
    });
}

const NOBODY: &str = "nobody-has-this-key-1234567890";
