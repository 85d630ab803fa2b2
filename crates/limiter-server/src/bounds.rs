//! Bounds on the size, number, duration and memory of requests.

use std::time::Duration;

use clap::Args;
use limiter::DayHistory;
use limiter::store::LedgerBounds;
use serde::Deserialize;

use crate::config::ConfigError;

/// The bounds of a server. Every input has a bound here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Bounds {
    /// Bytes of a request's body [default: 1048576]
    ///
    /// A long prompt, and far more than any call of the engine.
    #[arg(long, env = "LIMITER_MAX_BODY_BYTES", value_name = "BYTES")]
    pub max_body_bytes: usize,
    /// Open connections; the next one waits in the system's queue [default: 4096]
    #[arg(long, env = "LIMITER_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: usize,
    /// Requests that are running or queued; further ones get 503 [default: 1024]
    ///
    /// A request counts once its body has arrived.
    #[arg(long, env = "LIMITER_MAX_REQUESTS", value_name = "COUNT")]
    pub max_requests: usize,
    /// Bytes of all requests' bodies together; beyond that a request gets 503 [default: 67108864]
    ///
    /// Only known callers' bodies are read.
    #[arg(long, env = "LIMITER_MAX_BUFFERED_BYTES", value_name = "BYTES")]
    pub max_buffered_bytes: usize,
    /// Seconds for the headers of a request, and for its body [default: 10]
    ///
    /// A slower client is cut off, as is one that does not read a piece of an answer for three times as long.
    #[arg(long = "read-timeout", env = "LIMITER_READ_TIMEOUT", value_name = "SECONDS")]
    pub read_timeout_s: u64,
    /// Seconds until an answer begins [default: 120]
    ///
    /// It is for slow models; all other calls have shorter deadlines.
    #[arg(long = "request-timeout", env = "LIMITER_REQUEST_TIMEOUT", value_name = "SECONDS")]
    pub request_timeout_s: u64,
    /// Seconds for requests in progress when the server is stopped [default: 30]
    #[arg(long = "shutdown-timeout", env = "LIMITER_SHUTDOWN_TIMEOUT", value_name = "SECONDS")]
    pub shutdown_timeout_s: u64,
    /// Events in the queue of the webhook; one more is lost, and logged [default: 1024]
    #[arg(long, env = "LIMITER_MAX_EVENTS", value_name = "COUNT")]
    pub max_events: usize,
    /// Open reservations of a key; one more gets 503 with Retry-After [default: 100000]
    ///
    /// A reservation is open until it is settled or cancelled, or its ttl has passed.
    #[arg(long, env = "LIMITER_MAX_OPEN_RESERVATIONS", value_name = "COUNT")]
    pub max_open_reservations: usize,
    /// Ended reservations of a key that are remembered; then a reserve gets 503 with Retry-After [default: 100000]
    ///
    /// Each is remembered for the dedupe time from its end, so a key can make this many reserved calls in that time: 833 a
    /// second by default. Settle and cancel never fail for this bound.
    #[arg(long, env = "LIMITER_MAX_ENDED_RESERVATIONS", value_name = "COUNT")]
    pub max_ended_reservations: usize,
    /// Request ids of checks of a key that are remembered; one more gets 503 with Retry-After [default: 100000]
    #[arg(long, env = "LIMITER_MAX_REQUEST_IDS", value_name = "COUNT")]
    pub max_request_ids: usize,
    /// Seconds for which an ended reservation and a request id are remembered, so that repeats count once [default: 120]
    ///
    /// Longer than any client retries. All servers on one Redis need the same.
    #[arg(long = "dedupe-time", env = "LIMITER_DEDUPE_TIME", value_name = "SECONDS")]
    pub dedupe_time_s: u64,
    /// Seconds for which a reservation holds its slots of parallel limits, from its start or its last amendment [default: 600]
    ///
    /// Then the slots of a caller that crashed are free again. At least two minutes, or a stream may lose its own.
    #[arg(long = "slot-time", env = "LIMITER_SLOT_TIME", value_name = "SECONDS")]
    pub slot_time_s: u64,
    /// Days that the history of a key goes back, today included [default: 35]
    ///
    /// All servers on one Redis need the same.
    #[arg(long, env = "LIMITER_HISTORY_DAYS", value_name = "DAYS")]
    pub history_days: u16,
    /// Seconds after which an operator has to sign in to the console again [default: 28800]
    #[arg(long = "console-session", env = "LIMITER_CONSOLE_SESSION", value_name = "SECONDS")]
    pub console_session_s: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        let LedgerBounds { open, ended, checks, dedupe, slots, .. } = LedgerBounds::default();
        Self {
            max_body_bytes: 1 << 20,
            max_connections: 4_096,
            max_requests: 1_024,
            max_buffered_bytes: 64 << 20,
            read_timeout_s: 10,
            request_timeout_s: 120,
            shutdown_timeout_s: 30,
            max_events: 1_024,
            max_open_reservations: open,
            max_ended_reservations: ended,
            max_request_ids: checks,
            dedupe_time_s: dedupe.as_secs(),
            slot_time_s: slots.as_secs(),
            history_days: DayHistory::DAYS,
            console_session_s: 28_800,
        }
    }
}

impl Bounds {
    /// Returns the bounds on a key's reservations and request ids that are remembered.
    pub(crate) fn ledger(&self) -> LedgerBounds {
        LedgerBounds {
            open: self.max_open_reservations,
            ended: self.max_ended_reservations,
            checks: self.max_request_ids,
            dedupe: Duration::from_secs(self.dedupe_time_s),
            slots: Duration::from_secs(self.slot_time_s),
            ..LedgerBounds::default()
        }
    }

    /// Refuses bounds that admit nothing, and bounds that memory does not allow.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let any = u64::MAX;
        for (name, value, most) in [
            ("max-body-bytes", self.max_body_bytes as u64, any),
            ("max-connections", self.max_connections as u64, any),
            ("max-requests", self.max_requests as u64, any),
            ("max-events", self.max_events as u64, any),
            ("read-timeout", self.read_timeout_s, any),
            ("request-timeout", self.request_timeout_s, any),
            ("max-open-reservations", self.max_open_reservations as u64, MOST_REMEMBERED),
            ("max-ended-reservations", self.max_ended_reservations as u64, MOST_REMEMBERED),
            ("max-request-ids", self.max_request_ids as u64, MOST_REMEMBERED),
            ("dedupe-time", self.dedupe_time_s, LONGEST_DEDUPE_S),
            ("slot-time", self.slot_time_s, LONGEST_SLOT_S),
            ("history-days", self.history_days.into(), DayHistory::MOST_DAYS.into()),
            ("console-session", self.console_session_s, LONGEST_SESSION_S),
        ] {
            if value == 0 {
                return Err(ConfigError::Setting(format!("{name} is 0, but must be at least 1")));
            }
            if value > most {
                let message = format!("{name} is {value}, but must be at most {most}");
                return Err(ConfigError::Setting(message));
            }
        }
        if self.max_buffered_bytes < self.max_body_bytes {
            let message = format!(
                "max-buffered-bytes is {}, but must be at least max-body-bytes, which is {}: else the longest body is never \
                 accepted",
                self.max_buffered_bytes, self.max_body_bytes
            );
            return Err(ConfigError::Setting(message));
        }
        Ok(())
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
const MOST_REMEMBERED: u64 = 1_000_000;
/// The most seconds for which an ended reservation or a request id is remembered: a day. Retries come within minutes.
const LONGEST_DEDUPE_S: u64 = 86_400;
/// The most seconds of an operator's session: a week.
const LONGEST_SESSION_S: u64 = 604_800;
/// The most seconds for which a slot is held without a sign of its caller: a day.
const LONGEST_SLOT_S: u64 = 86_400;
