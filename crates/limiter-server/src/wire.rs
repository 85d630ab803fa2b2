//! The wire of the aiXplain SDK, so that the unmodified client of `pip install aixplain` works against this server.
//!
//! Here alone 0 means no limit, as that client has it. It has no groups: the id of one is not found, and the list has none.

pub(crate) mod amount;
pub(crate) mod expiry;
pub(crate) mod keys;
pub(crate) mod models;
pub(crate) mod record;
pub(crate) mod runs;
mod tokens;
pub(crate) mod usage;

use std::sync::LazyLock;

use axum::http::StatusCode;
use limiter::{DenialReason, Denied, Measure, Rule, Unit, Window};
use limiter_tower::{Standing, StatusMap};

use crate::refusal::Refusal;

/// A denied run. Its only rate limit headers are `Retry-After` and `x-should-retry`: the service that this wire comes
/// from sends none, and its client reads none.
pub(crate) fn refusal(denied: &Denied) -> Refusal {
    if let Some(refusal) = Refusal::of_caller(denied) {
        return refusal;
    }
    let (code, message) = match denied.reason() {
        DenialReason::RateLimited(exceeded) => {
            let rule = exceeded.binding().map(|violation| violation.rule);
            ("rate_limit", format!("Rate limit exceeded: {}. {denied}", rule.map_or("", name)))
        }
        // The status is 403 or 503, for which the SDK needs another message.
        DenialReason::AssetDenied { .. } | DenialReason::TooManyKeys { .. } => {
            (denied.reason().as_str(), denied.to_string())
        }
        _ => ("budget", format!("Budget exceeded: {denied}")),
    };
    let status = STATUSES.of_denied(denied);
    Refusal::new(status, code, message).with_retry(Standing::from(denied).retry())
}

/// Returns the SDK's name of a limit, or the engine's name of one that the SDK does not have.
const fn name(rule: Rule) -> &'static str {
    use Unit::{InputTokens, OutputTokens, Requests, Tokens};

    match rule.measure {
        Measure::Amount(Window::Minute, Requests) => "rpm",
        Measure::Amount(Window::Day, Requests) => "rpd",
        Measure::Amount(Window::Minute, Tokens | InputTokens | OutputTokens) => "tpm",
        Measure::Amount(Window::Day, Tokens | InputTokens | OutputTokens) => "tpd",
        Measure::Amount(..) | Measure::Parallel => rule.name(),
    }
}

/// 497 for a limit per minute and a parallel limit, which the SDK never repeats by itself; 429 for any other limit and for the budget.
static STATUSES: LazyLock<StatusMap> = LazyLock::new(|| {
    let per_minute = StatusCode::from_u16(497).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
    StatusMap::new()
        .with_minute_limits(per_minute)
        .with_budget_exhausted(StatusCode::TOO_MANY_REQUESTS)
});
