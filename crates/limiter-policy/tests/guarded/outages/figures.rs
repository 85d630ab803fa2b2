//! What is counted while the store is away.

use std::num::NonZeroU32;

use limiter_core::DecisionStore;
use limiter_policy::{BreakerState, FailurePolicy, Share};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::world::{World, one_credit, until};

/// The value of a time series.
fn figure(recorded: &PrometheusHandle, series: &str) -> u64 {
    let text = recorded.render();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
}

fn breakers(recorded: &PrometheusHandle) -> [u64; 3] {
    ["closed", "open", "half_open"]
        .map(|state| figure(recorded, &format!(r#"limiter_breaker_state{{state="{state}"}}"#)))
}

/// Everything runs on the thread of the test, as far as its recorder reaches.
#[tokio::test]
async fn an_outage_is_seen_in_the_state_of_the_breaker_and_in_the_answers_without_the_store() {
    for (policy, name) in [
        (FailurePolicy::FailOpen, "fail_open"),
        (FailurePolicy::LocalShare { share: Share::one_in(NonZeroU32::MIN) }, "local_share"),
    ] {
        let recorder = PrometheusBuilder::new().build_recorder();
        let recorded = recorder.handle();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let answers =
            format!(r#"limiter_degraded_answers_total{{policy="{name}",outcome="allowed"}}"#);
        let world = World::new(policy).await;
        assert_eq!(breakers(&recorded), [1, 0, 0]);
        let _counted = world.store.check_and_consume(&world.key, None, &one_credit()).await;
        world.until_known().await;
        assert_eq!(figure(&recorded, &answers), 0);

        world.server.kill();
        let mut degraded = 0;
        while world.store.breaker() == BreakerState::Closed {
            let decision = world.store.check_and_consume(&world.key, None, &one_credit()).await;
            degraded += u64::from(decision.unwrap().is_degraded());
        }
        assert_eq!(figure(&recorded, &answers), degraded);
        let [closed, open, half_open] = breakers(&recorded);
        assert_eq!((closed, open + half_open), (0, 1));
        let probes = r#"limiter_breaker_changes_total{to="half_open"}"#;
        until("a probe is counted", || figure(&recorded, probes) > 0).await;
        let back = r#"limiter_breaker_changes_total{to="closed"}"#;
        assert_eq!(figure(&recorded, back), 0);

        world.server.start();
        world.until_closed().await;
        assert_eq!((breakers(&recorded), figure(&recorded, back)), ([1, 0, 0], 1));
        drop(world);
        until("the breaker is gone", || breakers(&recorded) == [0, 0, 0]).await;
    }
}

#[tokio::test]
async fn breakers_of_several_stores_are_added_up() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let recorded = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (here, there) =
        (World::new(FailurePolicy::FailClosed).await, World::new(FailurePolicy::FailClosed).await);
    assert_eq!(breakers(&recorded), [2, 0, 0]);
    there.server.kill();
    while there.store.breaker() == BreakerState::Closed {
        let _failed = there.store.check_and_consume(&there.key, None, &one_credit()).await;
    }
    let [closed, open, half_open] = breakers(&recorded);
    assert_eq!((closed, open + half_open, here.store.breaker()), (1, 1, BreakerState::Closed));
    assert!(!recorded.render().contains("limiter_degraded_answers_total"), "it answers nothing");
}
