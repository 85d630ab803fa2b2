//! draft-ietf-httpapi-ratelimit-headers-11, in structured fields (RFC 9651).

use http::{HeaderMap, HeaderName};
use limiter::decision::RuleState;
use limiter::{KeyId, Measure, Rule, Unit};

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
        push_name(&mut limits, policy_name(state.group.as_ref(), state.rule));
        push_parameter(&mut limits, ";r=", remaining);
        if let Some(wait) = standing.resets_after(&state) {
            push_parameter(&mut limits, ";t=", whole_seconds(wait).min(LARGEST_INTEGER));
        }
    }
    let [policy_name, limit_name] = NAMES;
    insert_text(headers, policy_name, policies);
    insert_text(headers, limit_name, limits);
}

/// The names of all policies, by the depth of the group, the scope, the window and the unit of their rules.
macro_rules! names {
    ($($level:literal)+) => { [$(names!(scopes $level "" "asset-" "other-")),+] };
    (scopes $level:literal $($scope:literal)+) => {
        [$(names!(windows $level $scope "permin" "perhour" "perday" "perweek" "permonth" "ever")),+]
    };
    (windows $level:literal $scope:literal $($window:literal)+) => {
        [$([
            concat!($level, $scope, $window),
            concat!($level, $scope, "tokens-", $window),
            concat!($level, $scope, "input-tokens-", $window),
            concat!($level, $scope, "output-tokens-", $window),
            concat!($level, $scope, "credits-", $window),
        ]),+]
    };
}

/// The names of all parallel limits, by the depth of the group and the scope.
macro_rules! parallel {
    ($($level:literal)+) => {
        [$([
            concat!($level, "parallel"),
            concat!($level, "asset-parallel"),
            concat!($level, "other-parallel"),
        ]),+]
    };
}

/// Returns the name of a rule in the fields and in problem bodies: `permin`, `perday`, `tokens-permin`,
/// `output-tokens-permonth`, `credits-ever`, `parallel` and so on, with `asset-` or `other-` before it.
///
/// A rule of a group has its place in the path of the key before that: `group1-permin` is one of the outermost group,
/// `group2-asset-perday` one of the group beneath. So the names of all rules that a call meets differ, and all are short ASCII,
/// whatever the groups are called.
#[must_use]
pub fn policy_name(group: Option<&KeyId>, rule: Rule) -> &'static str {
    /// A key lies beneath all of its groups.
    const MOST_GROUPS: usize = KeyId::MAX_SEGMENTS - 1;
    const NAMES: [[[[&str; 5]; 6]; 3]; 1 + MOST_GROUPS] = names!("" "group1-" "group2-" "group3-");
    const PARALLEL: [[&str; 3]; 1 + MOST_GROUPS] = parallel!("" "group1-" "group2-" "group3-");
    let level = group.map_or(0, KeyId::depth).min(MOST_GROUPS);
    match rule.measure {
        Measure::Amount(window, unit) => {
            NAMES[level][rule.scope as usize][window as usize][unit as usize]
        }
        Measure::Parallel => PARALLEL[level][rule.scope as usize],
    }
}

fn policy(list: &mut String, state: &RuleState) {
    push_name(list, policy_name(state.group.as_ref(), state.rule));
    push_parameter(list, ";q=", state.limit.min(LARGEST_INTEGER));
    list.push_str(match state.rule.unit() {
        None | Some(Unit::Requests | Unit::Credits) => "",
        Some(Unit::Tokens) => r#";qu="tokens""#,
        Some(Unit::InputTokens) => r#";qu="input-tokens""#,
        Some(Unit::OutputTokens) => r#";qu="output-tokens""#,
    });
    if let Some(seconds) = window_seconds(state) {
        push_parameter(list, ";w=", seconds);
    }
}

/// Begins the next item of a list. Every response has a few of them, so they are concatenated and not formatted.
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
