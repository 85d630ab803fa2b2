//! Whether a port speaks TLS, for connections that fail since one side does and the other does not: neither says so.

use std::time::Duration;

use redis::ConnectionAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::answer;
use crate::error::RedisError;

/// The error of a server that answers in plain text where a TLS handshake was begun so long ago. It waits for ever if there is
/// nothing wrong of this kind.
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

/// What is to be said of a connection that could not be opened: that the server wants TLS, if that is the reason.
pub(super) async fn why_closed(to: &ConnectionAddr, error: redis::RedisError) -> RedisError {
    let server = to.to_string();
    let was_closed = !error.is_connection_refusal() && !error.is_timeout();
    let says_nothing = matches!(error.kind(), redis::ErrorKind::Io | redis::ErrorKind::Parse);
    if let ConnectionAddr::Tcp(host, port) = to
        && was_closed
        && says_nothing
        // The records of an alert or of a handshake.
        && let Some([0x15 | 0x16, 3]) = first_bytes(host, *port, &CLIENT_HELLO).await
    {
        return RedisError::WantsTls { server };
    }
    answer::connecting(error, &server)
}

/// What the server at this address answers first. Nothing secret is sent.
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

/// A greeting of TLS 1.2 with one cipher suite and no extensions: a server that speaks TLS answers, be it that it refuses.
const CLIENT_HELLO: [u8; 50] = {
    const HEAD: [u8; 11] = [0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    const SUITES: [u8; 7] = [0, 0, 2, 0x13, 1, 1, 0];
    // Between them are 32 bytes that would be random.
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

/// A handshake takes two round trips and some computing; a plain port is silent for ever.
const HANDSHAKE: Duration = Duration::from_millis(500);
/// For one round trip.
const PATIENCE: Duration = Duration::from_secs(1);
