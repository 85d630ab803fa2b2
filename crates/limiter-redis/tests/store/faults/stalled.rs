//! A server that is stopped with SIGSTOP: connections stay open, and nothing answers.

use std::time::Duration;

use limiter_test_servers::{RedisServer, until_async};

use super::load::{Load, connect, counted, key_with_budget, patient};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_keeps_no_call_waiting_past_its_deadline() {
    let server = RedisServer::run();
    let direct = connect(server.url()).await;
    let key = key_with_budget(&direct, 10_000_000).await;
    let store = patient(server.url()).command_deadline(DEADLINE).connect().await.unwrap();
    let before = Load::start(&store, &key, 32);
    before.until_allowed(200).await;
    server.freeze();
    // From here on calls begin while the server is stopped, or nearly so.
    let before = before.end().await;
    let load = Load::start(&store, &key, 32);
    until_async("five calls of each task are answered", async || load.now().calls() >= 160).await;
    let frozen = load.now().clone();
    server.thaw();
    load.until_allowed(200).await;
    let tally = load.end().await;

    before.print("as it is stopped", 0);
    frozen.print("while it is stopped", 0);
    let counted = counted(&direct, &key).await;
    tally.print("until it goes on", counted);
    let (most, slowest) = frozen.slowest();
    assert!(most <= Duration::from_millis(550), "{most:?}");
    assert!(slowest <= Duration::from_millis(1_500), "{slowest:?}");
    assert_eq!((frozen.allowed, frozen.denied), (0, 0));
    assert!(before.allowed + tally.allowed <= counted);
    assert!(counted <= before.allowed + before.unknown + tally.allowed + tally.unknown);
}

const DEADLINE: Duration = Duration::from_millis(500);
