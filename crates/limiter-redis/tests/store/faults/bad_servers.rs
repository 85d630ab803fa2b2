//! Servers that the store does not accept, or not without a warning.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use limiter_redis::{RedisError, RedisStore};
use limiter_test_servers::{Log, RedisServer};
use tracing::Level;

use super::bad_input::says;

#[tokio::test]
async fn a_server_that_is_too_old_is_to_be_upgraded() {
    for version in ["5.0.14", "6.0.16"] {
        let error = RedisStore::connect(server_of_version(version)).await.unwrap_err();
        says(&error, &format!("has version {version}, but the limiter needs 6.2 or later"));
        assert!(matches!(error, RedisError::ServerTooOld { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_new_enough_is_accepted() {
    RedisStore::connect(server_of_version("6.2.0")).await.unwrap();
}

#[tokio::test]
async fn a_replica_is_refused() {
    let master = RedisServer::run();
    let replica = RedisServer::replica_of(&master);
    let error = RedisStore::connect(replica.url()).await.unwrap_err();
    says(&error, "connect to its master");
    assert!(matches!(error, RedisError::Replica { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_may_evict_limits_is_warned_of() {
    for (policy, warnings) in
        [("allkeys-lru", 1), ("allkeys-random", 1), ("volatile-lru", 1), ("noeviction", 0)]
    {
        let server = RedisServer::with(&[&format!("maxmemory-policy {policy}")]);
        let log = Log::listen(Level::WARN);
        RedisStore::connect(server.url()).await.unwrap();
        println!("{policy}: {}", log.text());
        assert_eq!(log.lines_with(policy).len(), warnings);
    }
}

#[tokio::test]
async fn a_server_that_may_evict_limits_is_refused_if_that_is_wanted() {
    let server = RedisServer::with(&["maxmemory-policy allkeys-lfu"]);
    let error = RedisStore::builder(server.url()).refuse_eviction().connect().await.unwrap_err();
    says(&error, "set maxmemory-policy to noeviction");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    RedisStore::builder(server.url()).refuse_eviction().connect().await.unwrap();
}

/// The URL of something that says it is Redis of this version, and does nothing else.
fn server_of_version(version: &'static str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || drop(answer(client, version)));
        }
    });
    url
}

fn answer(mut client: TcpStream, version: &str) -> std::io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    // `*2`, then for each word its length, such as `$4`, and the word.
    while let Some(count) = number(&mut requests)? {
        let mut words = Vec::new();
        for _ in 0..count {
            let mut word = vec![0; number(&mut requests)?.unwrap_or_default() + 2];
            requests.read_exact(&mut word)?;
            words.push(String::from_utf8_lossy(&word).trim().to_ascii_uppercase());
        }
        let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let reply = match words[0].as_str() {
            "ROLE" => format!("*3\r\n{}:0\r\n*0\r\n", text("master")),
            "INFO" => text(&format!("redis_version:{version}\r\nmaxmemory_policy:noeviction\r\n")),
            "SCRIPT" => text("0123456789012345678901234567890123456789"),
            _ => "+OK\r\n".to_owned(),
        };
        client.write_all(reply.as_bytes())?;
    }
    Ok(())
}

/// The number on the next line, after its first character; nothing at the end.
fn number(requests: &mut impl BufRead) -> std::io::Result<Option<usize>> {
    let mut line = String::new();
    requests.read_line(&mut line)?;
    Ok(line.get(1..).and_then(|number| number.trim().parse().ok()))
}
