//! Rules with what is used of each, changes that are pending, and thresholds that are reached.

use limiter::config::PendingLimits;
use limiter::decision::RuleState;
use limiter::usage::ScopeUsage;
use limiter::{ScopeId, Thresholds, Usage};
use maud::{Markup, html};

use super::page::time;

/// Every rule of a level, by scope, with its pending changes.
pub(super) fn all(usage: &Usage, thresholds: Thresholds) -> Markup {
    html! {
        @for scope in usage.scopes.iter().filter(|scope| has_any(scope)) {
            h3 { (of_scope(&scope.scope)) }
            @if scope.rules.is_empty() { p class="faint" { "No limits are in force." } }
            ul class="rules" { @for state in &scope.rules { (rule(state, None, thresholds)) } }
            (pending(&scope.pending))
        }
        @if !usage.scopes.iter().any(has_any) { p class="faint" { "No limits." } }
    }
}

/// The fullest rules of a level in a list of many, and whether changes are pending.
pub(super) fn fullest(usage: &Usage, thresholds: Thresholds) -> Markup {
    let states =
        usage.scopes.iter().flat_map(|scope| scope.rules.iter().map(|state| (&scope.scope, state)));
    let mut states: Vec<_> = states.collect();
    states.sort_by_key(|(_, state)| std::cmp::Reverse(percent(state)));
    let more = states.len().saturating_sub(MOST_IN_A_LIST);
    let pending = usage.scopes.iter().flat_map(|scope| &scope.pending);
    let next = pending.map(|pending| pending.effective_at).min();
    html! {
        @if states.is_empty() { span class="faint" { "No limits" } }
        ul class="rules" {
            @for (scope, state) in states.into_iter().take(MOST_IN_A_LIST) { (rule(state, Some(scope), thresholds)) }
        }
        @if more > 0 { span class="faint" { (more) " more rules. " } }
        @if let Some(at) = next { span class="badge" { "Changed limits from " (time(at)) } }
    }
}

fn has_any(scope: &ScopeUsage) -> bool {
    !scope.rules.is_empty() || !scope.pending.is_empty()
}

fn rule(state: &RuleState, scope: Option<&ScopeId>, thresholds: Thresholds) -> Markup {
    let percent = percent(state);
    let reached = thresholds.percents().filter(|threshold| u64::from(*threshold) <= percent).max();
    let color = match percent {
        100.. => "badge full",
        _ => "badge near",
    };
    html! {
        li {
            label {
                meter min="0" max="100" low="80" high="99" optimum="0" value=(percent.min(100)) {}
                (state)
                @if let Some(scope) = scope.filter(|scope| scope.asset.is_some()) { " for " (of_scope(scope)) }
            }
            @if let Some(reached) = reached { span class=(color) { (reached) " % reached" } " " }
            @if let Some(at) = state.resets_at { span class="faint" { "until " (time(at)) } }
        }
    }
}

fn pending(changes: &[PendingLimits]) -> Markup {
    html! {
        @for change in changes {
            p { span class="badge" { "Pending" } " From " (time(change.effective_at)) " on: " (change.limits) "." }
        }
    }
}

pub(super) fn of_scope(scope: &ScopeId) -> String {
    match (&scope.asset, scope.scope) {
        (Some(asset), _) => asset.to_string(),
        (None, limiter::Scope::Global) => "All calls".to_owned(),
        (None, _) => "All other models".to_owned(),
    }
}

/// Returns the share that is used, in percent, rounded down.
fn percent(state: &RuleState) -> u64 {
    let share = u128::from(state.used) * 100;
    match u128::from(state.limit) {
        0 => 100,
        limit => u64::try_from(share / limit).unwrap_or(u64::MAX),
    }
}

/// So that a page of keys with many rules stays small.
const MOST_IN_A_LIST: usize = 6;
