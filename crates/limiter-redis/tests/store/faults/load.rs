//! Calls on one key while something breaks, and the count of what became of each.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use limiter_core::{
    Charge, Credits, Decision, KeyConfig, KeyId, KeyKind, NewRecord, Store, StoreError, Thresholds,
};
use limiter_redis::{RedisStore, RedisStoreBuilder};
use limiter_test_servers::until_async;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A store with time for a busy machine.
pub(crate) async fn connect(url: impl Into<String>) -> RedisStore {
    patient(url).connect().await.expect("the test server accepts a store")
}

/// The settings of a store with time for a busy machine.
pub(crate) fn patient(url: impl Into<String>) -> RedisStoreBuilder {
    RedisStore::builder(url).command_deadline(PATIENCE).connect_deadline(PATIENCE)
}

/// A new key of this budget. Credits are never reset, so that no test depends on when it runs.
pub(crate) async fn key_with_budget(store: &RedisStore, credits: u64) -> KeyId {
    create(store, "busy", KeyConfig::named("busy").unwrap().with_budget(whole(credits))).await
}

pub(crate) async fn create(store: &RedisStore, id: &str, config: KeyConfig) -> KeyId {
    create_a(KeyKind::Member, store, id, config).await
}

/// Creates a key or a group.
pub(crate) async fn create_a(
    kind: KeyKind,
    store: &RedisStore,
    id: &str,
    config: KeyConfig,
) -> KeyId {
    let key = NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(key).await.expect("the key is created").id
}

pub(crate) fn whole(credits: u64) -> Credits {
    Credits::whole(credits).unwrap()
}

/// A call that costs one credit.
pub(crate) async fn call(store: &RedisStore, key: &KeyId) -> Result<Decision, StoreError> {
    store.check_and_consume(key, None, &Charge::request().with_credits(whole(1))).await
}

/// How many calls the server has charged, as soon as it answers again.
pub(crate) async fn counted(store: &RedisStore, key: &KeyId) -> u64 {
    let mut usage = None;
    until_async("the server answers", async || {
        usage = store.usage(key).await.ok();
        usage.is_some()
    })
    .await;
    let spent = usage.flatten().expect("the key is there").credits.spent;
    spent.millionths() / whole(1).millionths()
}

/// The outcomes of calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    /// Nothing was charged, and the store says so.
    pub(crate) unavailable: u64,
    /// The store cannot know.
    pub(crate) unknown: u64,
    /// Why there was no answer, and how often.
    pub(crate) causes: BTreeMap<String, u64>,
    /// How long each call took.
    pub(crate) took: Vec<Duration>,
}

impl Tally {
    pub(crate) fn add(&mut self, answer: &Result<Decision, StoreError>, took: Duration) {
        match answer {
            Ok(decision) if decision.is_allowed() => self.allowed += 1,
            Ok(_) => self.denied += 1,
            Err(StoreError::Unavailable(_)) => self.unavailable += 1,
            Err(StoreError::OutcomeUnknown(_)) => self.unknown += 1,
            Err(error) => panic!("{error:?}"),
        }
        if let Err(error) = answer {
            *self.causes.entry(cause(error)).or_default() += 1;
        }
        self.took.push(took);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.allowed + self.denied + self.unavailable + self.unknown
    }

    /// How many calls failed for a reason that has these words.
    pub(crate) fn failed_for(&self, words: &str) -> u64 {
        let causes = self.causes.iter().filter(|(cause, _)| cause.contains(words));
        causes.map(|(_, times)| times).sum()
    }

    /// How long the slowest of nine calls in ten took, and the slowest of all.
    pub(crate) fn slowest(&self) -> (Duration, Duration) {
        let mut took = self.took.clone();
        took.sort_unstable();
        (took[took.len() * 9 / 10], *took.last().expect("there were calls"))
    }

    /// Prints what became of the calls, and asserts that each was charged if it was allowed, at most once, and only
    /// if it was allowed or is unknown.
    pub(crate) fn assert_counted(&self, what: &str, counted: u64) {
        self.print(what, counted);
        assert!(self.allowed <= counted, "charges were lost: {self:#?}");
        self.assert_nothing_charged_twice(counted);
    }

    /// The part of it that holds also where charges may be lost.
    pub(crate) fn assert_nothing_charged_twice(&self, counted: u64) {
        assert!(counted <= self.allowed + self.unknown, "more was charged than called");
    }

    pub(crate) fn print(&self, what: &str, counted: u64) {
        let Self { allowed, denied, unavailable, unknown, .. } = self;
        let ((most, slowest), calls) = (self.slowest(), self.calls());
        println!(
            "{what}: {calls} calls: {allowed} allowed, {denied} denied, {unavailable} unavailable, {unknown} unknown; \
             {counted} counted; nine in ten within {most:.1?}, all within {slowest:.1?}"
        );
        for (cause, times) in &self.causes {
            println!("  {times} × {cause}");
        }
    }
}

/// Tasks that call, one call after the other, until the load ends.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(store: &RedisStore, key: &KeyId, tasks: usize) -> Self {
        let mut load = Self { tally: Arc::default(), stop: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..tasks {
            let (store, key) = (store.clone(), key.clone());
            let (tally, stop) = (Arc::clone(&load.tally), Arc::clone(&load.stop));
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = call(&store, &key).await;
                    tally.lock().unwrap().add(&answer, began.elapsed());
                    if answer.is_err() {
                        sleep(PAUSE).await;
                    }
                }
            });
        }
        load
    }

    pub(crate) fn now(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// Waits until this many more calls are allowed.
    pub(crate) async fn until_allowed(&self, more: u64) {
        let enough = self.now().allowed + more;
        until_async("more calls are allowed", async || self.now().allowed >= enough).await;
    }

    /// Waits until this many more calls have failed for a reason that has these words.
    pub(crate) async fn until_failed_for(&self, words: &str, more: u64) {
        let enough = self.now().failed_for(words) + more;
        until_async("more calls fail", async || self.now().failed_for(words) >= enough).await;
    }

    /// Ends all tasks, each after its call.
    pub(crate) async fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let tally = self.tally.lock().unwrap();
        tally.clone()
    }
}

/// The cause of a store error, in Redis or on the way to it.
pub(crate) fn cause(error: &StoreError) -> String {
    error.source().expect("a store error has a cause").to_string()
}

/// For tests of decisions, not of speed.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
