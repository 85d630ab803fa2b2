//! What is counted for Prometheus. No label comes from outside: routes, statuses and outcomes are few and known.

use std::sync::OnceLock;

use limiter::{Decision, DenialReason, Denied};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Everything that was counted in this process, as Prometheus reads it.
pub(crate) fn render() -> String {
    recorder().map_or_else(String::new, PrometheusHandle::render)
}

/// Starts counting; more than once does no harm.
pub(crate) fn install() {
    recorder();
}

pub(crate) fn answered(route: &'static str, status: u16) {
    counter!(REQUESTS, "route" => route, "status" => status_label(status)).increment(1);
}

pub(crate) fn decided(decision: &Decision) {
    counter!(DECISIONS, "outcome" => outcome(decision.denied())).increment(1);
}

pub(crate) fn denied(denied: &Denied) {
    counter!(DECISIONS, "outcome" => outcome(Some(denied))).increment(1);
}

pub(crate) fn allowed() {
    counter!(DECISIONS, "outcome" => outcome(None)).increment(1);
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

fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder is left alone: then it has the figures, and we render none.
        metrics::set_global_recorder(recorder).ok()?;
        describe_counter!(REQUESTS, "Requests answered, by route and status");
        describe_counter!(DECISIONS, "Decisions of the engine, by outcome");
        describe_counter!(UNKNOWN_KEYS, "Requests whose access key is missing or not known");
        describe_counter!(SAVES, "Saves of the state file, by outcome");
        describe_gauge!(CONNECTIONS, "Open connections");
        Some(handle)
    };
    HANDLE.get_or_init(install).as_ref()
}

fn outcome(denied: Option<&Denied>) -> &'static str {
    match denied.map(Denied::reason) {
        None => "allowed",
        Some(DenialReason::KeyUnknown) => "key_unknown",
        Some(DenialReason::KeyExpired { .. }) => "key_expired",
        Some(DenialReason::AdminKey) => "admin_key",
        Some(DenialReason::BudgetExhausted { .. }) => "budget_exhausted",
        Some(DenialReason::RateLimited(_)) => "rate_limited",
        Some(_) => "denied",
    }
}

/// A static text for each status that this server answers: a label must not allocate on every request.
const fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        201 => "201",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        422 => "422",
        429 => "429",
        497 => "497",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "other",
    }
}

const REQUESTS: &str = "limiter_requests_total";
const DECISIONS: &str = "limiter_decisions_total";
const UNKNOWN_KEYS: &str = "limiter_unknown_keys_total";
const CONNECTIONS: &str = "limiter_connections";
const SAVES: &str = "limiter_state_saves_total";
