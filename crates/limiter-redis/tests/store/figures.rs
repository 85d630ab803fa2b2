//! Metrics, on a real server.

use limiter_core::{Charge, Store};
use limiter_redis::RedisStore;
use limiter_test_servers::{Metrics, RedisServer};
use tokio::task::JoinSet;

#[tokio::test]
async fn the_calls_of_each_batch_are_counted() {
    // All tasks of this runtime are on this thread.
    let metrics = Metrics::record_in_buckets(&[8.0]);
    let server = RedisServer::run();
    let store = RedisStore::builder(server.url()).max_batch(8).connect().await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let store = store.clone();
        calls.spawn(async move {
            store.check_and_consume(&"nobody".parse().unwrap(), None, &Charge::request()).await
        });
    }
    for decided in calls.join_all().await {
        assert!(!decided.unwrap().is_allowed());
    }
    assert_eq!(metrics.value("limiter_redis_batch_calls_sum"), CALLS);
    let batches = metrics.value("limiter_redis_batch_calls_count");
    let text = metrics.text();
    assert!((CALLS.div_ceil(8)..CALLS).contains(&batches), "some go together: {text}");
    let of_eight_at_most = metrics.value(r#"limiter_redis_batch_calls_bucket{le="8"}"#);
    assert_eq!(of_eight_at_most, batches, "{text}");
}

const CALLS: u64 = 100;
