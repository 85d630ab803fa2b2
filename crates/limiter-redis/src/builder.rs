//! Settings of a store, and connecting with them.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{DayHistory, LedgerBounds, ManualClock};

use crate::address::Target;
use crate::batch::Bounds;
use crate::directory::Waiting;
use crate::error::RedisError;
use crate::keys::Keys;
use crate::keyspace::Keyspace;
use crate::rights;
use crate::scripts::Scripts;
use crate::servers::{Servers, Settings};
use crate::store::RedisStore;

/// Settings of a [`RedisStore`], from [`RedisStore::builder`].
///
/// ```no_run
/// # async fn connect() -> Result<(), limiter_redis::RedisError> {
/// use std::time::Duration;
///
/// use limiter_redis::RedisStore;
///
/// let store = RedisStore::builder("redis://limiter:secret@10.0.0.1:6379")
///     .key_prefix("gateway")
///     .command_deadline(Duration::from_millis(250))
///     .refuse_eviction()
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// # The rights of its user
/// A Redis user needs no more than this, on the keys of the prefix (here `gateway`):
///
/// ```text
/// ACL SETUSER limiter on >secret ~gateway:*
#[doc = include_str!("rights.txt")]
/// ```
///
/// On a cluster `+cluster|slots +asking` too, `+select` if the URL names a database, and `+scan` for
/// [`RedisStore::delete_everything`](crate::RedisStore::delete_everything). `+role` and `+info` are optional: without
/// them the store cannot check the server's role and version, and warns of that. Other missing rights are errors that
/// name the right, on connecting or on the first call that needs it.
#[derive(Clone)]
#[must_use = "nothing is connected before `connect` is called"]
pub struct RedisStoreBuilder {
    url: String,
    key_prefix: String,
    connect_deadline: Duration,
    bounds: Bounds,
    remembered: LedgerBounds,
    pool_size: usize,
    refuse_eviction: bool,
    clock: Option<ManualClock>,
    waiting: Waiting,
    history_days: u16,
}

impl RedisStoreBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            key_prefix: DEFAULT_PREFIX.to_owned(),
            connect_deadline: CONNECT_DEADLINE,
            bounds: Bounds {
                deadline: COMMAND_DEADLINE,
                batch: MAX_BATCH,
                waiting: MAX_WAITING,
                known: KNOWN_LIMITS,
            },
            remembered: LedgerBounds::default(),
            pool_size: POOL_SIZE,
            refuse_eviction: false,
            clock: None,
            waiting: Waiting::default(),
            history_days: DayHistory::DAYS,
        }
    }

    /// The prefix of the names of all Redis keys: 1 to 64 visible ASCII characters without braces. Two deployments on
    /// one server need two prefixes. `limiter` by default.
    pub fn key_prefix(self, prefix: impl Into<String>) -> Self {
        Self { key_prefix: prefix.into(), ..self }
    }

    /// The most that connecting to a server may take, with all checks: 5 s by default, above zero and up to
    /// 10 minutes.
    pub fn connect_deadline(self, deadline: Duration) -> Self {
        Self { connect_deadline: deadline, ..self }
    }

    /// The most that a call may take, with queueing and reconnecting: 500 ms by default, above zero and up to 10
    /// minutes.
    pub fn command_deadline(self, deadline: Duration) -> Self {
        Self { bounds: Bounds { deadline, ..self.bounds }, ..self }
    }

    /// The number of connections to each server for management, listing and usage, in addition to the one that all
    /// decisions share: 4 by default, 1 to 1,024.
    pub fn pool_size(self, connections: usize) -> Self {
        Self { pool_size: connections, ..self }
    }

    /// The most calls that one request to Redis decides: 32 by default, 1 to 128. More blocks the server longer and
    /// saves little.
    pub fn max_batch(self, calls: usize) -> Self {
        Self { bounds: Bounds { batch: calls, ..self.bounds }, ..self }
    }

    /// The most calls that wait for Redis at a time: 16,384 by default, at least 1. One more is an error at once.
    pub fn max_waiting(self, calls: usize) -> Self {
        Self { bounds: Bounds { waiting: calls, ..self.bounds }, ..self }
    }

    /// The number of keys and assets whose limits and windows are remembered, to prepare operations with: 100,000 by default,
    /// 1 to 1,000,000. Each takes some 450 bytes, once it has been called. No decision depends on it; a call whose limits
    /// are not remembered takes two round trips instead of one.
    pub fn max_remembered_limits(self, keys_and_assets: usize) -> Self {
        Self { bounds: Bounds { known: keys_and_assets, ..self.bounds }, ..self }
    }

    /// How many days the history of a key goes back, today included: [`DayHistory::DAYS`] by default, at most
    /// [`DayHistory::MOST_DAYS`]. All processes that use the same servers should agree on it.
    pub fn history_days(self, days: u16) -> Self {
        Self { history_days: days.clamp(1, DayHistory::MOST_DAYS), ..self }
    }

    /// How many calls of a key are remembered by their ids, and for how long: see [`LedgerBounds`] for the defaults.
    ///
    /// Each number may be up to 1,000,000. The dedupe time must be longer than the deadline of commands, or a call that
    /// is sent again could be charged again. A call beyond a bound is refused and not charged; no call is forgotten
    /// before its time.
    pub fn ledger_bounds(self, bounds: LedgerBounds) -> Self {
        Self { remembered: bounds, ..self }
    }

    /// Refuses a server whose `maxmemory-policy` may evict limits, counts or remembered calls, instead of warning of
    /// it.
    pub fn refuse_eviction(self) -> Self {
        Self { refuse_eviction: true, ..self }
    }

    /// The clock for windows and expiry in place of the server's: for tests and replays. All processes that share keys
    /// must use one.
    pub fn clock(self, clock: ManualClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// How long a change of a workspace's keys may take before others finish it: 10 s by default, 100 ms to an hour.
    /// After a crash halfway, the keys of its workspace cannot be created, renamed or deleted for so long. All
    /// processes must agree, and the clocks of a cluster's servers must differ by less than half of it.
    pub fn management_lease(self, lease: Duration) -> Self {
        Self { waiting: Waiting { lease, ..self.waiting }, ..self }
    }

    /// Connects, checks the servers and loads the scripts.
    ///
    /// # Errors
    /// [`RedisError`], of which each variant names the remedy: an invalid setting or URL, no server, a wrong password,
    /// too old a version, missing rights, a replica, an eviction policy that [is refused](Self::refuse_eviction).
    pub async fn connect(self) -> Result<RedisStore, RedisError> {
        self.check()?;
        let target: Target = self.url.parse()?;
        let settings = Settings {
            target,
            connect_deadline: self.connect_deadline,
            command_deadline: self.bounds.deadline,
            pool_size: self.pool_size,
            refuse_eviction: self.refuse_eviction,
        };
        // Loaded to check that scripts are allowed. The variant that the servers understand is known afterwards.
        let plain = Scripts::new(self.clock.clone(), false);
        let servers = Servers::connect(settings, &[&plain.apply, &plain.read]).await?;
        let scripts = match servers.understand_shebangs() {
            true => Scripts::new(self.clock, true),
            false => plain,
        };
        let keyspace = Keyspace::new(self.key_prefix);
        rights::check(&servers, &keyspace).await?;
        let keys =
            Keys::new(servers, keyspace, Arc::new(scripts), self.bounds.known, self.history_days);
        Ok(RedisStore::new(keys, self.bounds, self.remembered, self.waiting))
    }

    /// Creates a store, for tests, with these settings and the one connection of another store. Many such stores at once
    /// save most of the system calls.
    ///
    /// # Errors
    /// [`RedisError::InvalidSetting`].
    #[cfg(feature = "fuzzing")]
    #[doc(hidden)]
    pub fn share_connection(self, of: &RedisStore) -> Result<RedisStore, RedisError> {
        self.check()?;
        let servers = of.keys.servers.for_one_of_many();
        let scripts = Scripts::new(self.clock, servers.understand_shebangs());
        let keyspace = Keyspace::new(self.key_prefix);
        let keys =
            Keys::new(servers, keyspace, Arc::new(scripts), self.bounds.known, self.history_days);
        Ok(RedisStore::new(keys, self.bounds, self.remembered, self.waiting))
    }

    fn check(&self) -> Result<(), RedisError> {
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'{' && byte != b'}';
        let prefix = &self.key_prefix;
        let is_prefix = (1..=MAX_PREFIX).contains(&prefix.len()) && prefix.bytes().all(visible);
        let Bounds { deadline, batch, waiting, known } = self.bounds;
        let LedgerBounds { open, ended, checks, records, dedupe, .. } = self.remembered;
        let remembered = [open, ended, checks, records];
        let checked = [
            (
                "key_prefix",
                is_prefix,
                "it must have 1 to 64 visible ASCII characters, none of them a brace",
            ),
            ("max_batch", (1..=LARGEST_BATCH).contains(&batch), "it must be 1 to 128 calls"),
            (
                "max_remembered_limits",
                (1..=MOST_KNOWN).contains(&known),
                "it must be 1 to 1,000,000 keys and assets",
            ),
            (
                "ledger_bounds",
                remembered.iter().all(|most| *most <= MOST_REMEMBERED),
                "each number must be at most 1,000,000",
            ),
            (
                "ledger_bounds",
                dedupe > deadline,
                "the dedupe time must be longer than command_deadline",
            ),
            ("max_waiting", waiting > 0, "at least one call must be able to wait"),
            (
                "management_lease",
                (SHORTEST_LEASE..=LONGEST_LEASE).contains(&self.waiting.lease),
                "it must be 100 ms to an hour",
            ),
        ];
        if let Some((setting, _, reason)) = checked.into_iter().find(|(_, is_valid, _)| !is_valid) {
            return Err(RedisError::setting(setting, reason));
        }
        Ok(())
    }
}

/// Without the URL, which may hold a password.
impl std::fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("key_prefix", &self.key_prefix)
            .finish_non_exhaustive()
    }
}

const DEFAULT_PREFIX: &str = "limiter";
/// Every name in Redis contains the prefix.
const MAX_PREFIX: usize = 64;
/// Connecting includes name look-up, TLS and authentication.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A decision takes a millisecond; a caller of an LLM does not notice half a second, and should not wait longer.
const COMMAND_DEADLINE: Duration = Duration::from_millis(500);
/// Management is rare, and each call of it takes a connection for a millisecond or so.
const POOL_SIZE: usize = 4;
/// In larger batches the cost of a call hardly falls.
const MAX_BATCH: usize = 32;
/// A script blocks the server: a batch of this size takes a good millisecond.
const LARGEST_BATCH: usize = 128;
/// A tenth of a second of work for a server of one core.
const MAX_WAITING: usize = 16_384;
/// Some 45 MB, if all of them are called.
const KNOWN_LIMITS: usize = 100_000;
/// Room for them is made at once: half a gigabyte.
const MOST_KNOWN: usize = 1_000_000;
/// Some 100 MB of a server's memory for one key.
const MOST_REMEMBERED: usize = 1_000_000;
/// Several round trips and pauses must fit.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);
const LONGEST_LEASE: Duration = Duration::from_secs(3_600);
