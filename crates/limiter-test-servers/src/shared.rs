//! A server that tests share.

use std::sync::OnceLock;

use redis::Value;

#[cfg(feature = "testcontainers")]
use super::container::RedisContainer;
use super::redis_server::ask;
use crate::{RedisServer, Source};

/// The server of this process, from wherever [`Source::find`] says. The first call starts it.
///
/// Tests share it, and with `LIMITER_TEST_REDIS_URL` whole processes do: each keeps to a prefix of its own. Static
/// values are never dropped, and it is gone all the same when the process ends.
///
/// # Panics
/// If there is no server, or it does not start.
pub fn shared() -> &'static SharedServer {
    static SHARED: OnceLock<SharedServer> = OnceLock::new();
    SHARED.get_or_init(|| match Source::find() {
        Source::Running(url) => SharedServer { url, _keep: Keep::Nothing },
        Source::Binary(_) => {
            let server = RedisServer::run();
            SharedServer { url: server.url(), _keep: Keep::Process(server) }
        }
        #[cfg(feature = "testcontainers")]
        Source::Container => {
            let container = RedisContainer::run();
            SharedServer { url: container.url(), _keep: Keep::Container(Box::new(container)) }
        }
    })
}

/// A server that is merely there. It is not to be broken.
#[derive(Debug)]
pub struct SharedServer {
    url: String,
    _keep: Keep,
}

impl SharedServer {
    /// Such as `redis://127.0.0.1:12345`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the server answers to a command.
    ///
    /// # Panics
    /// If it does not answer, or with an error.
    pub fn command(&self, words: &[&str]) -> Value {
        ask(&self.url, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

/// What must live as long as the server is used.
#[derive(Debug)]
#[expect(dead_code, reason = "kept, not looked at")]
enum Keep {
    Nothing,
    Process(RedisServer),
    #[cfg(feature = "testcontainers")]
    Container(Box<RedisContainer>),
}
