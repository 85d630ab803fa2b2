//! Metrics during an outage of the store.

use std::num::NonZeroU32;

use limiter_core::Store;
use limiter_policy::{BreakerState, FailurePolicy, Share};
use limiter_test_servers::{Metrics, until_async};

use super::world::{World, one_credit};

fn breakers(metrics: &Metrics) -> [u64; 3] {
    ["closed", "open", "half_open"]
        .map(|state| metrics.value(&format!(r#"limiter_breaker_state{{state="{state}"}}"#)))
}

/// Everything runs on the thread of the test, where its recorder is installed.
#[tokio::test]
async fn an_outage_is_seen_in_the_state_of_the_breaker_and_in_the_answers_without_the_store() {
    for (policy, name) in [
        (FailurePolicy::FailOpen, "fail_open"),
        (FailurePolicy::LocalShare { share: Share::one_in(NonZeroU32::MIN) }, "local_share"),
    ] {
        let metrics = Metrics::record();
        let answers =
            format!(r#"limiter_degraded_answers_total{{policy="{name}",outcome="allowed"}}"#);
        let world = World::new(policy).await;
        assert_eq!(breakers(&metrics), [1, 0, 0]);
        let _counted = world.store.check_and_consume(&world.key, None, &one_credit()).await;
        world.until_known().await;
        assert_eq!(metrics.value(&answers), 0);

        world.server.kill();
        let mut degraded = 0;
        while world.store.breaker() == BreakerState::Closed {
            let decision = world.store.check_and_consume(&world.key, None, &one_credit()).await;
            degraded += u64::from(decision.unwrap().is_degraded());
        }
        assert_eq!(metrics.value(&answers), degraded);
        let [closed, open, half_open] = breakers(&metrics);
        assert_eq!((closed, open + half_open), (0, 1));
        let probes = r#"limiter_breaker_changes_total{to="half_open"}"#;
        until_async("a probe is counted", async || metrics.value(probes) > 0).await;
        let back = r#"limiter_breaker_changes_total{to="closed"}"#;
        assert_eq!(metrics.value(back), 0);

        world.server.start();
        world.until_closed().await;
        assert_eq!((breakers(&metrics), metrics.value(back)), ([1, 0, 0], 1));
        drop(world);
        until_async("the breaker is gone", async || breakers(&metrics) == [0, 0, 0]).await;
    }
}

#[tokio::test]
async fn breakers_of_several_stores_are_added_up() {
    let metrics = Metrics::record();
    let (here, there) =
        (World::new(FailurePolicy::FailClosed).await, World::new(FailurePolicy::FailClosed).await);
    assert_eq!(breakers(&metrics), [2, 0, 0]);
    there.server.kill();
    while there.store.breaker() == BreakerState::Closed {
        let _failed = there.store.check_and_consume(&there.key, None, &one_credit()).await;
    }
    let [closed, open, half_open] = breakers(&metrics);
    assert_eq!((closed, open + half_open, here.store.breaker()), (1, 1, BreakerState::Closed));
    assert!(!metrics.text().contains("limiter_degraded_answers_total"), "it answers nothing");
}
