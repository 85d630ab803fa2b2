//! TLS detection, for connections that fail because only one side uses TLS: neither side reports that.

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::answer;
use crate::error::RedisError;

/// Returns an error if a TLS handshake is still pending after a while and the server answers in plain text. Otherwise
/// it never returns.
pub(super) async fn plain_text(to: &ConnectionAddr, deadline: Duration) -> RedisError {
    if let ConnectionAddr::TcpTls { host, port, .. } = to {
        sleep((deadline / 2).min(HANDSHAKE)).await;
        // `+PONG`, or an error such as `-NOAUTH`.
        if let Some([b'+' | b'-', _]) = first_bytes(host, *port, b"PING\r\n").await {
            return RedisError::SpeaksNoTls { server: to.to_string() };
        }
    }
    std::future::pending().await
}

/// Explains why a connection could not be opened: the server expects TLS, or the reason is the original error.
pub(super) async fn why_closed(to: &ConnectionAddr, error: redis::RedisError) -> RedisError {
    let server = to.to_string();
    let was_closed = !error.is_connection_refusal() && !error.is_timeout();
    let says_nothing = matches!(error.kind(), redis::ErrorKind::Io | redis::ErrorKind::Parse);
    if let ConnectionAddr::Tcp(host, port) = to
        && was_closed
        && says_nothing
        // The record types of an alert and of a handshake.
        && let Some([0x15 | 0x16, 3]) = first_bytes(host, *port, &CLIENT_HELLO).await
    {
        return RedisError::WantsTls { server };
    }
    answer::connecting(error, &server)
}

/// Reads the first two bytes of the server's answer to this greeting. The greeting holds no secret.
async fn first_bytes(host: &str, port: u16, greeting: &[u8]) -> Option<[u8; 2]> {
    let answer = async {
        let mut connection = TcpStream::connect((host, port)).await.ok()?;
        connection.write_all(greeting).await.ok()?;
        let mut first = [0; 2];
        connection.read_exact(&mut first).await.ok()?;
        Some(first)
    };
    timeout(PATIENCE, answer).await.ok().flatten()
}

/// A TLS 1.2 greeting with one cipher suite and no extensions: a TLS server answers it, if only with a refusal.
const CLIENT_HELLO: [u8; 50] = {
    const HEAD: [u8; 11] = [0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    const SUITES: [u8; 7] = [0, 0, 2, 0x13, 1, 1, 0];
    // The 32 bytes between them would be random.
    let mut hello = [0; 50];
    let mut at = 0;
    while at < HEAD.len() {
        hello[at] = HEAD[at];
        at += 1;
    }
    at = 0;
    while at < SUITES.len() {
        hello[HEAD.len() + 32 + at] = SUITES[at];
        at += 1;
    }
    hello
};

/// A handshake takes two round trips and some computing; a plain port never answers it.
const HANDSHAKE: Duration = Duration::from_millis(500);
/// Enough for one round trip.
const PATIENCE: Duration = Duration::from_secs(1);
