//! The metrics of the server, in addition to those of the limiter. No label comes from a client: routes, statuses and
//! outcomes are few and known.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::interval;

/// Renders the metrics of this process in the text format of Prometheus.
pub(crate) fn render() -> String {
    recorder().map_or_else(String::new, PrometheusHandle::render)
}

/// Installs the recorder, before the limiter is created; a repeated call does nothing.
pub(crate) fn install() {
    recorder();
}

/// Adds up the measurements regularly: each takes memory until it is added up or read.
pub(crate) async fn keep_up() {
    let mut ticks = interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        if let Some(recorded) = recorder() {
            recorded.run_upkeep();
        }
    }
}

pub(crate) fn answered(route: &'static str, status: u16) {
    counter!(REQUESTS, "route" => route, "status" => status_label(status)).increment(1);
}

/// Counts keys of a listing whose stored data is corrupt.
pub(crate) fn damaged_keys(listed: usize) {
    counter!(DAMAGED_KEYS).increment(listed as u64);
}

pub(crate) fn unknown_key() {
    counter!(UNKNOWN_KEYS).increment(1);
}

pub(crate) fn connection_opened() {
    gauge!(CONNECTIONS).increment(1);
}

pub(crate) fn connection_closed() {
    gauge!(CONNECTIONS).decrement(1);
}

pub(crate) fn state_saved(succeeded: bool) {
    counter!(SAVES, "outcome" => if succeeded { "saved" } else { "failed" }).increment(1);
}

/// `outcome`: delivered, failed (it is tried again), refused, or lost.
pub(crate) fn webhook_event(outcome: &'static str) {
    counter!(EVENTS, "outcome" => outcome).increment(1);
}

fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        // Only an empty list of bounds is refused.
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_calls".to_owned()), &CALLS)
            })
            .ok()?
            .build_recorder();
        let handle = recorder.handle();
        // Another recorder that is already installed keeps the metrics, and none are rendered here.
        metrics::set_global_recorder(recorder).ok()?;
        describe_counter!(REQUESTS, "Requests answered, by route and status");
        describe_counter!(UNKNOWN_KEYS, "Requests whose access key is missing or not known");
        describe_counter!(DAMAGED_KEYS, "Keys in listings whose stored data cannot be read");
        describe_counter!(SAVES, "Saves of the state file, by outcome");
        describe_counter!(EVENTS, "Events for the webhook, by outcome");
        describe_gauge!(CONNECTIONS, "Open connections");
        Some(handle)
    };
    HANDLE.get_or_init(install).as_ref()
}

/// Returns a static text for each status that this server answers: a label must not allocate on every request.
fn status_label(status: u16) -> &'static str {
    let label = STATUSES.into_iter().find(|label| label.parse() == Ok(status));
    label.unwrap_or("other")
}

const STATUSES: [&str; 18] = [
    "200", "201", "503", "429", "204", "400", "401", "403", "404", "405", "408", "409", "413",
    "422", "497", "500", "502", "504",
];
const REQUESTS: &str = "limiter_requests_total";
const UNKNOWN_KEYS: &str = "limiter_unknown_keys_total";
const DAMAGED_KEYS: &str = "limiter_damaged_keys_listed_total";
const CONNECTIONS: &str = "limiter_connections";
const EVENTS: &str = "limiter_webhook_events_total";
const SAVES: &str = "limiter_state_saves_total";

/// The interval of the exporter's own listener.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// From a Redis on the same machine to one that is out of reach.
const SECONDS: [f64; 13] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Calls of a batch, of which there are 32 at most.
const CALLS: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
