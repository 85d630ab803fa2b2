//! A cluster whose slots can be moved.

use super::patience::until;
use crate::{RedisServer, RedisServerBuilder};

/// Three masters that share the slots evenly, each with a replica if wanted. All are killed when it is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

/// The settings of a [`RedisCluster`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisClusterBuilder {
    replicas: bool,
    node: RedisServerBuilder,
}

impl RedisCluster {
    /// Starts a cluster without replicas.
    pub fn run() -> Self {
        Self::builder().run()
    }

    /// A cluster with settings.
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder::default()
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
        let slot = self.nodes[0].text(&["CLUSTER", "KEYSLOT", key]);
        slot.parse().expect("a slot is a number")
    }

    /// The node that serves a slot, as the first node that answers sees it. Waits for one: in a failover there is none for a
    /// moment, after the old master is known to follow and before the new one is known to serve.
    ///
    /// # Panics
    /// If no node answers, or nobody serves the slot for long.
    pub fn node_of_slot(&self, slot: u16) -> &RedisServer {
        let mut served_by = None;
        until("the slot is served", || {
            let seen = self.nodes.iter().find_map(Seen::by).expect("a node answers");
            served_by = seen.port_of_slot(slot);
            served_by.is_some()
        });
        let node = self.nodes.iter().find(|node| Some(node.port()) == served_by);
        node.expect("it is one of ours")
    }

    /// Moves a slot and its keys to another master: all three steps at once.
    ///
    /// # Panics
    /// As each of the steps does.
    pub fn migrate_slot(&self, slot: u16, to: &RedisServer) {
        self.begin_migration(slot, to);
        self.migrate_keys(slot, to);
        self.finish_migration(slot, to);
    }

    /// The first step: from now on the old owner answers ASK for keys that it does not have.
    ///
    /// # Panics
    /// If the slot is with that node already, or migrating.
    pub fn begin_migration(&self, slot: u16, to: &RedisServer) {
        let (from, slot) = (self.node_of_slot(slot), slot.to_string());
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    }

    /// The second step: the keys go over, one after the other. It may be repeated.
    ///
    /// # Panics
    /// If a node does not answer, or a key cannot be moved.
    pub fn migrate_keys(&self, slot: u16, to: &RedisServer) {
        let (from, slot) = (self.node_of_slot(slot), slot.to_string());
        let port = to.port().to_string();
        loop {
            let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys: Vec<String> = redis::from_redis_value(keys).expect("keys of tests are texts");
            if keys.is_empty() {
                return;
            }
            for key in &keys {
                let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, key, "0", "5000"];
                if let Some(password) = to.password() {
                    migrate.extend(["AUTH", password]);
                }
                from.command(&migrate);
            }
        }
    }

    /// The last step: the slot has its new owner, and all masters know.
    ///
    /// # Panics
    /// If a master does not answer, or keys are left with the old owner.
    pub fn finish_migration(&self, slot: u16, to: &RedisServer) {
        let (from, number, new_owner) = (self.node_of_slot(slot), slot.to_string(), id(to));
        // The new owner first: else nobody would own the slot for a moment.
        for node in [to, from] {
            node.command(&["CLUSTER", "SETSLOT", &number, "NODE", &new_owner]);
        }
        until("all nodes know the new owner of the slot", || {
            let mut seen = self.nodes.iter().filter_map(Seen::by);
            seen.all(|seen| seen.port_of_slot(slot) == Some(to.port()))
        });
    }

    /// Waits until all slots are served, and all nodes that answer agree on by whom.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_until_ok(&self) {
        until("the cluster agrees", || {
            let mut seen = self.nodes.iter().filter_map(Seen::by).map(|seen| seen.owners);
            let Some(first) = seen.next() else { return false };
            let ok = |node: &RedisServer| match node.try_command(&["CLUSTER", "INFO"]) {
                Ok(info) => format!("{info:?}").contains("cluster_state:ok"),
                Err(_) => node.process_id().is_none(),
            };
            first.iter().map(|(_, from, to)| u32::from(to - from) + 1).sum::<u32>()
                == u32::from(SLOTS)
                && seen.all(|other| other == first)
                && self.nodes.iter().all(ok)
        });
    }

    fn introduce(&self) {
        for (node, epoch) in self.nodes.iter().zip(1..) {
            // Epochs of their own spare the nodes finding out who is right.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &i32::to_string(&epoch)]);
        }
        let first = self.nodes[0].port().to_string();
        for node in &self.nodes[1..] {
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &first]);
        }
        let count = self.nodes.len().to_string();
        until("all nodes have met", || {
            self.nodes.iter().all(|node| {
                let nodes = node.text(&["CLUSTER", "NODES"]);
                nodes.lines().count().to_string() == count && !nodes.contains("handshake")
            })
        });
    }

    fn assign_slots(&self) {
        let share = SLOTS.div_ceil(MASTERS);
        for (node, first) in self.nodes.iter().zip((0..SLOTS).step_by(share.into())) {
            let slots: Vec<_> =
                (first..SLOTS.min(first + share)).map(|slot| slot.to_string()).collect();
            // ADDSLOTSRANGE would be shorter; Redis 6.2 does not have it.
            let mut command = vec!["CLUSTER", "ADDSLOTS"];
            command.extend(slots.iter().map(String::as_str));
            node.command(&command);
        }
    }

    fn assign_replicas(&self) {
        let (masters, replicas) = self.nodes.split_at(MASTERS.into());
        for (master, replica) in masters.iter().zip(replicas) {
            replica.command(&["CLUSTER", "REPLICATE", &id(master)]);
        }
        for replica in replicas {
            replica.wait_for_master();
        }
        until("all nodes know the replicas", || {
            self.nodes.iter().all(|node| {
                let nodes = node.text(&["CLUSTER", "NODES"]);
                nodes.lines().filter(|line| line.contains("slave")).count() == replicas.len()
            })
        });
    }
}

impl RedisClusterBuilder {
    /// Whether each master has a replica, which takes its place if it dies. Default: no.
    pub fn replicas(mut self, replicas: bool) -> Self {
        self.replicas = replicas;
        self
    }

    /// A line of the configuration of every node. Set here already: `cluster-node-timeout 2000`.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.node = self.node.option(name, value);
        self
    }

    /// Starts the nodes, and waits until they agree on who serves which slots.
    ///
    /// # Panics
    /// If there is no binary, or a node does not start, or they do not agree in time.
    pub fn run(self) -> RedisCluster {
        let mut node =
            RedisServer::builder().cluster().option("cluster-node-timeout", NODE_TIMEOUT_MS);
        node.add_options_of(&self.node);
        let nodes = if self.replicas { MASTERS * 2 } else { MASTERS };
        let cluster = RedisCluster { nodes: (0..nodes).map(|_| node.clone().run()).collect() };
        cluster.introduce();
        cluster.assign_slots();
        cluster.wait_until_ok();
        if self.replicas {
            cluster.assign_replicas();
            cluster.wait_until_ok();
        }
        cluster
    }
}

/// Who serves which slots, in the eyes of one node.
struct Seen {
    /// Port, first slot and last slot, sorted.
    owners: Vec<(u16, u16, u16)>,
}

impl Seen {
    /// Nothing if the node does not answer.
    fn by(node: &RedisServer) -> Option<Self> {
        let nodes = node.process_id().and_then(|_| node.try_command(&["CLUSTER", "NODES"]).ok())?;
        let nodes: String = redis::from_redis_value(nodes).expect("it is a text");
        let mut owners: Vec<_> = nodes.lines().flat_map(owned).collect();
        owners.sort_unstable();
        Some(Self { owners })
    }

    fn port_of_slot(&self, slot: u16) -> Option<u16> {
        let owner = self.owners.iter().find(|(_, from, to)| (*from..=*to).contains(&slot));
        owner.map(|(port, ..)| *port)
    }
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

fn id(node: &RedisServer) -> String {
    node.text(&["CLUSTER", "MYID"])
}

const MASTERS: u16 = 3;
const SLOTS: u16 = 16_384;
/// Small, so that tests of failover are short; smaller ones take a busy machine for a dead node.
const NODE_TIMEOUT_MS: &str = "2000";
