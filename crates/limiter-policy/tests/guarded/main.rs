//! A guarded store in and after outages, in one binary: linking many takes longer than running them.

#[cfg(feature = "metrics")]
mod debts;
mod no_runtime;
mod outages;
mod reservations;

use limiter_core::Usage;

/// The amount used of the first rule of this name: a key of these tests lists one asset at most.
fn used(usage: &Usage, rule: &str) -> u64 {
    let mut rules = usage.scopes.iter().flat_map(|scope| &scope.rules);
    rules.find(|state| state.rule.name() == rule).expect("the rule is in force").used
}
