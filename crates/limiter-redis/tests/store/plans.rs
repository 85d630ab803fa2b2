//! Plans are changed while callers of two processes use keys that have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use limiter_conformance::fixtures::{key_id, named, requests, workspace};
use limiter_core::{
    Effective, KeyConfig, KeyId, KeyKind, KeyUpdate, KeysError, Limits, NewRecord, Plan, PlanName,
    PlanUpdate, Store, Thresholds,
};
use limiter_redis::{RedisStore, RedisStoreBuilder};
use limiter_test_servers::{Proxy, RedisCluster, RedisServer, shared};
use tokio::time::sleep;

use crate::common;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_takes_a_changed_plan_within_a_second_and_never_in_part() {
    changes_under_load(shared().url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_on_a_cluster() {
    let cluster = RedisCluster::run();
    changes_under_load(&cluster.url()).await;
}

async fn changes_under_load(url: &str) {
    let builder = common::empty(url);
    let processes = [connect(&builder).await, connect(&builder).await];
    save(&processes[0], 1, Effective::Next).await;
    processes[0].create(group("acme")).await.expect("a new group");
    let keys = ["acme/a", "acme/b", "acme/c", "d"].map(key_id);
    for key in &keys {
        processes[0].create(member(key)).await.expect("a new key");
    }
    let seen = Arc::new(Seen::default());
    seen.latest.store(1, Ordering::SeqCst);
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        let process = processes[number % processes.len()].clone();
        let (key, seen) = (keys[number % keys.len()].clone(), Arc::clone(&seen));
        callers.push(tokio::spawn(async move {
            while !seen.ends.load(Ordering::Relaxed) {
                seen.call(&process, &key).await;
            }
        }));
    }
    for round in 2..=ROUNDS {
        save(&processes[round as usize % 2], round, Effective::Now).await;
        seen.latest.store(round, Ordering::SeqCst);
        sleep(LEARNT_WITHIN).await;
        seen.needed.store(round, Ordering::SeqCst);
        sleep(Duration::from_millis(200)).await;
    }
    seen.ends.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no call failed");
    }
    let calls = seen.calls.load(Ordering::Relaxed);
    println!("{} changes of a plan under {calls} calls", ROUNDS - 1);
    assert!(calls > ROUNDS);
}

/// What callers have seen of a plan whose version is the number in each of its limits.
#[derive(Default)]
struct Seen {
    /// No call sees a later version.
    latest: AtomicU64,
    /// A call that begins now sees no earlier version.
    needed: AtomicU64,
    calls: AtomicU64,
    ends: AtomicBool,
}

impl Seen {
    async fn call(&self, process: &RedisStore, key: &KeyId) {
        let needed = self.needed.load(Ordering::SeqCst);
        let decision = process.check_and_consume(key, None, &requests(1)).await;
        let decision = decision.expect("an answer");
        assert!(decision.is_allowed(), "{decision:?}");
        // The group has the plan too, and takes it in a step of its own.
        for level in [None, Some("acme")] {
            let rules =
                decision.rules().filter(|rule| rule.group.as_ref().map(KeyId::as_str) == level);
            let versions: Vec<_> = rules.map(|rule| rule.limit / MUCH).collect();
            let Some(first) = versions.first() else { continue };
            assert!(versions.iter().all(|version| version == first), "{key}: {versions:?}");
            assert!(*first >= needed, "{key}: version {first} a second after {needed}");
            assert!(*first <= self.latest.load(Ordering::SeqCst) + 1, "{key}: {first}");
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// A decision of a key with a plan costs no more than one of any other.
#[cfg(feature = "fuzzing")]
#[tokio::test]
async fn a_call_of_a_key_with_a_plan_takes_one_trip() {
    let process = connect(&common::empty(shared().url())).await;
    save(&process, 1, Effective::Next).await;
    process.create(member(&key_id("ci"))).await.expect("a new key");
    let trips = async || {
        process.take_trips();
        let decision = process.check_and_consume(&key_id("ci"), None, &requests(1)).await;
        assert!(decision.expect("an answer").is_allowed());
        process.take_trips().into_values().sum::<u64>()
    };
    trips().await;
    for _ in 0..5 {
        assert_eq!(trips().await, 1);
    }
    // Once the plan has been known for half of its time, it is read again beside the calls.
    sleep(Duration::from_millis(500)).await;
    assert!(trips().await <= 2);
    // After a pause it is read before the call, and so is the key.
    sleep(Duration::from_millis(1_000)).await;
    assert_eq!(trips().await, 3);
    assert_eq!(trips().await, 1);
}

#[tokio::test]
async fn a_plan_whose_last_key_has_left_it_can_be_deleted() {
    let process = connect(&common::empty(shared().url())).await;
    save(&process, 1, Effective::Next).await;
    let [moves, goes] = ["moves", "goes"].map(key_id);
    for key in [&moves, &goes] {
        process.create(member(key)).await.expect("a new key");
    }
    assert!(matches!(delete(&process).await, Err(KeysError::PlanInUse(_))));
    process.delete(&workspace("home"), &goes).await.expect("a key");
    assert!(matches!(delete(&process).await, Err(KeysError::PlanInUse(_))));
    let update = |version, config: &KeyConfig| KeyUpdate {
        id: moves.clone(),
        version,
        config: config.clone(),
        effective: Effective::Next,
        thresholds: Thresholds::NONE,
    };
    let updated = process.update(&workspace("home"), &update(1, &named("moves"))).await;
    updated.expect("no other change");
    delete(&process).await.expect("no key has it");
    let again = update(2, &named("moves").with_plan(plan_name()));
    let refused = process.update(&workspace("home"), &again).await;
    assert!(matches!(refused, Err(KeysError::NoPlan(_))), "{refused:?}");
}

#[tokio::test]
async fn a_plan_that_a_key_was_refused_can_be_deleted() {
    let process = connect(&common::empty(shared().url())).await;
    save(&process, 1, Effective::Next).await;
    process.create(NewRecord { config: named("taken"), ..member(&key_id("a")) }).await.unwrap();
    let config = named("taken").with_plan(plan_name());
    let refused = process.create(NewRecord { config, ..member(&key_id("b")) }).await;
    assert!(matches!(refused, Err(KeysError::NameTaken(_))), "{refused:?}");
    delete(&process).await.expect("no key has it");
}

/// The key may be about to be created, by a client that is slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_a_key_may_be_about_to_get_is_in_use_for_a_lease() {
    let server = RedisServer::run();
    let proxy = Proxy::to(&server.address());
    proxy.count_only(&["EVALSHA"]);
    let builder = |url: String| common::empty(&url).key_prefix("plans").management_lease(LEASE);
    let direct = connect(&builder(server.url().to_owned())).await;
    let slow = builder(proxy.url()).command_deadline(Duration::from_millis(300));
    let slow = connect(&slow).await;
    save(&direct, 1, Effective::Next).await;
    // It has noted that the key is about to get the plan, and hears no more.
    proxy.lose_reply_after(1);
    let failed = slow.create(member(&key_id("ci"))).await;
    assert!(matches!(failed, Err(KeysError::Store(_))), "{failed:?}");
    assert!(matches!(delete(&direct).await, Err(KeysError::PlanInUse(_))));
    sleep(LEASE + Duration::from_millis(100)).await;
    delete(&direct).await.expect("no key has it, and none can get it any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_changes_from_the_same_version_one_is_made() {
    let builder = common::empty(shared().url());
    let process = connect(&builder).await;
    save(&process, 1, Effective::Next).await;
    let tries = (0..8).map(|number| {
        let process = process.clone();
        let update = PlanUpdate::new(plan_name(), plan(10 + number)).from_version(1);
        tokio::spawn(async move { process.save_plan(&workspace("home"), &update).await })
    });
    let mut saved = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            Ok(record) => {
                assert_eq!(record.version, 2);
                saved += 1;
            }
            Err(error) => assert!(
                matches!(error, KeysError::Conflict { expected: 1, actual: 2 }),
                "{error:?}"
            ),
        }
    }
    assert_eq!(saved, 1);
}

/// One write, and each key has the new limits with its next call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_change_with_one_write() {
    let process = connect(&common::empty(shared().url())).await;
    save(&process, 1, Effective::Next).await;
    let keys: Vec<_> = (0..KEYS).map(|number| key_id(&format!("key {number}"))).collect();
    for created in process.create_many(keys.iter().map(member).collect()).await.unwrap() {
        created.expect("a new key");
    }
    save(&process, 2, Effective::Now).await;
    for key in &keys {
        let decision = process.check_and_consume(key, None, &requests(1)).await.unwrap();
        assert!(decision.rules().all(|rule| rule.limit == 2 * MUCH), "{key}: {decision:?}");
        let record = process.read(key).await.unwrap().expect("a key");
        assert_eq!(record.config, member(key).config, "its own configuration is as it was");
        assert_eq!(record.version, 1);
    }
}

async fn connect(builder: &RedisStoreBuilder) -> RedisStore {
    builder.clone().connect().await.expect("the test server accepts it")
}

async fn save(process: &RedisStore, version: u64, effective: Effective) {
    let update = PlanUpdate { effective, ..PlanUpdate::new(plan_name(), plan(version)) };
    let record = process.save_plan(&workspace("home"), &update).await.expect("a plan");
    assert_eq!(record.version, version);
}

async fn delete(process: &RedisStore) -> Result<(), KeysError> {
    process.delete_plan(&workspace("home"), &plan_name()).await
}

fn plan(version: u64) -> Plan {
    let much = version * MUCH;
    let limits = Limits::builder().requests_per_day(much).tokens_per_day(much);
    Plan::default().with_global(limits.requests_per_month(much).build().unwrap())
}

fn plan_name() -> PlanName {
    "paid".parse().unwrap()
}

fn member(id: &KeyId) -> NewRecord {
    NewRecord {
        id: id.clone(),
        workspace: workspace("home"),
        kind: KeyKind::Member,
        config: named(id.as_str()).with_plan(plan_name()),
        thresholds: Thresholds::NONE,
        secret: None,
        bootstraps: false,
    }
}

fn group(id: &str) -> NewRecord {
    NewRecord { kind: KeyKind::Group, ..member(&key_id(id)) }
}

const CALLERS: usize = 8;
const ROUNDS: u64 = 6;
const KEYS: usize = 100;
/// More than all calls together.
const MUCH: u64 = 1_000_000_000;
const LEASE: Duration = Duration::from_millis(500);
/// A process learns of a changed plan within a second.
const LEARNT_WITHIN: Duration = Duration::from_secs(1);
