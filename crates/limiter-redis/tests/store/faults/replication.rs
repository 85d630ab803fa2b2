//! The failures that asynchronous replication allows, made to happen on purpose.

use limiter_test_servers::{RedisServer, until_async};

use limiter_core::{KeyConfig, Search, Store};

use super::load::{call, connect, counted, create, key_with_budget};
use crate::update::update;

/// Redis answers before its replica has a write. Charges that the replica never got are not counted after it has taken over,
/// and so that much is admitted again: the limit and the lost charges, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charges_that_never_reached_the_new_master_are_admitted_again_and_no_more() {
    let master = RedisServer::run();
    let replica = RedisServer::replica_of(&master);
    replica.wait_for_master();
    let store = connect(master.url()).await;
    let key = key_with_budget(&store, 500).await;
    let mut allowed = 0;
    for _ in 0..100 {
        allowed += u64::from(call(&store, &key).await.unwrap().is_allowed());
    }
    until_async("the replica has all of it", async || {
        replica.info("master_repl_offset") == master.info("master_repl_offset")
    })
    .await;
    // It takes over, while the old master still answers.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    for _ in 0..57 {
        allowed += u64::from(call(&store, &key).await.unwrap().is_allowed());
    }
    master.kill();

    let store = connect(replica.url()).await;
    let lost = allowed - counted(&store, &key).await;
    while call(&store, &key).await.unwrap().is_allowed() {
        allowed += 1;
    }
    println!("a replica took over: {allowed} allowed of 500, {lost} lost");
    assert_eq!((lost, allowed), (57, 557));
}

/// On a cluster the index of a workspace lies in another slot than its keys, and one of the two may lose its last writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_index_has_lost_still_decides_and_is_listed_again_after_it_is_renamed() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10).await;
    server.command(&["DEL", "limiter:wn:{home}", "limiter:wt:{home}", "limiter:wa:{home}"]);
    assert!(call(&store, &key).await.unwrap().is_allowed());
    let workspace = "home".parse().unwrap();
    let listed = async || store.list(&workspace, &Search::all()).await.unwrap().keys.len();
    let lost = listed().await;
    create(&store, "second", KeyConfig::named("busy").unwrap()).await;
    let config = KeyConfig::named("renamed").unwrap();
    store.update(&workspace, &update(&key, 1, &config)).await.unwrap();
    println!(
        "index lost: {lost} keys listed, {} after another got the name and this a new one",
        listed().await
    );
    assert_eq!((lost, listed().await), (0, 2));
}
