//! A server that is made to forget its scripts all the time: every call runs nevertheless, and once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use limiter_core::{Charge, KeyConfig, KeyId, RecordId, RequestId, Store, Totals};
use limiter_redis::RedisStore;
use limiter_test_servers::RedisServer;

use super::load::{Load, connect, counted, create, key_with_budget, whole};
use crate::update::update;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_flushed_as_fast_as_can_be_fail_no_call() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    let flushing = Flushing::start(&server);
    let load = Load::start(&store, &key, 8);
    let (mut spent, mut round) = (0, 0);
    while round < 10 || forgotten(&server) < 100 {
        round += 1;
        load.until_allowed(20).await;
        spent += remembered(&store, &key, round).await;
        managed(&store, round).await;
    }
    let tally = load.end().await;
    let flushes = flushing.end();
    let counted = counted(&store, &key).await;
    println!("{flushes} × SCRIPT FLUSH, {} × NOSCRIPT", forgotten(&server));
    tally.print("SCRIPT FLUSH as fast as can be", counted - spent);
    assert_eq!((tally.unavailable, tally.unknown, tally.denied), (0, 0, 0));
    assert_eq!(counted, tally.allowed + spent);
}

/// How often the server did not know a script.
fn forgotten(server: &RedisServer) -> u64 {
    let count = server.info("errorstat_NOSCRIPT");
    count.and_then(|count| count.strip_prefix("count=")?.parse().ok()).unwrap_or(0)
}

/// One of each operation that is remembered; answers what they cost together.
async fn remembered(store: &RedisStore, key: &KeyId, round: usize) -> u64 {
    let id = |what: &str| format!("{what}-{round}").parse::<RequestId>().unwrap();
    let costs = |credits| Charge::request().with_credits(whole(credits));
    let total = |credits| Totals::unchanged().with_credits(whole(credits));
    for name in [id("settled"), id("cancelled")] {
        let ttl = Duration::from_secs(600);
        assert!(store.reserve(key, None, &costs(5), &name, ttl).await.unwrap().is_charged());
        assert!(store.amend(key, &name, &total(9)).await.unwrap().is_charged());
    }
    assert!(store.settle(key, &id("settled"), &total(7)).await.unwrap().is_first());
    assert!(store.cancel(key, &id("cancelled")).await.unwrap().is_first());
    assert!(store.check_once(key, None, &costs(2), &id("once")).await.unwrap().is_charged());
    let day = Duration::from_secs(86_400);
    store.record(key, None, &costs(4), &RecordId::new(&id("record"), day)).await.unwrap();
    7 + 2 + 4
}

/// The whole life of another key.
async fn managed(store: &RedisStore, round: usize) {
    let (workspace, name) = ("home".parse().unwrap(), format!("other {round}"));
    let key = create(store, &name, KeyConfig::named(&name).unwrap()).await;
    let renamed = KeyConfig::named(format!("renamed {round}")).unwrap().with_budget(whole(9));
    store.update(&workspace, &update(&key, 1, &renamed)).await.unwrap();
    store.reset(&workspace, &key).await.unwrap();
    assert!(store.history(&key, 2).await.unwrap().is_some());
    assert_eq!(store.read(&key).await.unwrap().unwrap().version, 2);
    store.delete(&workspace, &key).await.unwrap();
    assert!(store.read(&key).await.unwrap().is_none());
}

/// A thread that has the server forget its scripts again and again.
struct Flushing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Flushing {
    fn start(server: &RedisServer) -> Self {
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut times = 0;
            while !stopped.load(Ordering::Relaxed) {
                redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
                times += 1;
            }
            times
        });
        Self { stop, thread }
    }

    /// How often it did.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
