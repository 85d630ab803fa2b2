//! A master, its replica, and the sentinels that choose between the two.

use crate::RedisServer;
use crate::cluster::start_all;
use crate::redis_server::query;
use crate::wait::until;

/// A master with one replica, watched by three sentinels. All are killed when it is dropped.
#[derive(Debug)]
pub struct RedisSentinel {
    /// Of which one is the master.
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts everything, and waits until the sentinels know the replica and each other.
    pub fn run() -> Self {
        let master = RedisServer::run();
        let replica = RedisServer::replica_of(&master);
        replica.wait_for_master();
        let sentinels: Vec<_> = (0..SENTINELS).map(|_| RedisServer::prepared_sentinel()).collect();
        for (number, sentinel) in sentinels.iter().enumerate() {
            sentinel.configure(&[
                format!("sentinel myid {number:040x}"),
                format!("sentinel monitor {MASTER} 127.0.0.1 {} {QUORUM}", master.port()),
                format!("sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}"),
                format!("sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}"),
                format!("sentinel known-replica {MASTER} 127.0.0.1 {}", replica.port()),
            ]);
            // Otherwise they would take seconds to find each other.
            for (other, number) in sentinels.iter().zip(0..).filter(|(_, other)| *other != number) {
                let port = other.port();
                let known =
                    format!("sentinel known-sentinel {MASTER} 127.0.0.1 {port} {number:040x}");
                sentinel.configure(&[known]);
            }
        }
        start_all(&sentinels);
        let this = Self { servers: [master, replica], sentinels };
        this.wait_until_ok();
        this
    }

    /// `redis+sentinel://127.0.0.1:12345,…/mymaster`, with all sentinels.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(RedisServer::address).collect();
        format!("redis+sentinel://{}/{MASTER}", addresses.join(","))
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The server that is the master, as the first sentinel that answers sees it.
    pub fn master(&self) -> &RedisServer {
        let port = self.sentinels.iter().find_map(master_port).expect("a sentinel answers");
        self.servers.iter().find(|server| server.port() == port).expect("it is one of ours")
    }

    /// The other server, which follows the master or should.
    pub fn replica(&self) -> &RedisServer {
        self.other(self.master())
    }

    /// Has the sentinels put the replica in the master's place, both of which are well, and waits until all of them
    /// say so.
    pub fn failover(&self) {
        let old = self.master();
        // Right after another failover, sentinels decline for a while.
        until("a sentinel starts a failover", || {
            let asked = self.sentinels[0].try_command(&["SENTINEL", "FAILOVER", MASTER]);
            asked.is_ok() || self.master().port() != old.port()
        });
        self.wait_for_failover_from(old);
    }

    /// Kills the master with SIGKILL, and returns it. The sentinels notice after a second.
    pub fn kill_master(&self) -> &RedisServer {
        let master = self.master();
        master.kill();
        master
    }

    /// Waits until all sentinels name another master than that one, and it takes writes. Returns it.
    pub fn wait_for_failover_from(&self, old: &RedisServer) -> &RedisServer {
        let new = self.other(old);
        until("all sentinels name the new master", || {
            self.sentinels.iter().all(|sentinel| master_port(sentinel) == Some(new.port()))
                && new.info("role").as_deref() == Some("master")
        });
        new
    }

    /// Waits until every sentinel takes the master to be well, and has connections to the replica and the other sentinels.
    fn wait_until_ok(&self) {
        until("the sentinels have found each other", || {
            self.sentinels.iter().all(|sentinel| {
                let master: Vec<String> = sentinel.query(&["SENTINEL", "MASTER", MASTER]);
                let replicas: Vec<Vec<String>> = sentinel.query(&["SENTINEL", "REPLICAS", MASTER]);
                let others: Vec<Vec<String>> = sentinel.query(&["SENTINEL", "SENTINELS", MASTER]);
                // Before a sentinel has asked the replica, it does not promote it.
                matches!(&replicas[..], [replica] if has(replica, "flags", "slave")
                    && has(replica, "master-link-status", "ok"))
                    && has(&master, "flags", "master")
                    && others.len() == SENTINELS - 1
                    && others.iter().all(|other| has(other, "flags", "sentinel"))
            })
        });
    }

    fn other(&self, server: &RedisServer) -> &RedisServer {
        let other = self.servers.iter().find(|other| other.port() != server.port());
        other.expect("of two servers, one is the other")
    }
}

/// Whether a list of names and values has this one.
fn has(fields: &[String], name: &str, value: &str) -> bool {
    fields.chunks(2).any(|field| field == [name, value])
}

/// The port of the master, if the sentinel answers.
fn master_port(sentinel: &RedisServer) -> Option<u16> {
    if !sentinel.is_running() {
        return None;
    }
    let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
    let (_, port): (String, u16) = query(&sentinel.url(), &words).ok()?;
    Some(port)
}

/// The name of the master, for the sentinels.
const MASTER: &str = "mymaster";
const SENTINELS: usize = 3;
/// So that two of the three are enough, and one may be dead.
const QUORUM: u32 = 2;
/// Small, so that tests are short; smaller ones take a busy machine for a dead master.
const DOWN_AFTER_MS: u32 = 1_000;
/// Also how long sentinels wait before they try again: twice as long.
const FAILOVER_TIMEOUT_MS: u32 = 3_000;
