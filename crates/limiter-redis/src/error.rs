//! Errors of Redis servers and connections, and whether a failed call may have run.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::StoreError;
use thiserror::Error;

use crate::schema::Misread;

/// The reason why an operation on Redis failed. Each variant has another remedy.
///
/// In each, `server` is the address of the server, `key` the Redis key or all those of the call, and `source` the error of
/// the network, of the TLS library or of the server. No message holds a password.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the fields are named in the messages, and those that many have are explained once"
)]
pub enum RedisError {
    /// The URL is of no supported kind.
    #[error(
        "the Redis URL cannot be used: {reason}; write redis://[user:password@]host:port/database, \
         rediss://… for TLS, unix:///path, redis+cluster://host:port,host:port or \
         redis+sentinel://host:port,host:port/service"
    )]
    InvalidUrl { reason: String },
    /// A setting that is invalid, by itself or for this server.
    #[error("the setting {setting} cannot be used: {reason}")]
    InvalidSetting { setting: &'static str, reason: String },
    /// No connection to the server.
    #[error(
        "no connection to the Redis server {server}: check that it runs, its address, and the network between"
    )]
    Unreachable {
        server: String,
        #[source]
        source: Cause,
    },
    /// The TLS handshake failed.
    #[error("no TLS connection to the Redis server {server}: {reason}")]
    Tls {
        server: String,
        reason: String,
        #[source]
        source: Cause,
    },
    /// The URL asks for TLS, but the port is a plain one.
    #[error(
        "the Redis server {server} does not answer TLS handshakes: its port is a plain one; \
         write redis:// instead of rediss://, or the port that speaks TLS (tls-port)"
    )]
    SpeaksNoTls { server: String },
    /// The URL asks for a plain connection, but the port expects TLS.
    #[error(
        "the Redis server {server} closes connections without TLS: write rediss:// instead of redis://, or its plain port"
    )]
    WantsTls { server: String },
    /// User or password are wrong, or missing.
    #[error("the Redis server {server} rejected the user or the password: check both in the URL")]
    Authentication {
        server: String,
        #[source]
        source: Cause,
    },
    /// The user may not run commands that the store needs.
    #[error(
        "the Redis user may not use {what}, which the limiter needs: allow it with ACL SETUSER <user> {allow}"
    )]
    Permission { what: String, allow: String },
    /// The user may not use the keys under the prefix.
    #[error(
        "the Redis user may not use the keys {pattern}, which are those of the limiter: \
         allow them with ACL SETUSER <user> ~{pattern}"
    )]
    KeysForbidden { pattern: String },
    /// The server lacks features that the scripts need.
    #[error(
        "the Redis server {server} has version {version}, but the limiter needs 6.2 or later: upgrade it"
    )]
    ServerTooOld { server: String, version: String },
    /// The user may not run scripts.
    #[error(
        "the Redis user may not use {command}: the limiter decides in scripts, \
         allow them with ACL SETUSER <user> +evalsha +eval +script|load"
    )]
    ScriptsForbidden { command: String },
    /// The server is a replica, which may be behind its master.
    #[error(
        "the Redis server {server} is a replica, which may be behind: connect to its master, \
         or let Sentinels or a cluster name the master (redis+sentinel://, redis+cluster://)"
    )]
    Replica { server: String },
    /// The server could evict limits, counts or remembered calls when its memory is full.
    #[error(
        "the Redis server {server} may evict keys when its memory is full (maxmemory-policy {policy}): \
         limits with allkeys-*, reservations and request ids with volatile-* too; set maxmemory-policy to noeviction"
    )]
    Evicts { server: String, policy: String },
    /// The server has started and is loading its data.
    #[error("the Redis server {server} is still loading its data: try again when it is done")]
    Loading { server: String },
    /// The server has no memory left to write.
    #[error(
        "the Redis server {server} is out of memory and refuses writes: raise maxmemory or delete data"
    )]
    OutOfMemory { server: String },
    /// A script keeps the server busy.
    #[error(
        "the Redis server {server} is busy with a script that runs too long: find out whose it is, \
         and end it with SCRIPT KILL"
    )]
    Busy { server: String },
    /// The server is no longer a master.
    #[error(
        "the Redis server {server} is read-only: it is no longer a master; connect to the master that took over"
    )]
    ReadOnly { server: String },
    /// The cluster does not serve this key.
    #[error("the Redis cluster does not serve the key ({answer}): see CLUSTER INFO for what fails")]
    ClusterDown { answer: String },
    /// The nodes of a cluster redirected the call too often.
    #[error(
        "the Redis cluster redirected the call {hops} times without an end: its nodes disagree on who owns the slot; \
         see CLUSTER SLOTS on each"
    )]
    TooManyRedirects { hops: usize },
    /// No Sentinel knows a master for the service.
    #[error(
        "no Sentinel names a master for the service {service:?}: check the name, and SENTINEL MASTERS on them"
    )]
    NoMaster {
        service: String,
        #[source]
        source: Option<Cause>,
    },
    /// A server that was asked for the master is not a Sentinel.
    #[error(
        "the server {server} is not a Sentinel: after redis+sentinel:// name Sentinels (26379 is their usual port), \
         or write redis:// to use this server itself"
    )]
    NotASentinel { server: String },
    /// The deadline of the call has passed.
    #[error(
        "Redis did not answer within {after:?}: the server or the network is slow, or the deadline too short"
    )]
    Deadline { after: Duration },
    /// The connection broke while the answer was awaited.
    #[error("the connection to the Redis server {server} was lost before its answer came")]
    ConnectionLost {
        server: String,
        #[source]
        source: Cause,
    },
    /// The call was polled where no tokio runtime is.
    #[error(
        "a call to Redis was polled outside of a tokio runtime, which its connections and timers need: \
         await it in a task of one, or in Runtime::block_on"
    )]
    NoRuntime,
    /// The runtime that was sending the call was shut down.
    #[error("the tokio runtime that was sending the call to Redis was shut down")]
    RuntimeGone,
    /// The queue of calls is full.
    #[error("too many calls are queued for Redis ({waiting}): it is slower than they arrive")]
    Overloaded { waiting: usize },
    /// Another program wrote one of the store's keys.
    #[error(
        "the Redis key {key:?} has a type that the limiter never gives it: something else writes under its prefix; \
         give the limiter a prefix of its own"
    )]
    WrongType { key: String },
    /// A later version of the limiter wrote the key.
    #[error(
        "the Redis key {key:?} was written by a later version of the limiter: upgrade this one"
    )]
    NewerFormat { key: String },
    /// The key holds data that the limiter never writes.
    #[error(
        "the Redis key {key:?} is damaged ({what}): it was changed by something else; restore or delete it"
    )]
    Corrupt { key: String, what: String },
    /// Any other answer that is an error.
    #[error("Redis refused the script {script:?}: {answer}")]
    ScriptFailed { script: String, answer: String },
}

/// The reason why a call has no answer.
#[derive(Clone, Debug, Error)]
pub(crate) enum CommandError {
    /// The script provably changed nothing.
    #[error(transparent)]
    NotRun(RedisError),
    /// The script was sent and its answer never came: it may have run.
    #[error(transparent)]
    Unknown(RedisError),
}

/// The source of an error. Shared, since one failed connect fails all callers that waited for it.
pub(crate) type Cause = Arc<dyn Error + Send + Sync>;

impl RedisError {
    pub(crate) fn unreachable(server: &str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Unreachable { server: server.to_owned(), source: innermost(source) }
    }

    pub(crate) fn lost(server: &str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::ConnectionLost { server: server.to_owned(), source: innermost(source) }
    }

    pub(crate) fn setting(setting: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidSetting { setting, reason: reason.into() }
    }

    pub(crate) fn misread(key: &[u8], misread: Misread) -> Self {
        let key = String::from_utf8_lossy(key).into_owned();
        match misread {
            Misread::Newer => Self::NewerFormat { key },
            Misread::Corrupt(what) => Self::Corrupt { key, what: what.to_owned() },
            Misread::WrongType => Self::WrongType { key },
        }
    }

    /// Creates the error of a user without the right to these commands, each as `ACL SETUSER` names it.
    pub(crate) fn commands_forbidden(names: &[impl AsRef<str>]) -> Self {
        let names = names.iter().map(|name| name.as_ref().to_lowercase());
        let (what, allow): (Vec<_>, Vec<_>) =
            names.map(|name| (name.to_uppercase().replace('|', " "), format!("+{name}"))).unzip();
        Self::Permission { what: what.join(", "), allow: allow.join(" ") }
    }

    /// Returns whether the error is about stored data rather than the connection.
    const fn is_about_data(&self) -> bool {
        matches!(self, Self::WrongType { .. } | Self::NewerFormat { .. } | Self::Corrupt { .. })
    }
}

impl CommandError {
    /// Returns the error of a call that changes nothing: its outcome is never unknown.
    pub(crate) fn of_reading(self) -> Self {
        match self {
            Self::NotRun(error) | Self::Unknown(error) => Self::NotRun(error),
        }
    }

    /// Returns the error of a script with several writes: an error halfway does not prove that nothing was written.
    pub(crate) fn of_several_writes(self) -> Self {
        match self {
            Self::NotRun(
                error @ (RedisError::ScriptFailed { .. } | RedisError::Permission { .. }),
            ) => Self::Unknown(error),
            error => error,
        }
    }
}

/// Returns the cause below an error of redis-rs, which repeats the cause's message.
fn innermost(error: impl Error + Send + Sync + 'static) -> Cause {
    let text = error.to_string();
    let below = error.source().is_some_and(|below| text.contains(&below.to_string()));
    if below { Arc::new(Told(text)) } else { Arc::new(error) }
}

/// The message of an error, without its source.
#[derive(Debug, Error)]
#[error("{0}")]
struct Told(String);

impl From<CommandError> for StoreError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotRun(error) | CommandError::Unknown(error) if error.is_about_data() => {
                Self::Corrupt(error.into())
            }
            CommandError::NotRun(error) => Self::unavailable(error),
            CommandError::Unknown(error) => Self::outcome_unknown(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_a_source_and_not_part_of_the_sentence() {
        let error = RedisError::unreachable("here:1", std::io::Error::other("cable cut"));
        assert!(!error.to_string().contains("cable cut"));
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("cable cut"));
        let error = CommandError::Unknown(error);
        assert!(error.to_string().contains("here:1"));
        assert!(error.source().is_some());
    }
}
