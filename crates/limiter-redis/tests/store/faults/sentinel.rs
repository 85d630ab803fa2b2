//! A master that is replaced by Sentinels, under load.

use std::time::{Duration, Instant};

use limiter_core::KeyId;
use limiter_redis::RedisStore;
use limiter_test_servers::{RedisSentinel, until_async};

use super::load::{Load, counted, key_with_budget};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_master_is_killed_calls_go_to_the_new_one_and_none_is_charged_twice() {
    let (servers, store, key) = scene().await;
    let load = Load::start(&store, &key, 8);
    load.until_allowed(200).await;
    let began = Instant::now();
    let old = servers.kill_master();
    servers.wait_for_failover_from(old);
    let promoted = began.elapsed();
    load.until_allowed(200).await;
    let back = began.elapsed();
    println!("a new master after {promoted:.1?}, 200 more calls allowed after {back:.1?}");
    ended("a master killed", load, &store, &key).await;
}

/// For some ten seconds after a failover on demand, the old master still takes writes, all of which are lost. So the
/// Sentinels are asked again each second, and not only when the old master is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_on_demand_calls_go_to_the_new_master_while_the_old_one_still_answers() {
    let (servers, store, key) = scene().await;
    let load = Load::start(&store, &key, 8);
    load.until_allowed(200).await;
    let (old, new) = (servers.master(), servers.replica());
    servers.failover();
    let (named, at_old) = (Instant::now(), old.info("role"));
    let scripts = || new.info("cmdstat_evalsha").unwrap_or_default();
    let before = scripts();
    until_async("calls go to the new master", async || scripts() != before).await;
    let took = named.elapsed();
    println!(
        "all Sentinels name the new master; calls go there {took:.1?} later, the old one is {at_old:?}"
    );
    load.until_allowed(200).await;
    ended("SENTINEL FAILOVER", load, &store, &key).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

async fn scene() -> (RedisSentinel, RedisStore, KeyId) {
    let servers = RedisSentinel::run();
    let store = RedisStore::builder(servers.url()).command_deadline(DEADLINE);
    let store = store.connect().await.unwrap();
    let key = key_with_budget(&store, 10_000_000).await;
    // The key itself must not be what is lost.
    until_async("the replica has the key", async || {
        let offset = servers.master().info("master_repl_offset");
        servers.replica().info("slave_repl_offset") == offset
    })
    .await;
    (servers, store, key)
}

async fn ended(what: &str, load: Load, store: &RedisStore, key: &KeyId) {
    let tally = load.end().await;
    let counted = counted(store, key).await;
    tally.print(what, counted);
    println!("  {} lost", tally.allowed.saturating_sub(counted));
    tally.assert_nothing_charged_twice(counted);
    assert_eq!(tally.denied, 0);
    assert!(tally.slowest().1 <= DEADLINE + SLACK);
}

const DEADLINE: Duration = Duration::from_secs(1);
/// For a machine that is busy with electing.
const SLACK: Duration = Duration::from_secs(1);
