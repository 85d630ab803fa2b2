//! draft-ietf-httpapi-ratelimit-headers-11, in structured fields (RFC 9651).

use http::{HeaderMap, HeaderName};
use limiter::decision::RuleState;
use limiter::{Rule, Scope, TokenType, Unit, Window};

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
    for state in standing.by_urgency() {
        let remaining = state.remaining.min(LARGEST_INTEGER);
        push_name(&mut limits, policy_name(state.rule));
        push_parameter(&mut limits, ";r=", remaining);
        if let Some(wait) = standing.resets_after(&state) {
            push_parameter(&mut limits, ";t=", whole_seconds(wait).min(LARGEST_INTEGER));
        }
    }
    let [policy_name, limit_name] = NAMES;
    insert_text(headers, policy_name, policies);
    insert_text(headers, limit_name, limits);
}

/// The name of a rule in the fields and in problem bodies: `permin`, `perday`, `tokens-permin`, `tokens-perday`, and the
/// same with `asset-` before it.
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
    push_name(list, policy_name(state.rule));
    push_parameter(list, ";q=", state.limit.min(LARGEST_INTEGER));
    if state.rule.unit == Unit::Tokens {
        list.push_str(match state.token_type {
            TokenType::Input => r#";qu="input-tokens""#,
            TokenType::Output => r#";qu="output-tokens""#,
            _ => r#";qu="tokens""#,
        });
    }
    push_parameter(list, ";w=", window_seconds(state));
}

/// Begins the next item of a list. Every response has up to eight of them, so they are concatenated and not formatted.
fn push_name(list: &mut String, name: &str) {
    list.push_str(if list.is_empty() { "\"" } else { ", \"" });
    list.push_str(name);
    list.push('"');
}

fn push_parameter(list: &mut String, name: &str, number: u64) {
    list.push_str(name);
    list.push_str(itoa::Buffer::new().format(number));
}

pub(super) const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("ratelimit-policy"), HeaderName::from_static("ratelimit")];

/// The largest integer of a structured field has 15 digits, and our counts may have 16.
const LARGEST_INTEGER: u64 = 999_999_999_999_999;

/// Room for two limits, so that most lists are allocated once.
const TYPICAL_BYTES: usize = 64;
