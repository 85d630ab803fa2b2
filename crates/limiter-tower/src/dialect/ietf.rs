//! draft-ietf-httpapi-ratelimit-headers-11, in structured fields (RFC 9651).

use std::fmt::Write;

use http::{HeaderMap, HeaderName};
use limiter::{Rule, RuleState, Scope, TokenType, Unit, Window};

use super::insert_text;
use crate::standing::{Standing, whole_seconds, window_seconds};

pub(super) fn write(standing: Standing<'_>, headers: &mut HeaderMap) {
    let mut policies = String::with_capacity(TYPICAL_BYTES);
    for state in standing.rules() {
        policy(&mut policies, &state);
    }
    if policies.is_empty() {
        return;
    }
    let mut limits = String::with_capacity(TYPICAL_BYTES);
    let binding = [standing.requests(), standing.tokens()].into_iter().flatten();
    for state in binding.filter(|state| !standing.is_denied() || standing.is_violated(state)) {
        let remaining = state.remaining.min(LARGEST_INTEGER);
        let seconds = whole_seconds(standing.resets_after(&state)).min(LARGEST_INTEGER);
        let (comma, name) = (separator(&limits), policy_name(state.rule));
        let _ = write!(limits, r#"{comma}"{name}";r={remaining};t={seconds}"#);
    }
    insert_text(headers, RATELIMIT_POLICY, policies);
    insert_text(headers, RATELIMIT, limits);
}

/// What the fields and problem bodies call a rule: `permin`, `perday`, `tokens-permin`, `tokens-perday`, and the same with
/// `asset-` before it.
#[must_use]
pub const fn policy_name(rule: Rule) -> &'static str {
    match (rule.scope, rule.unit, rule.window) {
        (Scope::Global, Unit::Requests, Window::Minute) => "permin",
        (Scope::Global, Unit::Requests, Window::Day) => "perday",
        (Scope::Global, Unit::Tokens, Window::Minute) => "tokens-permin",
        (Scope::Global, Unit::Tokens, Window::Day) => "tokens-perday",
        (Scope::Asset, Unit::Requests, Window::Minute) => "asset-permin",
        (Scope::Asset, Unit::Requests, Window::Day) => "asset-perday",
        (Scope::Asset, Unit::Tokens, Window::Minute) => "asset-tokens-permin",
        (Scope::Asset, Unit::Tokens, Window::Day) => "asset-tokens-perday",
        // A rule that this version does not know.
        _ => "other",
    }
}

fn policy(list: &mut String, state: &RuleState) {
    let (comma, name) = (separator(list), policy_name(state.rule));
    let quota = state.limit.min(LARGEST_INTEGER);
    let _ = write!(list, r#"{comma}"{name}";q={quota}"#);
    if state.rule.unit == Unit::Tokens {
        let unit = match state.token_type {
            TokenType::Input => "input-tokens",
            TokenType::Output => "output-tokens",
            _ => "tokens",
        };
        let _ = write!(list, r#";qu="{unit}""#);
    }
    let _ = write!(list, ";w={}", window_seconds(state));
}

const fn separator(list: &str) -> &'static str {
    if list.is_empty() { "" } else { ", " }
}

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The largest integer of a structured field has 15 digits, and our counts may have 16.
const LARGEST_INTEGER: u64 = 999_999_999_999_999;

/// Room for two limits, so that most lists are allocated once.
const TYPICAL_BYTES: usize = 64;
