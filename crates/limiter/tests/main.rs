//! `llm-limiter` as its users see it, in one binary: linking many takes longer than running them. `spans.rs` is another,
//! since it counts warnings that a process logs once in ten seconds.

mod answers;
mod changes;
mod custom_store;
mod figures;
mod groups;
mod guarded;
mod handles;
mod management;
mod parts;
mod plans;
mod price;
mod price_table;
mod quickstart;
mod redis;
mod requests;
mod reserved;
mod thresholds;
mod usage_events;

use limiter::{Charge, Usage};

/// The amount used of the first rule of this name: most keys of these tests list one asset at most.
fn used(usage: &Usage, rule: &str) -> u64 {
    let mut rules = usage.scopes.iter().flat_map(|scope| &scope.rules);
    rules.find(|state| state.rule.name() == rule).expect("the rule is in force").used
}

/// What a key has counted today, over all calls.
fn today(usage: &Usage) -> Charge {
    usage.scopes[0].account
}

fn total_tokens(charge: &Charge) -> u64 {
    charge.amount(limiter::Unit::Tokens)
}
