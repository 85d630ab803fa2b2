//! The master that Sentinels name, looked up again whenever the connection to it is gone, and each second.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{ConnectionInfo, Value};
use tokio::time::{Instant, timeout};

use super::node::Node;
use super::policy::Policy;
use super::shared::{Making, Shared};
use super::wire::open;
use crate::address::at;
use crate::error::RedisError;

/// Sentinels, and the master that they named last.
#[derive(Debug)]
pub(super) struct Sentinels {
    asked: Arc<Asked>,
    policy: Arc<Policy>,
    master: Shared<Arc<Node>>,
}

/// The Sentinels and the service to ask them for.
#[derive(Debug)]
struct Asked {
    sentinels: Vec<ConnectionInfo>,
    service: String,
    /// The master's settings; its address is a stand-in.
    master: ConnectionInfo,
    /// The master that was found last: if it is found again, its node is used again.
    last: Mutex<Option<Arc<Node>>>,
}

impl Sentinels {
    pub(super) fn new(
        sentinels: Vec<ConnectionInfo>,
        service: String,
        master: ConnectionInfo,
        policy: Arc<Policy>,
    ) -> Self {
        let asked = Arc::new(Asked { sentinels, service, master, last: Mutex::default() });
        Self { asked, master: Shared::new(policy.command_deadline), policy }
    }

    /// Returns the master, connected and checked.
    pub(super) async fn master(&self, end: Instant) -> Result<Arc<Node>, RedisError> {
        self.master.renew_later(LOOK_AGAIN, || self.discover());
        // The connection to the one that was found last may be gone.
        let is_connected = |node: &Arc<Node>| node.is_connected();
        Ok(self.master.get_sound(end, || self.discover(), is_connected).await?.1)
    }

    /// Asks one Sentinel after the other, until one names a server that is a master.
    fn discover(&self) -> impl Making<Arc<Node>> + use<> {
        let (asked, policy) = (Arc::clone(&self.asked), Arc::clone(&self.policy));
        async move {
            // They share the time of one connect, so that a dead one does not use up the time of the others.
            let count = u32::try_from(asked.sentinels.len()).unwrap_or(u32::MAX).max(1);
            let patience = policy.connect_deadline / count;
            let mut why = None;
            for sentinel in &asked.sentinels {
                let address = sentinel.addr().to_string();
                let named = timeout(patience, asked.ask(sentinel, &address, &policy))
                    .await
                    .unwrap_or_else(|elapsed| Err(RedisError::unreachable(&address, elapsed)));
                let found = match named {
                    Ok(info) => asked.connected(info, &policy).await,
                    Err(error) => Err(error),
                };
                match found {
                    Ok(node) => return Ok(node),
                    Err(error) => why = Some(worse(why, error)),
                }
            }
            Err(why.unwrap_or_else(|| asked.no_master(None)))
        }
    }
}

impl Asked {
    async fn ask(
        &self,
        sentinel: &ConnectionInfo,
        address: &str,
        policy: &Policy,
    ) -> Result<ConnectionInfo, RedisError> {
        let mut connection = open(sentinel.clone(), policy, None).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let reply =
            connection.send_packed_command(&command).await.and_then(Value::extract_error).map_err(
                |error| match error.detail() {
                    Some(detail) if detail.starts_with(UNKNOWN_COMMAND) => {
                        RedisError::NotASentinel { server: address.to_owned() }
                    }
                    _ => self.no_master(Some(error)),
                },
            )?;
        let (host, port): (String, u16) =
            redis::from_redis_value(reply).map_err(|_| self.no_master(None))?;
        Ok(at(&self.master, &host, port))
    }

    async fn connected(
        &self,
        info: ConnectionInfo,
        policy: &Arc<Policy>,
    ) -> Result<Arc<Node>, RedisError> {
        let address = info.addr().to_string();
        let last = self.last.lock().clone().filter(|node| node.address() == address);
        let node = match last {
            Some(node) => node,
            None => Arc::new(Node::new(info, Arc::clone(policy))?),
        };
        // Connecting itself takes one deadline at most, and so its error comes first.
        node.connect(Instant::now() + policy.connect_deadline * 2).await?;
        *self.last.lock() = Some(Arc::clone(&node));
        Ok(node)
    }

    fn no_master(&self, source: Option<redis::RedisError>) -> RedisError {
        RedisError::NoMaster {
            service: self.service.clone(),
            source: source.map(|error| Arc::new(error) as _),
        }
    }
}

/// Returns the more informative of two errors: an unreachable Sentinel is the least informative one.
fn worse(before: Option<RedisError>, now: RedisError) -> RedisError {
    match before {
        Some(before) if matches!(now, RedisError::Unreachable { .. }) => before,
        _ => now,
    }
}

/// After a failover on demand, the old master takes writes for some ten seconds more, until the Sentinels have made it a
/// replica: charges there are lost. Asking one Sentinel a second costs nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The answer to `SENTINEL` of a Redis server that is no Sentinel.
const UNKNOWN_COMMAND: &str = "unknown command";
