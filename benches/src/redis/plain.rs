//! A plain client without the store: a multiplexed connection, and a request for each decision.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use limiter_test_servers::RedisServer;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value};

use super::keys::Keys;
use super::minute;
use super::rates::Client;

/// A client that sends the same script with the same arguments as the store does for a single decision. It only reads
/// the verdict, so that it does less for a decision than the store.
///
/// The arguments hold for one minute, so that it learns them before each turn.
#[derive(Clone, Debug)]
pub struct Plain {
    connection: MultiplexedConnection,
    server: String,
    keys: Keys,
    count: usize,
    /// By key: the words of the command.
    commands: Arc<[Vec<Vec<u8>>]>,
}

impl Plain {
    /// Creates a client that decides about the first `count` keys.
    ///
    /// # Panics
    /// If the server is not there.
    pub async fn connect(server: &RedisServer, keys: &Keys, count: usize) -> Self {
        Self {
            connection: connect(&server.url()).await,
            server: server.address(),
            keys: keys.clone(),
            count,
            commands: Arc::default(),
        }
    }

    /// Learns the commands: MONITOR shows those that the store sends for each key.
    async fn learn(&self) -> Vec<Vec<Vec<u8>>> {
        // Until the store knows the limits of a key, it sends another command.
        for key in 0..self.count {
            self.keys.allow(key, 0).await;
        }
        let mut monitor = BufReader::new(TcpStream::connect(&self.server).expect("it listens"));
        monitor.get_mut().write_all(b"MONITOR\r\n").expect("it reads");
        let mut commands = Vec::with_capacity(self.count);
        let mut line = String::new();
        for key in 0..=self.count {
            // The first line confirms that the server monitors.
            while key > 0 && commands.len() < key {
                line.clear();
                monitor.read_line(&mut line).expect("it shows what it does");
                let words = words(&line);
                if words.first().is_some_and(|word| word == b"EVALSHA") {
                    commands.push(words);
                }
            }
            if key == 0 {
                monitor.read_line(&mut line).expect("it answers");
                assert_eq!(line, "+OK\r\n");
            }
            if key < self.count {
                self.keys.allow(key, 0).await;
            }
        }
        commands
    }
}

impl Client for Plain {
    async fn begin(&mut self) {
        minute::with_at_least(LEARNING_AND_A_TURN).await;
        self.commands = self.learn().await.into();
    }

    async fn decide(&self, key: usize) {
        let mut words = self.commands[key].iter();
        let name = words.next().map(|name| str::from_utf8(name).expect("a name is a text"));
        let mut command = redis::cmd(name.expect("a command has a name"));
        for word in words {
            command.arg(word.as_slice());
        }
        let answer = command.query_async(&mut self.connection.clone()).await;
        let Ok(Value::BulkString(answer)) = answer else { panic!("{answer:?}") };
        let verdict = answer.iter().find(|byte| !byte.is_ascii_digit());
        assert_eq!(verdict, Some(&b'A'), "the call is allowed");
    }
}

const LEARNING_AND_A_TURN: Duration = Duration::from_secs(5);

/// Connects in the same way as the store.
pub(super) async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(format!("{url}/?protocol=resp3")).expect("a URL");
    let config =
        AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    connection.await.expect("the server listens")
}

/// Returns how many scripts the server has run by their digest.
pub(super) async fn scripts_run(url: &str) -> usize {
    let mut connection = connect(url).await;
    let mut command = redis::cmd("INFO");
    command.arg("commandstats");
    let info: String =
        command.query_async(&mut connection).await.expect("a server counts commands");
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let calls = calls.and_then(|rest| rest.split(',').next()).unwrap_or("0");
    calls.parse().expect("a count is a number")
}

/// Splits a line of MONITOR into words: `+1700000000.123456 [0 127.0.0.1:50000] "EVALSHA" "…" "1"`, with escapes.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut within = false;
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, within) {
            (b'"', false) => {
                within = true;
                words.push(Vec::new());
            }
            (b'"', true) => within = false,
            (_, false) => {}
            (byte, true) => {
                let byte = if byte == b'\\' { unescaped(&mut bytes) } else { byte };
                words.last_mut().expect("it has begun").push(byte);
            }
        }
    }
    words
}

/// Returns the byte that an escape after a backslash stands for.
fn unescaped(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    let mut next = || bytes.next().expect("an escape is complete");
    match next() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'x' => {
            let digits = [next(), next()];
            let digits = str::from_utf8(&digits).expect("two digits");
            u8::from_str_radix(digits, 16).expect("two digits")
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_monitor_is_read_to_the_byte() {
        let line = r#"+1.5 [0 127.0.0.1:5] "EVALSHA" "" "a\"b\\c" "\x00\n\xff!""#;
        let expected: [&[u8]; 4] = [b"EVALSHA", b"", b"a\"b\\c", b"\0\n\xff!"];
        assert_eq!(words(line), expected);
    }
}
