//! Bounds on the size, number, duration and memory of requests.

use std::time::Duration;

use limiter::store::LedgerBounds;

/// The bounds of a server. Every input has a bound here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// Bytes of a request's body, 1 MiB by default: a long prompt, and far more than any call of the engine.
    pub max_body_bytes: usize,
    /// Open connections, 4,096 by default. The next one waits in the system's queue.
    pub max_connections: usize,
    /// Requests whose bodies have arrived and that are running or queued: 1,024 by default. Further ones get 503 at
    /// once.
    pub max_requests: usize,
    /// Bytes of all requests' bodies together, 64 MiB by default. Beyond that a request gets 503. Only known callers'
    /// bodies are read.
    pub max_buffered_bytes: usize,
    /// For the headers of a request, and for its body, 10 s by default. A slower client is cut off, as is one that does not
    /// read a piece of an answer for three times as long.
    pub read_timeout: Duration,
    /// Until the answer begins, 120 s by default, for slow models; all other calls have shorter deadlines.
    pub request_timeout: Duration,
    /// For requests in progress when the server stops, 30 s by default.
    pub shutdown_timeout: Duration,
    /// Events in the queue of the webhook, 1,024 by default. One more is lost, and logged.
    pub max_events: usize,
    /// Reservations and request ids of a key that are remembered, 100,000 of each kind by default, for 120 s once they have
    /// ended. One more is answered with 503, and the time at which there is room.
    pub ledger: LedgerBounds,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_connections: 4_096,
            max_requests: 1_024,
            max_buffered_bytes: 64 << 20,
            read_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(120),
            shutdown_timeout: Duration::from_secs(30),
            max_events: 1_024,
            ledger: LedgerBounds::default(),
        }
    }
}

/// Connections waiting to be accepted, if the system allows that many. A client beyond them gets no answer and retries
/// after a second. After a restart, all clients connect at once.
pub(crate) const BACKLOG: u32 = 4_096;
/// Bytes of a request's line and headers together; hyper answers 431 to more. An access key has at most 256.
pub(crate) const MAX_HEADER_BYTES: usize = 16 << 10;
/// Header lines of a request: proxies add a dozen to those of a client.
pub(crate) const MAX_HEADERS: usize = 64;
/// Requests being decided, without those that wait for a model's provider; the next one queues. They are more than
/// enough to keep one Redis busy, and few enough that each finishes in a few milliseconds.
pub(crate) const MAX_DECISIONS: usize = 256;
/// Concurrent look-ups of unknown access keys in Redis: the most that a flood of guesses can take.
pub(crate) const MAX_STRANGERS: usize = 32;
/// Cached access keys, which need no look-up in Redis: a few megabytes.
pub(crate) const MAX_KNOWN_KEYS: usize = 10_000;
/// The highest bound on the memory of a key's calls: some 600 MB, and a hash that Redis deletes in a second.
pub(crate) const MOST_REMEMBERED: usize = 1_000_000;
/// The longest time for which an ended reservation or a request id is remembered: a day. Retries come within minutes.
pub(crate) const LONGEST_DEDUPE: Duration = Duration::from_secs(86_400);
