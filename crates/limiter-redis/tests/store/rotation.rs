//! Access keys are replaced while callers of two processes use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use limiter_conformance::fixtures::{access_key, key_id, named, requests, workspace};
use limiter_core::{
    AccessKey, KeyId, KeyKind, KeyRotation, NewRecord, Store, StoredSecret, Thresholds,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{RedisCluster, shared};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::common;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_access_key_is_refused_by_every_process_once_it_has_ended() {
    rotates_under_load(shared().url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_on_a_cluster() {
    let cluster = RedisCluster::run();
    rotates_under_load(&cluster.url()).await;
}

async fn rotates_under_load(url: &str) {
    let builder = common::empty(url);
    let connect = || async { builder.clone().connect().await.expect("the test server accepts it") };
    let processes = [connect().await, connect().await];
    let ci = key_id("ci");
    let mut current = secret(0);
    processes[0].create(member(&ci, &current)).await.expect("it is the first key");
    let callers = Callers::of(&processes, &current);

    let mut in_grace = Vec::new();
    for round in 1..=ROUNDS {
        let next = secret(round);
        let grace = if round % 2 == 0 { GRACE } else { Duration::ZERO };
        let secret = StoredSecret::from(&next);
        let rotation = KeyRotation { id: ci.clone(), secret, grace };
        let rotated = processes[round % 2].rotate(&workspace("home"), &rotation).await;
        rotated.expect("it is a key");
        *callers.access_key.lock() = next.clone();
        for process in &processes {
            assert_eq!(resolved(process, &next).await, Some(ci.clone()), "{round}");
        }
        if grace.is_zero() {
            // So do those that were in their grace.
            for ended in in_grace.drain(..).chain([current]) {
                for process in &processes {
                    assert_eq!(resolved(process, &ended).await, None, "{round}: {ended}");
                }
            }
        } else {
            in_grace.push(current);
        }
        current = next;
    }
    sleep(GRACE).await;
    for ended in &in_grace {
        for process in &processes {
            assert_eq!(resolved(process, ended).await, None, "{ended}");
        }
    }
    let calls = callers.stop().await;
    println!("{ROUNDS} rotations under {calls} calls by access key");
    assert!(calls > 0);
}

/// Callers of each process, who use the access key that they were told last.
struct Callers {
    access_key: Arc<Mutex<AccessKey>>,
    calls: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Callers {
    fn of(processes: &[RedisStore], access_key: &AccessKey) -> Self {
        let mut callers = Self {
            access_key: Arc::new(Mutex::new(access_key.clone())),
            calls: Arc::default(),
            ends: Arc::default(),
            tasks: Vec::new(),
        };
        for number in 0..CALLERS {
            let process = processes[number % processes.len()].clone();
            let access_key = Arc::clone(&callers.access_key);
            let (calls, ends) = (Arc::clone(&callers.calls), Arc::clone(&callers.ends));
            callers.tasks.push(tokio::spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    let used = access_key.lock().clone();
                    // It may be replaced meanwhile, and then belongs to no key.
                    if let Some(id) = resolved(&process, &used).await {
                        let decision = process.check_and_consume(&id, None, &requests(1)).await;
                        assert!(decision.expect("an answer").is_allowed());
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        callers
    }

    /// Ends them, and returns how many calls they made.
    async fn stop(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no call failed");
        }
        self.calls.load(Ordering::Relaxed)
    }
}

async fn resolved(process: &RedisStore, access_key: &AccessKey) -> Option<KeyId> {
    process.resolve(&access_key.digest()).await.expect("an answer")
}

fn member(id: &KeyId, secret: &AccessKey) -> NewRecord {
    NewRecord {
        id: id.clone(),
        workspace: workspace("home"),
        kind: KeyKind::Member,
        config: named("ci"),
        thresholds: Thresholds::DEFAULT,
        secret: Some(StoredSecret::from(secret)),
        bootstraps: false,
    }
}

fn secret(number: usize) -> AccessKey {
    access_key(&format!("the-access-key-number-{number:03}"))
}

const CALLERS: usize = 8;
const ROUNDS: usize = 20;
const GRACE: Duration = Duration::from_millis(500);
