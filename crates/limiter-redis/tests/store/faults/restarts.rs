//! Scripts flushed, and servers that are restarted, with what they keep on disk and without.

use limiter_test_servers::{RedisServer, until_async};

use super::load::{Load, Tally, call, connect, counted, key_with_budget};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_flushed_under_load_fail_no_call() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    let load = Load::start(&store, &key, 16);
    for _ in 0..50 {
        load.until_allowed(50).await;
        server.command(&["SCRIPT", "FLUSH"]);
    }
    load.until_allowed(50).await;
    let tally = load.end().await;
    tally.assert_counted("50 × SCRIPT FLUSH", counted(&store, &key).await);
    assert_eq!((tally.unavailable, tally.unknown), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_order_loses_nothing_with_aof() {
    let server = RedisServer::with(&["appendonly yes"]);
    restarted("3 × SIGTERM and start", &server, RedisServer::stop_gracefully).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_if_aof_is_synced_always() {
    let server = RedisServer::durable();
    restarted("3 × kill -9, appendfsync always", &server, RedisServer::kill).await;
}

/// Redis writes before it answers, also if it syncs only each second; except that while a sync is slow, it holds writes
/// back for up to two seconds. What it held back then is what a death of the process loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_at_most_what_aof_had_yet_to_write_if_it_is_synced_each_second() {
    let server = RedisServer::with(&["appendonly yes"]);
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    let load = Load::start(&store, &key, 16);
    let mut written = 0;
    for _ in 0..3 {
        load.until_allowed(200).await;
        let allowed = load.now().allowed;
        until_async("all is written", async || {
            server.info("aof_buffer_length").as_deref() == Some("0")
        })
        .await;
        written = allowed;
        server.restart();
    }
    load.until_allowed(200).await;
    let tally = load.end().await;
    let counted = counted(&store, &key).await;
    tally.print("3 × kill -9, appendfsync everysec", counted);
    println!("  {} lost", tally.allowed.saturating_sub(counted));
    tally.assert_nothing_charged_twice(counted);
    assert!(counted >= written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_without_aof_admits_again_what_came_after_the_snapshot_and_no_more() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 1_000).await;
    for _ in 0..300 {
        assert!(call(&store, &key).await.unwrap().is_allowed());
    }
    server.command(&["SAVE"]);
    for _ in 0..200 {
        assert!(call(&store, &key).await.unwrap().is_allowed());
    }
    server.restart();
    assert_eq!(counted(&store, &key).await, 300);
    let mut again = Tally::default();
    while again.denied == 0 {
        again.add(&call(&store, &key).await, std::time::Duration::ZERO);
    }
    println!("kill -9 without AOF: 500 + {} allowed of 1000, 200 lost", again.allowed);
    assert_eq!(500 + again.allowed, 1_000 + 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_never_saved_are_unknown_after_kill_9() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 1_000).await;
    assert!(call(&store, &key).await.unwrap().is_allowed());
    server.restart();
    let mut tally = Tally::default();
    until_async("there is an answer", async || {
        let answer = call(&store, &key).await;
        tally.add(&answer, std::time::Duration::ZERO);
        answer.is_ok()
    })
    .await;
    tally.print("kill -9 without any snapshot", 0);
    assert_eq!((tally.allowed, tally.denied), (0, 1));
}

/// Three times under load: what was acknowledged is counted, and nothing twice.
async fn restarted(what: &str, server: &RedisServer, end: impl Fn(&RedisServer)) {
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    let load = Load::start(&store, &key, 16);
    for _ in 0..3 {
        load.until_allowed(200).await;
        end(server);
        server.start();
    }
    load.until_allowed(200).await;
    let tally = load.end().await;
    tally.assert_counted(what, counted(&store, &key).await);
}
