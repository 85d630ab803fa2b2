//! A cluster whose slots can be moved.

use std::{fs, thread};

use crate::RedisServer;
use crate::redis_server::query;
use crate::wait::until;

/// Three masters that share the slots evenly, each with a replica if wanted. All are killed when it is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster without replicas.
    pub fn run() -> Self {
        Self::with(&[])
    }

    /// Starts a cluster without replicas and with these lines in the configuration of every node.
    pub fn with(configuration: &[&str]) -> Self {
        Self::of(MASTERS, configuration)
    }

    /// Starts a cluster where each master has a replica, which takes its place if it dies.
    pub fn with_replicas(configuration: &[&str]) -> Self {
        Self::of(2 * MASTERS, configuration)
    }

    fn of(count: u16, configuration: &[&str]) -> Self {
        let configuration = [&CONFIGURATION, configuration].concat();
        let nodes: Vec<_> = (0..count).map(|_| RedisServer::prepared(&configuration)).collect();
        for node in &nodes {
            fs::write(node.file("nodes.conf"), as_known_to(node, &nodes)).expect("there is room");
        }
        start_all(&nodes);
        let cluster = Self { nodes };
        cluster.wait_until_ok();
        cluster.nodes[MASTERS.into()..].iter().for_each(RedisServer::wait_for_master);
        cluster
    }

    /// `redis+cluster://127.0.0.1:12345,127.0.0.1:12346,…`, with all nodes.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(RedisServer::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The three that began as masters, by the slots they had then, followed by their replicas in the same order.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        self.nodes[0].query(&["CLUSTER", "KEYSLOT", key])
    }

    /// The node that serves a slot, as the first node that answers sees it. Waits for one: in a failover there is none for a
    /// moment, after the old master is known to follow and before the new one is known to serve.
    pub fn node_of_slot(&self, slot: u16) -> &RedisServer {
        let mut port = None;
        until("the slot is served", || {
            let owners = self.nodes.iter().find_map(owners_seen_by).expect("a node answers");
            port = port_of_slot(&owners, slot);
            port.is_some()
        });
        let node = self.nodes.iter().find(|node| Some(node.port()) == port);
        node.expect("it is one of ours")
    }

    /// The first of three steps that move a slot: from now on the old owner answers ASK for keys that it does not have.
    pub fn begin_migration(&self, slot: u16, to: &RedisServer) {
        let (from, slot) = (self.node_of_slot(slot), slot.to_string());
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    }

    /// The second step: the keys go over. It may be repeated.
    pub fn migrate_keys(&self, slot: u16, to: &RedisServer) {
        let (from, slot, port) = (self.node_of_slot(slot), slot.to_string(), to.port().to_string());
        loop {
            let keys: Vec<String> = from.query(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                return;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            from.command(&migrate);
        }
    }

    /// The last step: the slot has its new owner, and all nodes know.
    pub fn finish_migration(&self, slot: u16, to: &RedisServer) {
        let (from, number, new_owner) = (self.node_of_slot(slot), slot.to_string(), id(to));
        // The new owner first: else none would own the slot for a moment.
        for node in [to, from] {
            node.command(&["CLUSTER", "SETSLOT", &number, "NODE", &new_owner]);
        }
        until("all nodes know the new owner of the slot", || {
            let mut owners = self.nodes.iter().filter_map(owners_seen_by);
            owners.all(|owners| port_of_slot(&owners, slot) == Some(to.port()))
        });
    }

    /// Waits until all slots are served, and all nodes that run agree on by which nodes.
    pub fn wait_until_ok(&self) {
        until("the cluster agrees", || {
            let mut running = self.nodes.iter().filter(|node| node.is_running());
            let mut seen = self.nodes.iter().filter_map(owners_seen_by);
            let Some(first) = seen.next() else { return false };
            let served: u16 = first.iter().map(|(_, from, to)| to - from + 1).sum();
            served == SLOTS && seen.all(|other| other == first) && running.all(is_ok)
        });
    }
}

/// Starts servers that have been prepared, all at once.
pub(crate) fn start_all(servers: &[RedisServer]) {
    thread::scope(|scope| {
        for server in servers {
            scope.spawn(|| server.start());
        }
    });
}

/// The file in which a node finds its cluster, as if it had been a member before. Without it, nodes would have to be introduced
/// to each other.
fn as_known_to(node: &RedisServer, nodes: &[RedisServer]) -> String {
    let mut text = String::new();
    for (member, number) in nodes.iter().zip(0..) {
        let myself = if member.port() == node.port() { "myself," } else { "" };
        let (address, shard) = (member.address(), number % MASTERS);
        let first = |shard| shard * SLOTS.div_ceil(MASTERS);
        let role =
            if number < MASTERS { "master -".to_owned() } else { format!("slave {shard:040x}") };
        let bus = member.port() + 10_000;
        text +=
            &format!("{number:040x} {address}@{bus} {myself}{role} 0 0 {} connected", shard + 1);
        if number < MASTERS {
            text += &format!(" {}-{}", first(shard), SLOTS.min(first(shard + 1)) - 1);
        }
        text += "\n";
    }
    text + &format!("vars currentEpoch {MASTERS} lastVoteEpoch 0\n")
}

/// Which slots are served by which node, as one node sees it: port, first slot and last slot, sorted. Nothing if the node does
/// not answer.
fn owners_seen_by(node: &RedisServer) -> Option<Vec<(u16, u16, u16)>> {
    if !node.is_running() {
        return None;
    }
    let nodes: String = query(&node.url(), &["CLUSTER", "NODES"]).ok()?;
    let mut owners: Vec<_> = nodes.lines().flat_map(owned).collect();
    owners.sort_unstable();
    Some(owners)
}

/// `id 127.0.0.1:port@bus flags master ping pong epoch link slots…`, where slots that migrate stand in brackets.
fn owned(line: &str) -> Vec<(u16, u16, u16)> {
    let words: Vec<_> = line.split(' ').collect();
    let port = words[1].split([':', '@']).nth(1).expect("an address has a port");
    let port = port.parse().expect("a port is a number");
    let slots = words.iter().skip(8).filter(|slots| !slots.starts_with('['));
    let range = |slots: &&str| {
        let (from, to) = slots.split_once('-').unwrap_or((slots, slots));
        Some((port, from.parse().ok()?, to.parse().ok()?))
    };
    slots.filter_map(range).collect()
}

fn port_of_slot(owners: &[(u16, u16, u16)], slot: u16) -> Option<u16> {
    let owner = owners.iter().find(|(_, from, to)| (*from..=*to).contains(&slot));
    owner.map(|(port, ..)| *port)
}

fn is_ok(node: &RedisServer) -> bool {
    let info = query::<String>(&node.url(), &["CLUSTER", "INFO"]);
    info.is_ok_and(|info| info.contains("cluster_state:ok"))
}

fn id(node: &RedisServer) -> String {
    node.text(&["CLUSTER", "MYID"])
}

const MASTERS: u16 = 3;
const SLOTS: u16 = 16_384;
const CONFIGURATION: [&str; 3] = [
    "cluster-enabled yes",
    "cluster-announce-ip 127.0.0.1",
    // Small, so that tests of failover are short; smaller ones take a busy machine for a dead node.
    "cluster-node-timeout 2000",
];
