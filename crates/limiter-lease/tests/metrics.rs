//! The metrics show what the figures are.
#![cfg(feature = "metrics")]

use std::time::Duration;

use limiter_conformance::fixtures::{named, requests_per_day};
use limiter_core::{Charge, KeyId, KeyKind, NewRecord, Store, Thresholds};
use limiter_lease::LeasedStore;
use limiter_memory::MemoryStore;
use limiter_test_servers::Metrics;
use tokio::task::yield_now;

#[tokio::test]
async fn decisions_requests_of_leases_and_grants_are_counted() {
    // All tasks of this runtime are on this thread.
    let metrics = Metrics::record();
    let inner = MemoryStore::new();
    let key: KeyId = "busy".parse().expect("an id");
    let record = NewRecord {
        id: key.clone(),
        workspace: "home".parse().expect("a workspace"),
        kind: KeyKind::Member,
        config: named("busy").with_global(requests_per_day(2_000)),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    inner.create(record).expect("the key is new");
    let store = LeasedStore::new(inner);
    for _ in 0..3_000 {
        let decided = store.check_and_consume(&key, None, &Charge::request()).await;
        assert!(decided.is_ok(), "{decided:?}");
        yield_now().await;
    }
    assert!(store.flush(Duration::from_secs(1)).await.is_nothing());
    let (figures, text) = (store.figures(), metrics.text());
    for (series, figure) in [
        (r#"limiter_lease_decisions_total{decided="leased"}"#, figures.local),
        (r#"limiter_lease_decisions_total{decided="denied"}"#, figures.denied),
        (r#"limiter_lease_decisions_total{decided="direct"}"#, figures.direct),
        (r#"limiter_lease_requests_total{became="leased"}"#, figures.leased),
        (r#"limiter_lease_requests_total{became="returned"}"#, figures.returned),
        (r#"limiter_lease_requests_total{became="stranded"}"#, figures.stranded),
    ] {
        assert_eq!(metrics.value(series), figure, "{series} of {text}");
    }
    assert!(figures.local > 0 && figures.denied > 0 && figures.direct > 0, "{text}");
    let grants = ["granted", "refused"].map(|outcome| {
        metrics
            .value(&format!(r#"limiter_lease_grant_duration_seconds_count{{outcome="{outcome}"}}"#))
    });
    assert_eq!(grants.iter().sum::<u64>(), figures.asked, "{text}");
}
