//! The masters of a cluster and their slots.

use std::collections::HashMap;
use std::sync::Arc;

use crc::{CRC_16_XMODEM, Crc};
use limiter_core::FailureDomain;
use parking_lot::Mutex;
use redis::{ConnectionInfo, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::answer;
use super::node::Node;
use super::policy::Policy;
use super::shared::{Making, PAUSE, Shared};
use super::wire::open;
use crate::address::{at, host_and_port};
use crate::error::RedisError;

/// The known map and nodes of a cluster. The map may be old; the answers of the nodes show when it is.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    policy: Arc<Policy>,
    map: Shared<Arc<Map>>,
    /// By address. Those that left the map are dropped when another is added.
    nodes: Mutex<HashMap<String, Arc<Node>>>,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<ConnectionInfo>, policy: Arc<Policy>) -> Self {
        let map = Shared::new(policy.command_deadline);
        Self { seeds, policy, map, nodes: Mutex::default() }
    }

    /// Returns the node that has the slot of this key, by the known map or, if that has failed, by a new one.
    pub(super) async fn owner(
        &self,
        key: &[u8],
        is_known_wrong: bool,
        end: Instant,
    ) -> Result<Arc<Node>, RedisError> {
        let (_, map) = match is_known_wrong {
            false => self.map.get(end, || self.learn()).await?,
            true => self.map.renew(end, || self.learn()).await?,
        };
        let slot = slot(key);
        map.owner(slot).map_or_else(
            || {
                self.doubt();
                Err(RedisError::ClusterDown { answer: format!("no master has the slot {slot}") })
            },
            |address| self.node(address),
        )
    }

    /// Returns all nodes that have slots.
    pub(super) async fn masters(&self, end: Instant) -> Result<Vec<Arc<Node>>, RedisError> {
        let (_, map) = self.map.get(end, || self.learn()).await?;
        let mut addresses: Vec<_> = map.ranges.iter().map(|range| &range.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.into_iter().map(|address| self.node(address)).collect()
    }

    /// Returns the node to which another node redirects.
    pub(super) fn redirect_target(&self, to: &str, by: &Node) -> Result<Arc<Node>, RedisError> {
        let senseless =
            || RedisError::ClusterDown { answer: format!("{} sent us to {to:?}", by.address()) };
        let (host, port) = host_and_port(to).ok_or_else(senseless)?;
        let host = if is_unnamed(host) { by.host() } else { host };
        self.node(&format!("{host}:{port}"))
    }

    /// Returns the master for this hash tag, by the last known map. All slots without a master form one part.
    pub(super) fn failure_domain(&self, tag: &[u8]) -> FailureDomain {
        let map = self.map.peek();
        let address = map.as_ref().and_then(|map| map.owner(slot(tag)));
        FailureDomain::named(address.map_or_else(|| Arc::from(NO_MASTER), Arc::clone))
    }

    /// Requests a new map for later calls, since the map is wrong somewhere.
    pub(super) fn doubt(&self) {
        self.map.renew_later(PAUSE, || self.learn());
    }

    fn node(&self, address: &str) -> Result<Arc<Node>, RedisError> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let Some((info, (host, port))) = self.seeds.first().zip(host_and_port(address)) else {
            return Err(RedisError::ClusterDown { answer: format!("{address:?} is no address") });
        };
        let node = Arc::new(Node::new(at(info, host, port), Arc::clone(&self.policy))?);
        if let Some(map) = self.map.peek() {
            nodes.retain(|address, _| map.ranges.iter().any(|range| *range.address == **address));
        }
        nodes.insert(address.to_owned(), Arc::clone(&node));
        Ok(node)
    }

    /// Asks several nodes at once for the map and takes the first that comes.
    fn learn(&self) -> impl Making<Arc<Map>> + use<> {
        let policy = Arc::clone(&self.policy);
        let known = self.nodes.lock().keys().cloned().collect::<Vec<_>>();
        let mut asked: HashMap<String, ConnectionInfo> = HashMap::new();
        for seed in self.seeds.iter().take(MAX_ASKED / 2) {
            asked.insert(seed.addr().to_string(), seed.clone());
        }
        for address in known {
            if asked.len() < MAX_ASKED
                && let Some((info, (host, port))) = self.seeds.first().zip(host_and_port(&address))
            {
                asked.entry(address.clone()).or_insert_with(|| at(info, host, port));
            }
        }
        async move {
            let mut answers = JoinSet::new();
            for (address, info) in asked {
                let policy = Arc::clone(&policy);
                answers.spawn(async move {
                    timeout(policy.connect_deadline, ask(info, &address, &policy))
                        .await
                        .unwrap_or_else(|elapsed| Err(RedisError::unreachable(&address, elapsed)))
                });
            }
            let mut worst = RedisError::ClusterDown { answer: "no node could be asked".to_owned() };
            while let Some(answer) = answers.join_next().await {
                match answer {
                    Ok(Ok(map)) => return Ok(Arc::new(map)),
                    // The error that a node answers is more informative than a failure to reach another node.
                    Ok(Err(error)) if !says_little(&error) || says_little(&worst) => worst = error,
                    _ => {}
                }
            }
            Err(worst)
        }
    }
}

/// The slots of each node.
#[derive(Debug)]
struct Map {
    /// In the order of their slots, none twice.
    ranges: Vec<Range>,
}

#[derive(Debug)]
struct Range {
    first: u16,
    last: u16,
    address: Arc<str>,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Arc<str>> {
        let after = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= range.last).then_some(&range.address)
    }

    /// Reads what CLUSTER SLOTS answers: `[[first, last, [host, port, …], replicas…], …]`. A node that does not know
    /// its own name gives none, which means the one by which we asked.
    fn read(reply: &Value, asked: &str) -> Self {
        let ranges = sequence(reply).iter().filter_map(|range| {
            let [Value::Int(first), Value::Int(last), master, ..] = sequence(range) else {
                return None;
            };
            let [host, Value::Int(port), ..] = sequence(master) else { return None };
            let host = match host {
                Value::BulkString(host) => std::str::from_utf8(host).ok()?,
                Value::SimpleString(host) => host,
                _ => "",
            };
            let host = if is_unnamed(host) { asked } else { host };
            let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
            Some(Range { first, last, address: format!("{host}:{port}").into() })
        });
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable_by_key(|range| range.first);
        Self { ranges }
    }
}

async fn ask(info: ConnectionInfo, address: &str, policy: &Policy) -> Result<Map, RedisError> {
    let mut connection = open(info, policy, None).await?;
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let reply =
        connection.send_packed_command(&command).await.and_then(Value::extract_error).map_err(
            |error| {
                if error.to_string().contains("cluster support disabled") {
                    let hint = "write redis:// for a single server";
                    return RedisError::setting(
                        "url",
                        format!("{address} is not in a cluster: {hint}"),
                    );
                }
                answer::connecting(error, address)
            },
        )?;
    let map = Map::read(&reply, host_and_port(address).map_or(address, |(host, _)| host));
    if map.ranges.is_empty() {
        return Err(RedisError::ClusterDown { answer: format!("{address} knows of no slots") });
    }
    Ok(map)
}

/// Returns the slot of a key: of the text in its first braces, if there is any, or of the whole key.
fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let inner = &key[open + 1..];
        let close = inner.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &inner[..close])
    });
    CHECKSUM.checksum(tag.unwrap_or(key)) % SLOTS
}

fn sequence(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// Returns whether this stands for a host that a node does not know.
fn is_unnamed(host: &str) -> bool {
    host.is_empty() || host == "?"
}

fn says_little(error: &RedisError) -> bool {
    matches!(error, RedisError::Unreachable { .. } | RedisError::ClusterDown { .. })
}

const CHECKSUM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The name of the part of slots without a master; no address equals it.
const NO_MASTER: &str = "no master";

/// How many slots a cluster has; a power of two, by the cluster specification.
const SLOTS: u16 = 16_384;

/// Nodes asked at once for the map: enough that some of them are alive, and few enough that the load does not matter.
const MAX_ASKED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // By CLUSTER KEYSLOT.
        assert_eq!(slot(b"123456789"), 12739);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{}{bar}"), 8363);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn a_map_has_gaps_and_nameless_nodes() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |first, last, host: Value, port| {
            let master = Value::Array(vec![host, Value::Int(port), text("id")]);
            Value::Array(vec![Value::Int(first), Value::Int(last), master])
        };
        let map = Map::read(
            &Value::Array(vec![
                range(100, 200, text("b"), 2),
                range(0, 50, Value::Nil, 1),
                range(201, 201, text("?"), 3),
                range(-1, 70_000, text("c"), 4),
                Value::Nil,
            ]),
            "asked",
        );
        let owner = |slot| map.owner(slot).map(|address| &**address);
        assert_eq!(owner(0), Some("asked:1"));
        assert_eq!(owner(50), Some("asked:1"));
        assert_eq!(owner(51), None);
        assert_eq!(owner(100), Some("b:2"));
        assert_eq!(owner(201), Some("asked:3"));
        assert_eq!(owner(202), None);
        assert!(Map::read(&Value::Nil, "asked").ranges.is_empty());
    }
}
