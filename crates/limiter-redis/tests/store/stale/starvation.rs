//! While eight tasks hammer a key, others change it, cross its thresholds and settle: no task starves, and nothing is lost.
//!
//! The server's clock counts, and each side is a client of its own: the others notice a change only by a try that fails.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limiter_conformance::fixtures::{millionths, spend};
use limiter_core::{
    Decision, KeyConfig, KeyId, KeyKind, Limits, NewRecord, RequestId, Store, Thresholds,
    Timestamp, Totals, WorkspaceId,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{fresh_name, shared};

use crate::common;
use crate::update::update;

#[test]
fn slow_operations_end_while_a_key_is_hammered() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("threads").block_on(async {
        let day = day();
        let fight = Fight::new().await;
        let hammers: Vec<_> = (0..HAMMERS).map(|_| tokio::spawn(fight.clone().hammer())).collect();
        let changer = tokio::spawn(fight.clone().change());
        let settler = tokio::spawn(fight.clone().settle());
        let (changes, settled) =
            (changer.await.expect("changes"), settler.await.expect("settlements"));
        fight.over.store(true, Ordering::Relaxed);
        for hammer in hammers {
            hammer.await.expect("calls are answered");
        }
        let (admitted, denied) =
            (fight.admitted.load(Ordering::Relaxed), fight.denied.load(Ordering::Relaxed));
        println!("{admitted} calls admitted, {denied} denied, meanwhile:");
        println!("{changes}\n{settled}");
        for slow in [&changes, &settled] {
            assert!(slow.tries_at_percent(99) <= MOST_TRIES, "{slow}");
        }
        let used =
            fight.store("totals").await.usage(&fight.key).await.expect("usage").expect("a key");
        let charged = fight.charged.load(Ordering::Relaxed);
        assert_eq!(used.credits.spent.millionths(), admitted + charged);
        if self::day() == day {
            let requests = used.scopes[0].account.requests();
            assert_eq!(requests, admitted + fight.reserved.load(Ordering::Relaxed));
        }
    });
}

/// A key that many tasks use at once.
#[derive(Clone)]
struct Fight {
    prefix: String,
    key: KeyId,
    workspace: WorkspaceId,
    over: Arc<AtomicBool>,
    /// Calls of the hammers, of one request and one millionth of a credit each.
    admitted: Arc<AtomicU64>,
    denied: Arc<AtomicU64>,
    /// Reserved calls, and the millionths that they were charged in the end.
    reserved: Arc<AtomicU64>,
    charged: Arc<AtomicU64>,
}

/// Slow operations, by the tries that they took.
#[derive(Default)]
struct Slow {
    what: &'static str,
    /// Tries that compare and write, without those that only read.
    tries: BTreeMap<u64, u64>,
    slowest: Duration,
}

impl Fight {
    async fn new() -> Self {
        let prefix = fresh_name("fight");
        let key: KeyId = "hammered".parse().expect("an id");
        let workspace: WorkspaceId = "home".parse().expect("an id");
        let fight = Self {
            prefix,
            key: key.clone(),
            workspace: workspace.clone(),
            over: Arc::default(),
            admitted: Arc::default(),
            denied: Arc::default(),
            reserved: Arc::default(),
            charged: Arc::default(),
        };
        let new = |id: KeyId, kind, config| NewRecord {
            id,
            workspace: workspace.clone(),
            kind,
            config,
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        };
        let store = fight.store("setting up").await;
        let admin = KeyConfig::named("admin").expect("a name");
        let admin = new("admin".parse().expect("an id"), KeyKind::Admin, admin);
        store.create(admin).await.expect("an empty workspace");
        store.create(new(key, KeyKind::Member, config(0, 0))).await.expect("an admin is there");
        fight
    }

    /// One more client.
    async fn store(&self, what: &str) -> RedisStore {
        let builder = common::empty(shared().url()).key_prefix(&self.prefix);
        let store = builder.command_deadline(DEADLINE).connect().await;
        store.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    async fn hammer(self) {
        let store = self.store("hammer").await;
        let charge = spend(1);
        while !self.over.load(Ordering::Relaxed) {
            let decision =
                store.check_and_consume(&self.key, None, &charge).await.expect("an answer");
            let count = if decision.is_charged() { &self.admitted } else { &self.denied };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Changes limits, thresholds and budget, each in its turn.
    async fn change(self) -> Slow {
        let store = self.store("changer").await;
        let mut slow = Slow { what: "changes", ..Slow::default() };
        let record = Store::read(&store, &self.key).await.expect("an answer").expect("a key");
        let mut version = record.version;
        for number in 1..=SLOW {
            let spent =
                self.admitted.load(Ordering::Relaxed) + self.charged.load(Ordering::Relaxed);
            let update = update(&self.key, version, &config(number, spent));
            let updated = slow.time(&store, store.update(&self.workspace, &update));
            version = updated.await.expect("within the deadline").record.version;
        }
        slow
    }

    /// Reserves more than a threshold leaves, and settles below and above.
    async fn settle(self) -> Slow {
        let store = self.store("settler").await;
        let mut slow = Slow { what: "reservations and settlements", ..Slow::default() };
        let estimate = spend(60);
        for number in 0..SLOW {
            let id = RequestId::new(format!("r{number}")).expect("a short id");
            let ttl = Duration::from_secs(60);
            let reserved =
                slow.time(&store, store.reserve(&self.key, None, &estimate, &id, ttl)).await;
            if !matches!(reserved.expect("within the deadline"), Decision::Allowed(_)) {
                continue;
            }
            let actual = [1, 100][number as usize % 2];
            let totals = Totals::unchanged().with_credits(millionths(actual));
            let settled = slow.time(&store, store.settle(&self.key, &id, &totals)).await;
            settled.expect("within the deadline");
            self.reserved.fetch_add(1, Ordering::Relaxed);
            self.charged.fetch_add(actual, Ordering::Relaxed);
        }
        slow
    }
}

impl Slow {
    async fn time<T>(&mut self, store: &RedisStore, operation: impl Future<Output = T>) -> T {
        store.take_trips();
        let begun = Instant::now();
        let done = operation.await;
        self.slowest = self.slowest.max(begun.elapsed());
        let tries = store.take_trips().into_iter().filter(|(script, _)| *script != "inspect");
        *self.tries.entry(tries.map(|(_, tries)| tries).sum()).or_default() += 1;
        done
    }

    fn tries_at_percent(&self, percent: u64) -> u64 {
        let all: u64 = self.tries.values().sum();
        let mut below = 0;
        for (tries, count) in &self.tries {
            below += count;
            if below * 100 >= all * percent {
                return *tries;
            }
        }
        0
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.tries.values().sum();
        write!(f, "{all} {}:", self.what)?;
        for (tries, count) in &self.tries {
            write!(f, " {count} in {tries},")?;
        }
        write!(f, " p99 {}, the slowest {:.1?}", self.tries_at_percent(99), self.slowest)
    }
}

/// Each differs from the one before. A budget lasts for a few calls, and is raised by one of the next.
fn config(number: u64, spent: u64) -> KeyConfig {
    let limits =
        Limits::builder().requests_per_minute(MANY + number).requests_per_day(MANY + number % 7);
    let percents = [50, 60 + (number % 20) as u8, 90, 100];
    KeyConfig::named("hammered")
        .expect("a name")
        .with_global(limits.build().expect("limits within bounds"))
        .with_thresholds(Thresholds::new(percents).expect("rising"))
        .with_budget(millionths(spent + 100 + number % 900))
}

fn day() -> i64 {
    Timestamp::from(std::time::SystemTime::now()).unix_ms() / 86_400_000
}

const HAMMERS: usize = 8;
/// Of each kind.
const SLOW: u64 = 1_000;
/// Half of a second, and time for a busy machine to give others their turn.
const DEADLINE: Duration = Duration::from_secs(10);
const MOST_TRIES: u64 = 3;
/// More than there are calls.
const MANY: u64 = 1_000_000_000;
