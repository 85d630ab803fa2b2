//! A Redis server that tests share.

use std::sync::OnceLock;
use std::{env, process};

use redis::Value;

use crate::RedisServer;
use crate::redis_server::query;

/// The Redis server of this process. The first call starts it, unless `LIMITER_TEST_REDIS_URL` names one that runs already.
///
/// Tests share it, and with `LIMITER_TEST_REDIS_URL` whole processes do: each uses a prefix of its own. It is gone when the
/// process ends, although static values are never dropped.
pub fn shared() -> &'static SharedServer {
    static SHARED: OnceLock<SharedServer> = OnceLock::new();
    SHARED.get_or_init(|| {
        if let Ok(url) = env::var("LIMITER_TEST_REDIS_URL") {
            return SharedServer { url, _server: None };
        }
        let server = RedisServer::run();
        SharedServer { url: server.url(), _server: Some(server) }
    })
}

/// A Redis server that no test breaks.
#[derive(Debug)]
pub struct SharedServer {
    url: String,
    _server: Option<RedisServer>,
}

impl SharedServer {
    /// Such as `redis://127.0.0.1:12345`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The reply to a command.
    pub fn command(&self, words: &[&str]) -> Value {
        query(&self.url, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

/// A name that no other test uses: for a prefix on the shared server, a file or a key.
pub fn fresh_name(what: &str) -> String {
    let random = getrandom::u64().expect("the system has random bytes");
    format!("{what}-{}-{random:016x}", process::id())
}
