//! Processes with leases on a real Redis, that are killed and stopped while it restarts: no rule admits more than its limit.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use limiter_conformance::fixtures::{asset, limits, named};
use limiter_core::{
    Charge, KeyConfig, KeyId, KeyKind, Limits, NewRecord, Store, Thresholds, Unit, Window,
};
use limiter_lease::LeasedStore;
use limiter_redis::RedisStore;
use limiter_test_servers::RedisServer;
use limiter_test_servers::worker::{Worker, ready};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Around the end of a minute: one is killed, Redis restarts, one is stopped over the end, another is killed.
#[tokio::test]
async fn no_rule_admits_more_than_its_limit_through_kills_a_stop_and_a_restart() {
    let server = RedisServer::durable();
    let store = connect(server.url()).await;
    let of_all = record("g", KeyKind::Group, named("g").with_global(group()));
    store.create(of_all).await.expect("the group is new");
    for key in 0..KEYS {
        let id = format!("g/{key}");
        let [global, of_asset] = of_key(key);
        let config = named(&id).with_global(global).with_asset(asset("m1"), of_asset);
        store.create(record(&id, KeyKind::Member, config)).await.expect("the key is new");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = |worker: usize| directory.path().join(worker.to_string());
    let end = next_minute_with(BEFORE);
    let until = (end + AFTER).as_millis().to_string();
    let until_ms = async |before_or_after: i64| {
        let left = end.as_millis() as i64 + before_or_after - now().as_millis() as i64;
        sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
    };
    let mut workers: Vec<Worker> = (0..WORKERS)
        .map(|worker| {
            let (url, file) = (server.url(), file(worker).display().to_string());
            let variables =
                [(URL, &*url), (FILE, &file), (UNTIL, &until), (NUMBER, &worker.to_string())];
            Worker::start("worker", &variables)
        })
        .collect();
    until_ms(-(BEFORE.as_millis() as i64)).await;
    workers.iter_mut().for_each(Worker::go);
    until_ms(-6_000).await;
    workers[0].kill();
    until_ms(-5_000).await;
    server.kill();
    server.start();
    until_ms(-1_500).await;
    workers[1].signal(Signal::SIGSTOP);
    until_ms(1_500).await;
    workers[1].signal(Signal::SIGCONT);
    until_ms(3_000).await;
    workers[2].kill();
    for worker in [1, 3] {
        assert!(workers[worker].passed());
    }

    let mut calls: BTreeMap<(usize, u64), u64> = BTreeMap::new();
    let (mut leased, mut all) = (0_u64, 0_u64);
    for worker in 0..WORKERS {
        for admitted in read(&file(worker)) {
            *calls.entry((admitted.key, admitted.minute)).or_default() += 1;
            leased += u64::from(admitted.is_leased);
            all += 1;
        }
    }
    let minutes = [end.as_secs() / 60 - 1, end.as_secs() / 60];
    println!("{all} calls admitted, {leased} of them out of leases");
    let mut worst = BTreeMap::<String, f64>::new();
    let mut check = |scope: &str, limits: &Limits, window: Window, calls: u64| {
        for (unit, admitted) in [(Unit::Requests, calls), (Unit::Tokens, calls * TOKENS)] {
            let share = admitted as f64 / limits.get(window, unit).expect("it is limited") as f64;
            let worst = worst.entry(format!("{scope}/{window}/{unit}")).or_default();
            *worst = worst.max(share);
        }
    };
    for minute in minutes {
        let mut of_group = 0;
        for key in 0..KEYS {
            let calls = calls.get(&(key, minute)).copied().unwrap_or_default();
            of_group += calls;
            let [global, of_asset] = of_key(key);
            for (scope, limits) in [("key", global), ("asset", of_asset)] {
                check(scope, &limits, Window::Minute, calls);
            }
        }
        check("group", &group(), Window::Minute, of_group);
        println!("minute {minute}: {of_group} calls of the group");
    }
    for key in 0..KEYS {
        let calls = minutes.map(|minute| calls.get(&(key, minute)).copied().unwrap_or_default());
        let [global, of_asset] = of_key(key);
        for (scope, limits) in [("key", global), ("asset", of_asset)] {
            check(scope, &limits, Window::Day, calls.iter().sum());
        }
    }
    for (rule, share) in &worst {
        println!("{rule}: {share:.6} of what it may admit, at most");
    }
    assert_eq!(calls.keys().filter(|(_, minute)| !minutes.contains(minute)).count(), 0);
    assert!(worst.values().all(|share| *share <= 1.0), "{worst:?}");
    assert!(leased > 500, "leases are used");
    let most = |rule| worst[rule] > 0.9;
    assert!(most("group/minute/requests") && most("key/minute/requests"), "limits are reached");
}

/// One of the processes: its tasks call one key after the other. Whatever is admitted is told before the next call.
#[test]
#[ignore = "started by the test above, in processes of its own"]
fn worker() {
    let (Ok(url), Ok(until)) = (env::var(URL), env::var(UNTIL)) else { return };
    let until = Duration::from_millis(until.parse().expect("a number"));
    let file = env::var(FILE).expect("a file");
    let file = OpenOptions::new().create(true).append(true).open(file).expect("a file");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = LeasedStore::builder(connect(url).await).from_rate(10).build();
        ready();
        let (file, mut tasks) = (Arc::new(file), JoinSet::new());
        for task in 0..TASKS {
            tasks.spawn(call(store.clone(), Arc::clone(&file), task, until));
        }
        tasks.join_all().await;
        assert!(store.flush(PATIENCE).await.is_nothing());
        println!("{:?}", store.figures());
    });
}

async fn call(store: LeasedStore, mut file: Arc<File>, task: usize, until: Duration) {
    let keys: Vec<KeyId> =
        (0..KEYS).map(|key| format!("g/{key}").parse().expect("an id")).collect();
    let (asset, charge) = (asset("m1"), Charge::request().with_tokens(10, TOKENS - 10));
    let charge = charge.expect("few tokens");
    // Each process has keys that it calls most, as where callers stay with one.
    let quarter = env::var(NUMBER).expect("a number").parse::<usize>().expect("a number");
    for call in task.. {
        let key = match call % 10 {
            0 => call * 7 % KEYS,
            _ => (call % (KEYS / WORKERS)) * WORKERS + quarter,
        };
        let began = now();
        if began >= until {
            return;
        }
        let decided = store.check_and_consume(&keys[key], Some(&asset), &charge).await;
        // Redis may be away.
        let Ok(decision) = decided else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        if let Some(allowed) = decision.allowed() {
            let is_leased = allowed.leased();
            let at = match is_leased {
                // What it shows is as of the lease. This process had not been stopped before it drew on that, or it found it dead.
                true => began.as_secs(),
                false => allowed.decided_at().unix_ms().unsigned_abs() / 1_000,
            };
            let line = format!("{key} {} {}\n", at / 60, u8::from(is_leased));
            file.write_all(line.as_bytes()).expect("the disk has room");
        }
        sleep(PAUSE).await;
    }
}

struct Admitted {
    key: usize,
    minute: u64,
    is_leased: bool,
}

fn read(file: &Path) -> Vec<Admitted> {
    let text = fs::read_to_string(file).expect("it was written");
    text.lines()
        .map(|line| {
            let mut words = line.split(' ').map(|word| word.parse().expect("a number"));
            let mut next = || words.next().expect("three numbers");
            let (key, minute, is_leased): (u64, u64, u64) = (next(), next(), next());
            Admitted { key: key as usize, minute, is_leased: is_leased == 1 }
        })
        .collect()
}

/// A key's own limits, and those of its asset. For a quarter of the keys each of the four rules of a minute binds.
fn of_key(key: usize) -> [Limits; 2] {
    let [requests, tokens] = [MANY, MANY * TOKENS];
    let mut of = [(requests, tokens), (requests, tokens)];
    match key / 4 % 4 {
        0 => of[0].0 = FEW,
        1 => of[1].0 = FEW,
        2 => of[0].1 = FEW * TOKENS,
        _ => of[1].1 = FEW * TOKENS,
    }
    of.map(|(requests, tokens)| {
        limits(|it| {
            it.requests_per_minute(requests)
                .tokens_per_minute(tokens)
                .requests_per_day(PER_DAY)
                .tokens_per_day(PER_DAY * TOKENS)
        })
    })
}

fn group() -> Limits {
    let most = KEYS as u64 * FEW * 4 / 5;
    limits(|it| it.requests_per_minute(most).tokens_per_minute(most * TOKENS))
}

fn record(id: &str, kind: KeyKind, config: KeyConfig) -> NewRecord {
    NewRecord {
        id: id.parse().expect("an id"),
        workspace: "home".parse().expect("a workspace"),
        kind,
        config,
        thresholds: Thresholds::NONE,
        secret: None,
        bootstraps: false,
    }
}

async fn connect(url: impl Into<String>) -> RedisStore {
    let builder = RedisStore::builder(url).command_deadline(PATIENCE).connect_deadline(PATIENCE);
    builder.connect().await.expect("the server accepts a store")
}

/// The end of this minute, if so much is left of it, or that of the next; but not midnight.
fn next_minute_with(left: Duration) -> Duration {
    let minute = now().as_secs() / 60;
    let ends = (minute + 1..).map(|end| Duration::from_secs(end * 60));
    let mut ends = ends.filter(|end| *end - now() > left && end.as_secs() % 86_400 != 0);
    ends.next().expect("time goes on")
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

const URL: &str = "LIMITER_TEST_WORKER_URL";
const FILE: &str = "LIMITER_TEST_WORKER_FILE";
const UNTIL: &str = "LIMITER_TEST_WORKER_UNTIL";
const NUMBER: &str = "LIMITER_TEST_WORKER_NUMBER";
const WORKERS: usize = 4;
const TASKS: usize = 16;
const KEYS: usize = 100;
/// Of a call.
const TOKENS: u64 = 15;
/// Calls a minute that the rule admits that binds, and that others would. A slow machine reaches the limits too.
const FEW: u64 = 150;
const MANY: u64 = 1_000_000;
const PER_DAY: u64 = FEW * 3 / 2;
/// How long they call before the end of the minute, and after it.
const BEFORE: Duration = Duration::from_secs(8);
const AFTER: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);
/// Redis may be restarting.
const PATIENCE: Duration = Duration::from_secs(10);
