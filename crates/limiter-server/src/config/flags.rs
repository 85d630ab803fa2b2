//! The flags and their environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use limiter::WorkspaceId;
use serde::Deserialize;

use super::headers::Headers;
use super::origins::Origin;
use super::percents::Percents;
use crate::bounds::Bounds;

/// Rate limits for API keys of LLM services, over HTTP.
///
/// Answers to the SDKs of aiXplain, OpenAI and Anthropic as they come from PyPI, and offers the engine itself as JSON (see
/// /openapi.json). Keys and counts are in this process, or in Redis for many of them.
#[derive(Debug, Default, Parser)]
#[command(version, after_help = SHORT_HELP, after_long_help = LONG_HELP)]
pub(super) struct Flags {
    /// Address to listen on [default: 127.0.0.1:8080]
    ///
    /// TLS is left to a proxy in front, such as nginx, Caddy or a cloud's load balancer: access keys must not travel in
    /// the clear. So listen on the loopback, or on a network that only the proxy reaches.
    #[arg(long, env = "LIMITER_LISTEN", value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,

    /// Keep keys and counts in Redis instead of in memory
    ///
    /// redis://, rediss://, redis+sentinel://… or redis+cluster://…, as the library takes them. All servers with the same
    /// URL and prefix share keys and limits. A URL with a password belongs into the environment.
    #[arg(long, env = "LIMITER_REDIS", value_name = "URL", hide_env_values = true)]
    pub(super) redis: Option<String>,

    /// The prefix of all Redis keys [default: limiter]
    #[arg(long, env = "LIMITER_REDIS_PREFIX", value_name = "PREFIX")]
    pub(super) redis_prefix: Option<String>,

    /// Keep the in-memory engine over restarts in this file
    ///
    /// Changes of keys are on the disk before they are acknowledged. Counts are saved every ten seconds and at the end:
    /// a crash loses those since. Without this file a restart forgets all keys.
    #[arg(long, env = "LIMITER_STATE", value_name = "FILE")]
    pub(super) state: Option<PathBuf>,

    /// The workspace whose first admin key is made at the first start [default: default]
    #[arg(long, env = "LIMITER_WORKSPACE", value_name = "NAME")]
    pub(super) workspace: Option<WorkspaceId>,

    /// A file with all of these settings, and with the models
    ///
    /// A flag beats its environment variable, which beats the file, which beats the default.
    #[arg(long, env = "LIMITER_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Rate limit headers on /v1, separated by commas [default: ietf]
    ///
    /// Answers to /v1/check, /v1/reserve and extend have them if the call meets a limit. Calls to the APIs of OpenAI and
    /// Anthropic have that provider's own too, unless this is none. The paths of the aiXplain SDK never have any.
    #[arg(long, env = "LIMITER_HEADERS", value_name = "DIALECT,…", value_delimiter = ',')]
    pub(super) headers: Option<Vec<Headers>>,

    /// Origins of web pages that may call from a browser, as in https://example.com, or '*' [default: none]
    ///
    /// Answers to them have CORS headers. Leave it out behind a proxy that adds these itself.
    #[arg(long, env = "LIMITER_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
    pub(super) cors_origins: Option<Vec<Origin>>,

    /// Shares of limits and budgets, in percent, that fire an event when a key reaches them [default: 80,100]
    ///
    /// They hold for keys that are created or updated from now on. Each fires once in its window, as a line of the log and
    /// to the webhook, if there is one. 'none' for none.
    #[arg(long, env = "LIMITER_THRESHOLDS", value_name = "PERCENT,…")]
    pub(super) thresholds: Option<Percents>,

    /// URL that threshold events are posted to, signed with LIMITER_WEBHOOK_SECRET
    ///
    /// JSON, with a header limiter-signature: t=UNIX_SECONDS,v1=HEX, the HMAC-SHA-256 of the time, a point and the body. An
    /// event is posted again until the answer is 2xx, or a final 4xx: it arrives at least once, always with the same id.
    #[arg(long, env = "LIMITER_WEBHOOK", value_name = "URL", hide_env_values = true)]
    pub(super) webhook: Option<String>,

    /// Let calls beyond a limit or a budget through, and flag them: to introduce limits
    #[arg(long, env = "LIMITER_SHADOW")]
    pub(super) shadow: bool,

    /// Log level: off, error, warn, info or debug, also for each part, as in warn,limiter_server=info [default: info]
    ///
    /// Each request is a line at info. No line ever has an access key.
    #[arg(long, env = "LIMITER_LOG", value_name = "FILTER")]
    pub(super) log: Option<String>,

    /// Log lines are JSON
    #[arg(long, env = "LIMITER_LOG_JSON")]
    pub(super) log_json: bool,

    #[command(flatten)]
    pub(super) bounds: BoundSettings,
}

/// The bounds, each of which may be left out.
#[derive(Clone, Copy, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BoundSettings {
    /// Bytes of a request's body [default: 1048576]
    #[arg(long, env = "LIMITER_MAX_BODY_BYTES", value_name = "BYTES", hide_short_help = true)]
    max_body_bytes: Option<usize>,
    /// Open connections; the next one waits [default: 4096]
    #[arg(long, env = "LIMITER_MAX_CONNECTIONS", value_name = "COUNT", hide_short_help = true)]
    max_connections: Option<usize>,
    /// Requests that are running or queued; further ones get 503 [default: 1024]
    #[arg(long, env = "LIMITER_MAX_REQUESTS", value_name = "COUNT", hide_short_help = true)]
    max_requests: Option<usize>,
    /// Bytes of all requests' bodies together; beyond that a request gets 503 [default: 67108864]
    #[arg(long, env = "LIMITER_MAX_BUFFERED_BYTES", value_name = "BYTES", hide_short_help = true)]
    max_buffered_bytes: Option<usize>,
    /// Seconds for the headers of a request, and for its body [default: 10]
    #[arg(
        long = "read-timeout",
        env = "LIMITER_READ_TIMEOUT",
        value_name = "SECONDS",
        hide_short_help = true
    )]
    read_timeout_s: Option<u64>,
    /// Seconds until an answer begins [default: 120]
    #[arg(
        long = "request-timeout",
        env = "LIMITER_REQUEST_TIMEOUT",
        value_name = "SECONDS",
        hide_short_help = true
    )]
    request_timeout_s: Option<u64>,
    /// Seconds for requests in progress when the server is stopped [default: 30]
    #[arg(
        long = "shutdown-timeout",
        env = "LIMITER_SHUTDOWN_TIMEOUT",
        value_name = "SECONDS",
        hide_short_help = true
    )]
    shutdown_timeout_s: Option<u64>,
    /// Events that wait for the webhook; one more is lost [default: 1024]
    #[arg(long, env = "LIMITER_MAX_EVENTS", value_name = "COUNT", hide_short_help = true)]
    max_events: Option<usize>,
    /// Open reservations of a key; one more gets 503 with Retry-After [default: 100000]
    ///
    /// A reservation is open until it is settled or cancelled, or its ttl has passed.
    #[arg(
        long,
        env = "LIMITER_MAX_OPEN_RESERVATIONS",
        value_name = "COUNT",
        hide_short_help = true
    )]
    max_open_reservations: Option<usize>,
    /// Ended reservations of a key that are remembered; then a reserve gets 503 with Retry-After [default: 100000]
    ///
    /// Each is remembered for the dedupe time from its end, so a key can make this many reserved calls in that time: 833 a
    /// second by default. Settle and cancel never fail for this bound.
    #[arg(
        long,
        env = "LIMITER_MAX_ENDED_RESERVATIONS",
        value_name = "COUNT",
        hide_short_help = true
    )]
    max_ended_reservations: Option<usize>,
    /// Request ids of checks of a key that are remembered; one more gets 503 with Retry-After [default: 100000]
    #[arg(long, env = "LIMITER_MAX_REQUEST_IDS", value_name = "COUNT", hide_short_help = true)]
    max_request_ids: Option<usize>,
    /// Seconds for which an ended reservation and a request id are remembered, so that repeats count once [default: 120]
    ///
    /// Longer than any client retries. All servers on one Redis need the same.
    #[arg(
        long = "dedupe-time",
        env = "LIMITER_DEDUPE_TIME",
        value_name = "SECONDS",
        hide_short_help = true
    )]
    dedupe_time_s: Option<u64>,
}

impl BoundSettings {
    /// Sets the bounds that are given.
    pub(super) fn apply(self, bounds: &mut Bounds) {
        let seconds = |setting: Option<u64>| setting.map(Duration::from_secs);
        set(&mut bounds.max_body_bytes, self.max_body_bytes);
        set(&mut bounds.max_connections, self.max_connections);
        set(&mut bounds.max_requests, self.max_requests);
        set(&mut bounds.max_buffered_bytes, self.max_buffered_bytes);
        set(&mut bounds.read_timeout, seconds(self.read_timeout_s));
        set(&mut bounds.request_timeout, seconds(self.request_timeout_s));
        set(&mut bounds.shutdown_timeout, seconds(self.shutdown_timeout_s));
        set(&mut bounds.max_events, self.max_events);
        set(&mut bounds.ledger.open, self.max_open_reservations);
        set(&mut bounds.ledger.ended, self.max_ended_reservations);
        set(&mut bounds.ledger.checks, self.max_request_ids);
        set(&mut bounds.ledger.dedupe, seconds(self.dedupe_time_s));
    }
}

fn set<T>(bound: &mut T, setting: Option<T>) {
    if let Some(setting) = setting {
        *bound = setting;
    }
}

const SHORT_HELP: &str = "\
--help shows more, such as the bounds on requests.";

const LONG_HELP: &str = "\
The admin key:
  The first start makes an admin key and shows it, once. LIMITER_ADMIN_KEY brings one instead (at least 16 characters,
  22 random letters and digits or more): for automation, and for restarts, where it must be the same again.
  It comes as x-api-key: KEY, Authorization: Bearer KEY or Authorization: Token KEY, as all access keys do.

Try it:
  limiter-server                                        in memory, on 127.0.0.1:8080
  limiter-server --state keys.json                      the same, kept over restarts
  limiter-server --redis redis://127.0.0.1:6379         shared by all servers on this Redis
  limiter-server --config limiter-server.toml           with models of your own

Paths:
  /sdk/api-keys, /v2/models, /api/v2/execute            what the aiXplain SDK calls
  /v1/chat/completions, /v1/responses, /v1/messages,    models by the APIs of OpenAI and Anthropic, for their
  /v1/completions, /v1/embeddings, /v1/rerank           SDKs: those with an upstream in the configuration
  /v1/models                                            the list of them
  /v1/check, /v1/peek, /v1/reserve, /v1/usage           the engine
  /openapi.json                                         its description
  /healthz, /readyz, /metrics                           for monitoring; keep them behind the proxy

SIGTERM and SIGINT end it gracefully.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Flags::command().debug_assert();
    }
}
