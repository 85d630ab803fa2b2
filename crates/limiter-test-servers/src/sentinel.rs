//! A master, its replica, and the sentinels that choose between the two.

use super::patience::until;
use crate::RedisServer;

/// A master with one replica, watched by three sentinels as [`RedisSentinel::NAME`]. All are killed when it is dropped.
#[derive(Debug)]
pub struct RedisSentinel {
    /// Of which one is the master.
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// What the sentinels call the master.
    pub const NAME: &str = "mymaster";

    /// Starts everything, and waits until the sentinels know the replica and each other.
    ///
    /// # Panics
    /// If there is no binary, or a server does not start, or they do not find each other in time.
    pub fn run() -> Self {
        let master = RedisServer::run();
        let replica = RedisServer::builder().replica_of(&master).run();
        replica.wait_for_master();
        let sentinel = RedisServer::builder()
            .sentinel()
            .option(
                "sentinel",
                &format!("monitor {} 127.0.0.1 {} {QUORUM}", Self::NAME, master.port()),
            )
            .option("sentinel", &format!("down-after-milliseconds {} {DOWN_AFTER_MS}", Self::NAME))
            .option("sentinel", &format!("failover-timeout {} {FAILOVER_TIMEOUT_MS}", Self::NAME));
        let sentinels = (0..SENTINELS).map(|_| sentinel.clone().run()).collect();
        let this = Self { servers: [master, replica], sentinels };
        this.wait_until_ok();
        this
    }

    /// `redis+sentinel://127.0.0.1:12345,…/mymaster`, with all sentinels.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(RedisServer::address).collect();
        format!("redis+sentinel://{}/{}", addresses.join(","), Self::NAME)
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The server that is the master, as the first sentinel that answers sees it.
    ///
    /// # Panics
    /// If no sentinel answers.
    pub fn master(&self) -> &RedisServer {
        let port = self.sentinels.iter().find_map(master_port).expect("a sentinel answers");
        self.servers.iter().find(|server| server.port() == port).expect("it is one of ours")
    }

    /// The other server, which follows the master or should.
    ///
    /// # Panics
    /// If no sentinel answers.
    pub fn replica(&self) -> &RedisServer {
        self.other(self.master())
    }

    /// Has the sentinels put the replica in the master's place, both of which are well, and waits until all of them
    /// say so.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn failover(&self) {
        let old = self.master();
        // Right after another failover, sentinels decline for a while.
        until("a sentinel starts a failover", || {
            let asked = self.sentinels[0].try_command(&["SENTINEL", "FAILOVER", Self::NAME]);
            asked.is_ok() || self.master().port() != old.port()
        });
        self.wait_for_failover_from(old);
    }

    /// Kills the master with SIGKILL, and says which it was. The sentinels notice after a second.
    pub fn kill_master(&self) -> &RedisServer {
        let master = self.master();
        master.kill();
        master
    }

    /// Waits until all sentinels name another master than that one, and it takes writes. Returns it.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_for_failover_from(&self, old: &RedisServer) -> &RedisServer {
        let new = self.other(old);
        until("all sentinels name the new master", || {
            self.sentinels.iter().all(|sentinel| master_port(sentinel) == Some(new.port()))
                && new.info("role").as_deref() == Some("master")
        });
        new
    }

    /// Waits until every sentinel knows the replica and the other sentinels, and takes the master to be well.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_until_ok(&self) {
        until("the sentinels have found each other", || {
            self.sentinels.iter().all(|sentinel| {
                let state = sentinel.command(&["SENTINEL", "MASTER", Self::NAME]);
                let fields: Vec<String> = redis::from_redis_value(state).expect("fields are texts");
                let has = |name, value| fields.chunks(2).any(|field| field == [name, value]);
                has("flags", "master")
                    && has("num-slaves", "1")
                    && has("num-other-sentinels", "2")
                    && self.replica_is_known_to(sentinel)
            })
        });
    }

    /// Until a sentinel has heard of the replica, it does not promote it.
    fn replica_is_known_to(&self, sentinel: &RedisServer) -> bool {
        let replicas = sentinel.command(&["SENTINEL", "REPLICAS", Self::NAME]);
        let replicas: Vec<Vec<String>> =
            redis::from_redis_value(replicas).expect("fields are texts");
        let has = |name, value| replicas[0].chunks(2).any(|field| field == [name, value]);
        replicas.len() == 1 && has("flags", "slave") && has("master-link-status", "ok")
    }

    fn other(&self, server: &RedisServer) -> &RedisServer {
        let other = self.servers.iter().find(|other| other.port() != server.port());
        other.expect("of two servers, one is the other")
    }
}

/// The port of the master, if the sentinel answers.
fn master_port(sentinel: &RedisServer) -> Option<u16> {
    sentinel.process_id()?;
    let name = RedisSentinel::NAME;
    let address = sentinel.try_command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]).ok()?;
    let (_, port): (String, u16) = redis::from_redis_value(address).ok()?;
    Some(port)
}

const SENTINELS: u32 = 3;
/// So that two of the three are enough, and one may be dead.
const QUORUM: u32 = 2;
/// Small, so that tests are short; smaller ones take a busy machine for a dead master.
const DOWN_AFTER_MS: u32 = 1_000;
/// Also how long sentinels wait before they try again: twice as long.
const FAILOVER_TIMEOUT_MS: u32 = 3_000;
