//! Two processes with 64 tasks each, against one limit: they admit exactly the limit, in every run, and each threshold
//! fires once, in one of the two.

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use limiter_core::{Charge, KeyConfig, KeyId, KeyKind, Limits, Store, Unit};
use limiter_redis::RedisStore;
use limiter_test_servers::RedisServer;
use limiter_test_servers::worker::{Worker, ready, say};
use tokio::task::JoinSet;

use super::load::{connect, create, create_a};

#[tokio::test]
async fn two_processes_admit_exactly_the_limit_of_requests() {
    away_from_midnight().await;
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    for run in 0..RUNS {
        let limits = Limits::builder().requests_per_day(1_000).build().unwrap();
        let key = limited(&store, run, limits).await;
        let [(one, fired), (other, also)] = race(&server, key.as_str(), 0);
        println!(
            "requests, run {run}: {one} + {other} admitted of 1000, {fired:?} and {also:?} fired"
        );
        assert_eq!(one + other, 1_000);
        assert_each_fired_once(fired, also);
        assert_eq!(counted(&store, &key).await, [(Unit::Requests, 1_000)]);
    }
}

#[tokio::test]
async fn two_processes_admit_exactly_the_limit_of_tokens() {
    away_from_midnight().await;
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    for run in 0..RUNS {
        let limits = Limits::builder().tokens_per_day(100_000).build().unwrap();
        let key = limited(&store, run, limits).await;
        let [(one, fired), (other, also)] = race(&server, key.as_str(), 2_500);
        println!(
            "tokens, run {run}: {one} + {other} calls admitted of 100000 / 2500, {fired:?} and {also:?} fired"
        );
        assert_eq!(one + other, 40);
        assert_each_fired_once(fired, also);
        assert_eq!(counted(&store, &key).await, [(Unit::Tokens, 100_000)]);
        let usage = store.usage(&key).await.unwrap().unwrap();
        assert_eq!(usage.scopes[0].account.requests(), 40);
    }
}

/// The group may make 1,000 requests, and each of its 50 keys 30: some keys are denied by their own limit, and at last all by
/// the group's.
#[tokio::test]
async fn two_processes_admit_exactly_the_limit_of_a_group() {
    away_from_midnight().await;
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let per_day = |most| Limits::builder().requests_per_day(most).build().unwrap();
    for run in 0..RUNS {
        let config = KeyConfig::named(format!("group {run}")).unwrap();
        let group = format!("group-{run}");
        let group =
            create_a(KeyKind::Group, &store, &group, config.with_global(per_day(1_000))).await;
        let mut keys = Vec::new();
        for number in 0..50 {
            let name = format!("{group}/{number}");
            let config = KeyConfig::named(&name).unwrap().with_global(per_day(30));
            keys.push(create(&store, &name, config).await);
        }
        let all = keys.iter().map(KeyId::as_str).collect::<Vec<_>>().join(",");
        let [(one, fired), (other, also)] = race(&server, &all, 0);
        let (mut of_keys, mut full) = (0, 0);
        for key in &keys {
            let [(Unit::Requests, used)] = counted(&store, key).await[..] else { panic!("{key}") };
            assert!(used <= 30, "{key}: {used}");
            (of_keys, full) = (of_keys + used, full + u32::from(used == 30));
        }
        println!("group, run {run}: {one} + {other} admitted of 1000, {full} of 50 keys full");
        assert_eq!((one + other, of_keys), (1_000, 1_000), "min(1,000, 50 × 30)");
        assert_eq!(counted(&store, &group).await, [(Unit::Requests, 1_000)]);
        let of_all = [fired, also].concat();
        assert!(of_all.iter().filter(|percent| **percent == 80).count() >= 1);
    }
}

/// One of the two processes: it waits for a line, then its tasks call with each key until it is denied.
#[test]
#[ignore = "started by the tests above, in processes of its own"]
fn worker() {
    let Ok(url) = env::var(URL) else { return };
    let keys = env::var(KEYS).unwrap();
    let keys: Vec<KeyId> = keys.split(',').map(|key| key.parse().unwrap()).collect();
    let tokens: u64 = env::var(TOKENS).unwrap().parse().unwrap();
    let charge = Charge::request().with_tokens(tokens, 0).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (admitted, fired) = runtime.block_on(async {
        let store = connect(url).await;
        ready();
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (store, mut keys) = (store.clone(), keys.clone());
            tasks.spawn(async move {
                let (mut admitted, mut fired, mut place) = (0_u64, Vec::new(), task);
                while !keys.is_empty() {
                    place %= keys.len();
                    let called = store.check_and_consume(&keys[place], None, &charge).await;
                    match called.unwrap().allowed() {
                        None => drop(keys.remove(place)),
                        Some(allowed) => {
                            let crossed = allowed.crossed().iter();
                            fired.extend(crossed.map(|crossing| crossing.percent.to_string()));
                            (admitted, place) = (admitted + 1, place + 1);
                        }
                    }
                }
                (admitted, fired)
            });
        }
        let (admitted, fired): (Vec<u64>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
        (admitted.iter().sum::<u64>(), fired.concat().join(","))
    });
    say(&format!("\n{ADMITTED}{admitted}={fired}"));
}

/// The amounts that the rules of a key have counted.
async fn counted(store: &RedisStore, key: &KeyId) -> Vec<(Unit, u64)> {
    let usage = store.usage(key).await.unwrap().unwrap();
    usage.scopes[0]
        .rules
        .iter()
        .filter_map(|state| Some((state.rule.unit()?, state.used)))
        .collect()
}

async fn limited(store: &RedisStore, run: u32, limits: Limits) -> KeyId {
    let name = format!("run {run}");
    create(store, &name, KeyConfig::named(&name).unwrap().with_global(limits)).await
}

/// Asserts that each default threshold of the shared limit fired once.
fn assert_each_fired_once(fired: Vec<u8>, also: Vec<u8>) {
    let mut all = [fired, also].concat();
    all.sort_unstable();
    assert_eq!(all, [80, 100]);
}

/// Returns, for each of the two processes, the number of allowed calls and the thresholds that fired.
fn race(server: &RedisServer, keys: &str, tokens: u64) -> [(u64, Vec<u8>); 2] {
    let (url, tokens) = (server.url(), tokens.to_string());
    let start = || {
        let variables = [(URL, &*url), (KEYS, keys), (TOKENS, &tokens)];
        Worker::start("faults::exact::worker", &variables)
    };
    let mut workers = [start(), start()];
    workers.iter_mut().for_each(Worker::go);
    workers.map(|mut worker| {
        let line = worker.line_with(ADMITTED);
        let (admitted, fired) = line.trim()[ADMITTED.len()..].split_once('=').unwrap();
        let fired = fired.split(',').filter(|percent| !percent.is_empty());
        let fired = fired.map(|percent| percent.parse().unwrap()).collect();
        assert!(worker.lines().count() > 0 && worker.passed());
        (admitted.parse().unwrap(), fired)
    })
}

/// Waits until midnight is not near: a day limit would be reset within a race.
async fn away_from_midnight() {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 86_400;
    if today + LONGEST >= 86_400 {
        tokio::time::sleep(Duration::from_secs(86_401 - today)).await;
    }
}

const URL: &str = "LIMITER_TEST_WORKER_URL";
const KEYS: &str = "LIMITER_TEST_WORKER_KEYS";
const TOKENS: &str = "LIMITER_TEST_WORKER_TOKENS";
const ADMITTED: &str = "admitted=";
const TASKS: usize = 64;
const RUNS: u32 = 3;
/// A second is usual; this is in seconds, for all runs on a busy machine.
const LONGEST: u64 = 30;
