//! The wire of the aiXplain SDK, so that the unmodified client of `pip install aixplain` works against this server.
//!
//! Here alone 0 means no limit, as that client has it.

pub(crate) mod amount;
pub(crate) mod expiry;
pub(crate) mod keys;
pub(crate) mod models;
pub(crate) mod record;
pub(crate) mod runs;
pub(crate) mod usage;

use axum::http::StatusCode;
use limiter::{DenialReason, Denied, Rule, Unit, Window};

use crate::refusal::Refusal;

/// A denied run: 497 for a limit per minute, 429 for one per day and for the budget.
pub(crate) fn refusal(denied: &Denied) -> Refusal {
    if let Some(refusal) = Refusal::of_caller(denied) {
        return refusal;
    }
    let (status, code, message) = match denied.reason() {
        DenialReason::RateLimited(limited) => {
            let rule = limited.binding().map(|violation| violation.rule);
            let explained = denied.to_string();
            let explained = explained.strip_prefix("rate limited: ").unwrap_or(&explained);
            let message = format!("Rate limit exceeded: {}. {explained}", rule.map_or("", name));
            let per_day = rule.is_some_and(|rule| rule.window == Window::Day);
            let status = if per_day {
                Ok(StatusCode::TOO_MANY_REQUESTS)
            } else {
                StatusCode::from_u16(PER_MINUTE)
            };
            (status.unwrap_or(StatusCode::TOO_MANY_REQUESTS), "rate_limit", message)
        }
        _ => (StatusCode::TOO_MANY_REQUESTS, "budget", format!("Budget exceeded: {denied}")),
    };
    Refusal { retry_after: denied.retry_after(), ..Refusal::new(status, code, message) }
}

/// What the SDK calls a limit.
const fn name(rule: Rule) -> &'static str {
    match (rule.unit, rule.window) {
        (Unit::Tokens, Window::Minute) => "tpm",
        (Unit::Tokens, _) => "tpd",
        (_, Window::Minute) => "rpm",
        (_, _) => "rpd",
    }
}

/// The status of this wire for a limit per minute: the SDK never repeats such a request by itself.
const PER_MINUTE: u16 = 497;
