//! A store that is no longer needed leaves nothing in Redis, and takes nothing that belongs to another.

use limiter_core::{
    AccessKey, Charge, KeyConfig, KeyKind, Limits, NewRecord, Store, StoredSecret, Thresholds,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{RedisCluster, RedisServer};

use crate::common;

#[tokio::test]
async fn nothing_is_left_and_nothing_else_is_gone() {
    let server = RedisServer::run();
    let prefixes = ["p", "p:k", "p:w", "p:", "p*", "[p]", "p\\", "pp", "?"];
    let mut stores = Vec::new();
    for prefix in prefixes {
        let store = RedisStore::builder(server.url()).key_prefix(prefix).connect().await.unwrap();
        fill(&store, 3).await;
        stores.push(store);
    }
    let keys = || server.text(&["DBSIZE"]).parse::<u64>().unwrap();
    let each = keys() / stores.len() as u64;
    // Enough keys that a search takes several steps.
    server.command(&["EVAL", "for i = 1, 2000 do redis.call('SET', 'q:k:{' .. i, '') end", "0"]);
    for (store, left) in stores.iter().zip((0..stores.len() as u64).rev()) {
        assert_eq!(store.delete_everything().await.unwrap(), each);
        assert_eq!(keys(), 2_000 + left * each);
        assert_eq!(store.read(&"0".parse().unwrap()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn nothing_is_left_on_a_cluster() {
    let cluster = RedisCluster::run();
    let store = common::empty(&cluster.url()).connect().await.unwrap();
    fill(&store, 100).await;
    assert!(store.delete_everything().await.unwrap() > 300);
    for node in cluster.nodes() {
        assert_eq!(node.text(&["DBSIZE"]), "0");
    }
}

/// Keys with access keys and counts.
async fn fill(store: &RedisStore, keys: usize) {
    for number in 0..keys {
        let name = number.to_string();
        let limits = Limits::builder().requests_per_day(2).build().unwrap();
        let access_key = AccessKey::new(format!("{number:04}-is-my-secret-{number:04}")).unwrap();
        let key = NewRecord {
            id: name.parse().unwrap(),
            workspace: "home".parse().unwrap(),
            kind: KeyKind::Member,
            config: KeyConfig::named(&name).unwrap().with_global(limits),
            thresholds: Thresholds::DEFAULT,
            secret: Some(StoredSecret::from(&access_key)),
            bootstraps: false,
        };
        let key = store.create(key).await.unwrap().id;
        let decision = store.check_and_consume(&key, None, &Charge::request()).await.unwrap();
        assert!(decision.is_allowed());
    }
}
