//! The messages of this crate, as `docs/messages.txt` lists them.

#[path = "../../../tests/messages.rs"]
mod listed;

use std::sync::Arc;
use std::time::Duration;

use self::listed::variants;
use crate::directory::ManagementError;
use crate::error::{Cause, RedisError};

#[test]
fn messages_are_as_listed() {
    let server = || "10.0.0.1:6379".to_owned();
    let key = || "limiter:{ci}:hot".to_owned();
    let cause = || -> Cause { Arc::new(std::io::Error::other("it is not part of the message")) };
    let redis = variants!(RedisError {
        InvalidUrl { reason: "it has no host".to_owned() },
        InvalidSetting { setting: "key_prefix", reason: "it is empty".to_owned() },
        Unreachable { server: server(), source: cause() },
        Tls { server: server(), reason: "its certificate has expired".to_owned(), source: cause() },
        SpeaksNoTls { server: server() },
        WantsTls { server: server() },
        Authentication { server: server(), source: cause() },
        Permission { what: "CLUSTER SLOTS".to_owned(), allow: "+cluster|slots".to_owned() },
        KeysForbidden { pattern: "limiter:*".to_owned() },
        ServerTooOld { server: server(), version: "5.0.14".to_owned() },
        ScriptsForbidden { command: "EVALSHA".to_owned() },
        Replica { server: server() },
        Evicts { server: server(), policy: "allkeys-lru".to_owned() },
        Loading { server: server() },
        OutOfMemory { server: server() },
        Busy { server: server() },
        ReadOnly { server: server() },
        ClusterDown { answer: "CLUSTERDOWN The cluster is down".to_owned() },
        TooManyRedirects { hops: 5 },
        NoMaster { service: "limits".to_owned(), source: Some(cause()) },
        NotASentinel { server: server() },
        Deadline { after: Duration::from_millis(250) },
        ConnectionLost { server: server(), source: cause() },
        NoRuntime,
        RuntimeGone,
        Overloaded { waiting: 10_000 },
        WrongType { key: key() },
        NewerFormat { key: key() },
        Corrupt { key: key(), what: "a number is out of bounds".to_owned() },
        ScriptFailed { script: "apply".to_owned(), answer: "ERR unknown command".to_owned() },
    });
    let management = variants!(ManagementError { Busy, TooLate, UnexpectedReply });
    listed::check(env!("CARGO_PKG_NAME"), redis.into_iter().chain(management));
}
