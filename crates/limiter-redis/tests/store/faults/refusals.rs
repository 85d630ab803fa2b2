//! Servers that refuse calls: each refusal proves that nothing was charged, and the store's error says so.

use std::sync::Arc;

use limiter_core::StoreError;
use limiter_test_servers::{RedisServer, until_async};

use super::load::{Load, call, connect, counted, key_with_budget, patient};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_master_allows_nothing() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    let load = Load::start(&store, &key, 16);
    for _ in 0..3 {
        load.until_allowed(100).await;
        // A replica of a server that does not answer: it keeps its data.
        server.command(&["REPLICAOF", "127.0.0.1", "1"]);
        load.until_failed_for("is a replica", 1).await;
        let allowed = load.now().allowed;
        load.until_failed_for("is a replica", 20).await;
        assert_eq!(load.now().allowed, allowed);
        server.command(&["REPLICAOF", "NO", "ONE"]);
    }
    load.until_allowed(100).await;
    let tally = load.end().await;
    tally.assert_counted("3 × demoted", counted(&store, &key).await);
    assert_eq!(tally.unknown, 0);
    assert!(tally.failed_for("is read-only") >= 3);
}

/// A denial changes nothing, so that before 7.0 a demoted master still answers one; see GUARANTEES.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_master_denies_nothing_either_from_7_0_on() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 1).await;
    assert!(call(&store, &key).await.unwrap().is_allowed());
    assert!(!call(&store, &key).await.unwrap().is_allowed());
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let answer = call(&store, &key).await;
    println!("{}: a denial of a demoted master: {answer:?}", server.version());
    if server.version().starts_with("6.") {
        assert!(!answer.unwrap().is_allowed());
    } else {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_that_evicts_nothing_charges_nothing() {
    let server = RedisServer::with(&["maxmemory-policy noeviction"]);
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    let load = Load::start(&store, &key, 16);
    for _ in 0..3 {
        load.until_allowed(100).await;
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        load.until_failed_for("out of memory", 1).await;
        let allowed = load.now().allowed;
        load.until_failed_for("out of memory", 20).await;
        // The answers to one batch arrive one after the other.
        assert!(load.now().allowed <= allowed + 16);
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    }
    load.until_allowed(100).await;
    let tally = load.end().await;
    tally.assert_counted("3 × out of memory", counted(&store, &key).await);
    assert_eq!(tally.unknown, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_still_loads_allows_nothing_and_has_all_counts_afterwards() {
    // It looks at its clients after every two megabytes: some ten times a second.
    let slow = ["rdbcompression no", "key-load-delay 10000"];
    let server = Arc::new(RedisServer::with(&slow));
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 1_000).await;
    for _ in 0..100 {
        assert!(call(&store, &key).await.unwrap().is_allowed());
    }
    let fill = "for i = 1, 200 do redis.call('SET', 'filler' .. i, string.rep('x', 200000)) end";
    server.command(&["EVAL", fill, "0"]);
    server.command(&["SAVE"]);
    server.kill();
    let load = Load::start(&store, &key, 4);
    let starting = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || server.start()
    });
    load.until_failed_for("still loading", 10).await;
    assert_eq!(load.now().allowed, 0);
    starting.await.unwrap();
    load.until_allowed(100).await;
    let tally = load.end().await;
    tally.assert_counted("a restart that loads for two seconds", counted(&store, &key).await - 100);
    assert!(tally.failed_for("still loading") >= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_with_the_script_of_another_charges_nothing() {
    let server = Arc::new(RedisServer::with(&["lua-time-limit 50"]));
    let direct = connect(server.url()).await;
    let key = key_with_budget(&direct, 10_000_000).await;
    let deadline = std::time::Duration::from_millis(500);
    let store = patient(server.url()).command_deadline(deadline).connect().await.unwrap();
    let load = Load::start(&store, &key, 8);
    load.until_allowed(100).await;
    let endless = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || drop(server.try_command(&["EVAL", "while true do end", "0"]))
    });
    load.until_failed_for("busy with a script", 20).await;
    until_async("the script is killed", async || server.try_command(&["SCRIPT", "KILL"]).is_ok())
        .await;
    endless.await.unwrap();
    load.until_allowed(100).await;
    let tally = load.end().await;
    tally.assert_counted("BUSY", counted(&direct, &key).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_may_wait_are_refused_at_once() {
    let server = RedisServer::run();
    let store = patient(server.url()).max_waiting(8).connect().await.unwrap();
    let key = key_with_budget(&store, 1_000).await;
    assert!(call(&store, &key).await.unwrap().is_allowed());
    server.freeze();
    let load = Load::start(&store, &key, 64);
    load.until_failed_for("too many calls are queued for Redis", 100).await;
    assert_eq!(load.now().allowed, 0);
    server.thaw();
    load.until_allowed(20).await;
    let tally = load.end().await;
    tally.assert_counted("more than may wait", counted(&store, &key).await - 1);
    assert_eq!(tally.unavailable, tally.failed_for("too many calls are queued for Redis"));
}
