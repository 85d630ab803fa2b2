//! Metrics, on a real server.

use limiter_conformance::servers::RedisServer;
use limiter_core::{Charge, DecisionStore};
use limiter_redis::RedisStore;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::task::JoinSet;

#[tokio::test]
async fn the_calls_of_each_batch_are_counted() {
    let recorder = PrometheusBuilder::new().set_buckets(&[8.0]).unwrap().build_recorder();
    // All tasks of this runtime are on this thread.
    let _recording = metrics::set_default_local_recorder(&recorder);
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
    let text = recorder.handle().render();
    let figure = |name: &str| -> usize {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
    };
    assert_eq!(figure("limiter_redis_batch_calls_sum"), CALLS);
    let batches = figure("limiter_redis_batch_calls_count");
    assert!((CALLS.div_ceil(8)..CALLS).contains(&batches), "some go together: {text}");
    let of_eight_at_most = figure(r#"limiter_redis_batch_calls_bucket{le="8"}"#);
    assert_eq!(of_eight_at_most, batches, "{text}");
}

const CALLS: usize = 100;
