//! Two processes with 100 tasks each on one parallel limit, one of which is killed with calls open: never more are open than the limit
//! allows, and the slots of the dead come back when they expire.

use std::collections::BTreeMap;
use std::env;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use limiter_core::{
    Charge, KeyConfig, KeyId, KeyKind, LedgerBounds, Limits, RequestId, Store, Totals,
};
use limiter_redis::RedisStore;
use limiter_test_servers::RedisServer;
use limiter_test_servers::worker::{Worker, ready, say};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::load::{create, create_a, patient};

#[tokio::test]
async fn callers_that_are_killed_leak_no_slot_and_open_none_too_many() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    // Its slots do not expire in this test.
    let lasting = patient(server.url()).connect().await.unwrap();
    let limits = Limits::builder().parallel(LIMIT).build().unwrap();
    let group = KeyConfig::named("group").unwrap().with_global(limits);
    let group = create_a(KeyKind::Group, &store, "group", group).await;
    let mut keys = Vec::new();
    for id in ["group/one", "group/two"] {
        keys.push(create(&store, id, KeyConfig::named(id).unwrap()).await);
    }
    let (mut most_open, mut killed_with, mut leaked) = (0, 0, 0);
    for round in 0..ROUNDS {
        let mut workers = [0, 1].map(|number| start(&server, &keys[number], round, number));
        workers.iter_mut().for_each(Worker::go);
        thread::sleep(Duration::from_millis(150));
        workers[1].kill();
        let killed_at = Instant::now();
        thread::sleep(Duration::from_millis(100));
        let [survivor, killed] = workers.map(calls);
        let calls: Vec<Call> = survivor.into_iter().chain(killed).collect();
        let open = most_at_once(&calls);
        assert!(open <= LIMIT, "round {round}: {open} are open at once");
        most_open = most_open.max(open);
        let left = calls.iter().filter(|call| call.ends.is_none()).count() as u64;
        assert!(open_slots(&store, &group).await <= LIMIT);
        killed_with += left;
        // All are back when the last one has expired, and exactly as many as there were.
        // What it had sent may have been done a little later.
        sleep((SLOT + Duration::from_millis(250)).saturating_sub(killed_at.elapsed())).await;
        leaked += open_slots(&store, &group).await;
        let mut found = 0;
        for number in 0..=LIMIT {
            let id: RequestId = format!("after {round}, {number}").parse().unwrap();
            let reserved =
                lasting.reserve(&keys[0], None, &Charge::request(), &id, TTL).await.unwrap();
            if reserved.is_allowed() {
                found += 1;
            }
        }
        assert_eq!(found, LIMIT, "round {round}: as many as before");
        for number in 0..LIMIT {
            let id: RequestId = format!("after {round}, {number}").parse().unwrap();
            lasting.cancel(&keys[0], &id).await.unwrap();
        }
    }
    println!(
        "{ROUNDS} rounds: at most {most_open} of {LIMIT} open at once; {killed_with} open calls died with their process, \
         {leaked} slots leaked"
    );
    assert_eq!((most_open, leaked), (LIMIT, 0));
    assert!(killed_with > 0, "no process died with a call open");
}

/// One of the two processes. It says when each call was certainly open: from its answer to the moment before it is settled.
#[test]
#[ignore = "started by the test above, in processes of its own"]
fn worker() {
    let Ok(url) = env::var(URL) else { return };
    let key: KeyId = env::var(KEY).unwrap().parse().unwrap();
    let name = env::var(NAME).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = connect(url).await;
        ready();
        let ends = Instant::now() + Duration::from_millis(220);
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (store, key, name) = (store.clone(), key.clone(), name.clone());
            tasks.spawn(async move {
                for call in 0_u64.. {
                    if Instant::now() >= ends {
                        return;
                    }
                    let id: RequestId = format!("{name}-{task}-{call}").parse().unwrap();
                    let asked_at = now();
                    let reserved = store.reserve(&key, None, &Charge::request(), &id, TTL).await;
                    if reserved.unwrap().is_allowed() {
                        say(&format!("begins {id} {} {asked_at}", now()));
                        sleep(Duration::from_millis(2)).await;
                        say(&format!("ends {id} {}", now()));
                        store.settle(&key, &id, &Totals::unchanged()).await.unwrap();
                    } else {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
        tasks.join_all().await;
    });
}

/// A call that was certainly open from one microsecond to another; without an end, its process died.
struct Call {
    begins: u64,
    ends: Option<u64>,
    /// Until then, it certainly holds its slot, if it is not settled.
    expires: u64,
}

fn start(server: &RedisServer, key: &KeyId, round: u32, number: usize) -> Worker {
    let (url, name) = (server.url(), format!("{round}-{number}"));
    let variables = [(URL, &*url), (KEY, key.as_str()), (NAME, &name)];
    Worker::start("faults::slots::worker", &variables)
}

/// Waits for the end of a process, and returns its calls.
fn calls(mut worker: Worker) -> Vec<Call> {
    let mut calls = BTreeMap::new();
    for line in worker.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["begins", id, at, asked_at] => {
                // The server counts whole milliseconds.
                let held_for = SLOT.as_micros() as u64 - 1_000;
                let expires = asked_at.parse::<u64>().unwrap() + held_for;
                let call = Call { begins: at.parse().unwrap(), ends: None, expires };
                calls.insert(id.to_owned(), call);
            }
            ["ends", id, at] => {
                calls.get_mut(id).expect("it has begun").ends = Some(at.parse().unwrap());
            }
            _ => {}
        }
    }
    calls.into_values().collect()
}

/// The most calls that were certainly open at the same time. One whose process died holds its slot until that expires.
fn most_at_once(calls: &[Call]) -> u64 {
    let last = calls.iter().map(|call| call.ends.unwrap_or(call.begins)).max().unwrap_or(0);
    let mut steps: Vec<(u64, i64)> = Vec::new();
    for Call { begins, ends, expires } in calls {
        let ends = ends.unwrap_or(last).min(*expires);
        if *begins < ends {
            steps.extend([(*begins, 1), (ends, -1)]);
        }
    }
    steps.sort_unstable();
    let (mut open, mut most) = (0, 0);
    for (_, change) in steps {
        open += change;
        most = most.max(open);
    }
    most.cast_unsigned()
}

async fn connect(url: impl Into<String>) -> RedisStore {
    let bounds = LedgerBounds { slots: SLOT, ..LedgerBounds::default() };
    patient(url).ledger_bounds(bounds).connect().await.expect("the test server accepts a store")
}

/// The slots of the group that are held.
async fn open_slots(store: &RedisStore, group: &KeyId) -> u64 {
    let usage = store.usage(group).await.unwrap().unwrap();
    let mut rules = usage.scopes[0].rules.iter();
    rules.find(|state| state.rule.is_parallel()).expect("it has a parallel limit").used
}

/// In microseconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

const URL: &str = "LIMITER_TEST_WORKER_URL";
const KEY: &str = "LIMITER_TEST_WORKER_KEY";
const NAME: &str = "LIMITER_TEST_WORKER_NAME";
const LIMIT: u64 = 10;
const TASKS: usize = 100;
const ROUNDS: u32 = 20;
/// As long as nothing renews it.
const SLOT: Duration = Duration::from_millis(600);
const TTL: Duration = Duration::from_secs(60);
