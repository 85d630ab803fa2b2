//! A cluster whose slots move and whose masters change, under load.

use std::time::{Duration, Instant};

use limiter_core::{KeyConfig, KeyId, KeyKind};
use limiter_redis::RedisStore;
use limiter_test_servers::{RedisCluster, RedisServer, until_async};

use super::load::{Load, connect, counted, create, create_a, key_with_budget, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_load_fails_no_call() {
    let cluster = RedisCluster::run();
    let store = connect(cluster.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    move_under_load(&cluster, &store, &key).await;
}

/// All levels of a key lie in one slot, six keys that a call meets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_of_three_levels_that_moves_under_load_fails_no_call() {
    let cluster = RedisCluster::run();
    let store = connect(cluster.url()).await;
    for group in ["busy", "busy/team"] {
        let config = KeyConfig::named(group).unwrap().with_budget(whole(10_000_000));
        create_a(KeyKind::Group, &store, group, config).await;
    }
    let config = KeyConfig::named("ci").unwrap().with_budget(whole(10_000_000));
    let key = create(&store, "busy/team/ci", config).await;
    move_under_load(&cluster, &store, &key).await;
    let [key, team, company] = ["busy/team/ci", "busy/team", "busy"].map(|id| id.parse().unwrap());
    let of_key = counted(&store, &key).await;
    assert_eq!([counted(&store, &team).await, counted(&store, &company).await], [of_key; 2]);
}

/// Moves the slot of the key twice around all nodes, while it is called.
async fn move_under_load(cluster: &RedisCluster, store: &RedisStore, key: &KeyId) {
    let slot = cluster.slot_of("limiter:k:{busy}");
    let load = Load::start(store, key, 8);
    let redirects = || {
        let of = |name| cluster.nodes().iter().map(|node| errors(node, name)).sum::<u64>();
        (of("errorstat_ASK"), of("errorstat_MOVED"))
    };
    let before = redirects();
    for _ in 0..2 {
        for to in cluster.nodes() {
            if cluster.node_of_slot(slot).port() == to.port() {
                continue;
            }
            load.until_allowed(50).await;
            cluster.begin_migration(slot, to);
            load.until_allowed(50).await;
            cluster.migrate_keys(slot, to);
            load.until_allowed(50).await;
            cluster.finish_migration(slot, to);
        }
    }
    load.until_allowed(50).await;
    let tally = load.end().await;
    tally.assert_counted("a slot moved", counted(store, key).await);
    let (asks, moves) = (redirects().0 - before.0, redirects().1 - before.1);
    println!("  {asks} × ASK, {moves} × MOVED");
    assert_eq!((tally.unavailable, tally.unknown), (0, 0));
    assert!(asks > 0 && moves > 0);
}

/// By CLUSTER FAILOVER, in which the old master waits until its replica has everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_in_order_loses_no_charge() {
    let cluster = RedisCluster::with_replicas(&[]);
    let store = connect(cluster.url()).await;
    let key = key_with_budget(&store, 10_000_000).await;
    let slot = cluster.slot_of("limiter:k:{busy}");
    let load = Load::start(&store, &key, 8);
    load.until_allowed(200).await;
    let old = cluster.node_of_slot(slot).port();
    until_async("the replica takes over", async || {
        let replica = replica_of(&cluster, old);
        let asked = replica.try_command(&["CLUSTER", "FAILOVER"]);
        if let Err(error) = asked {
            println!("  {error}");
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            if cluster.node_of_slot(slot).port() != old {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    })
    .await;
    load.until_allowed(200).await;
    let tally = load.end().await;
    tally.assert_counted("CLUSTER FAILOVER", counted(&store, &key).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_master_of_the_cluster_is_killed_its_replica_decides_and_nothing_is_charged_twice()
{
    let cluster = RedisCluster::with_replicas(&[]);
    let store = RedisStore::builder(cluster.url()).command_deadline(DEADLINE);
    let store = store.connect().await.unwrap();
    let key = key_with_budget(&store, 10_000_000).await;
    let master = cluster.node_of_slot(cluster.slot_of("limiter:k:{busy}"));
    let replica = replica_of(&cluster, master.port());
    until_async("the replica has the key", async || {
        replica.info("slave_repl_offset") == master.info("master_repl_offset")
    })
    .await;
    let load = Load::start(&store, &key, 8);
    load.until_allowed(200).await;
    let began = Instant::now();
    master.kill();
    load.until_failed_for("", 1).await;
    load.until_allowed(200).await;
    println!("200 more calls allowed after {:.1?}", began.elapsed());
    let tally = load.end().await;
    let counted = counted(&store, &key).await;
    tally.print("a master of the cluster killed", counted);
    println!("  {} lost", tally.allowed.saturating_sub(counted));
    tally.assert_nothing_charged_twice(counted);
    assert_eq!(tally.denied, 0);
    assert!(tally.slowest().1 <= DEADLINE + SLACK);
}

fn replica_of(cluster: &RedisCluster, master: u16) -> &RedisServer {
    let follows = |node: &&RedisServer| {
        node.info("role").as_deref() == Some("slave")
            && node.info("master_port") == Some(master.to_string())
    };
    cluster.nodes().iter().find(follows).expect("each master has a replica")
}

/// `count=12`, or nothing if there was none.
fn errors(node: &RedisServer, name: &str) -> u64 {
    let count = node.info(name).and_then(|count| count.strip_prefix("count=")?.parse().ok());
    count.unwrap_or(0)
}

const DEADLINE: Duration = Duration::from_secs(1);
/// For a machine that is busy with electing.
const SLACK: Duration = Duration::from_secs(1);
