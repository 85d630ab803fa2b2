//! One key: its scopes, its budget, and the decision.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use crate::replay::{
    Answer, Call, Create, Credits, Crossed, Denial, KeyKind, Limits, Remaining, Rule,
    Scope as RuleScope, Unit, Update, Usage, Window as WindowKind,
};

use super::fired::Fired;
use super::remembered::Remembered;
use super::reservation::Reservation;
use super::scope::{RuleState, Scope, admits};
use super::window::{WindowId, add};

/// A living key: the counted scopes, and those whose last counts were not dropped yet.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: KeyKind,
    /// The global scope under `None`, and those of assets.
    scopes: BTreeMap<Option<String>, Scope>,
    budget: Option<u64>,
    spent: u64,
    /// The thresholds of the current budget that have fired; a budget has no window.
    fired: Fired,
    expires_at: Option<u64>,
    /// The number of countings of scopes that have begun.
    countings: u64,
    pub(super) open: Remembered<Reservation>,
    pub(super) ended: Remembered<Reservation>,
    /// The ids of checks. "Ids of checks and of reservations are separate."
    pub(super) checks: Remembered<()>,
}

impl Key {
    pub(super) fn created(create: &Create, now: u64) -> Self {
        let assets = create.assets.iter().map(|(name, limits)| (Some(name.clone()), *limits));
        let scopes = iter::once((None, create.global)).chain(assets).zip(1..);
        let scopes = scopes.filter_map(|((name, limits), counting)| {
            Some((name, Scope::created(&limits?, now, counting)?))
        });
        Self {
            kind: create.kind,
            scopes: scopes.collect(),
            budget: create.budget,
            spent: 0,
            fired: Fired::default(),
            expires_at: create.expires_at,
            countings: 1 + create.assets.len() as u64,
            open: Remembered::default(),
            ended: Remembered::default(),
            checks: Remembered::default(),
        }
    }

    pub(super) fn update(&mut self, update: &Update, now: u64) {
        if let Some(limits) = update.global.changed() {
            self.change(None, limits, now);
        }
        // The whole set is replaced. An asset whose limits stay the same is not touched.
        if let Some(assets) = update.assets.clone().changed() {
            let assets = assets.unwrap_or_default();
            let names = self.scopes.keys().flatten().chain(assets.keys());
            for name in names.cloned().collect::<BTreeSet<_>>() {
                let limits = assets.get(&name).copied().flatten();
                self.change(Some(name), limits, now);
            }
        }
        let before = self.budget;
        self.budget = update.budget.changed().unwrap_or(self.budget);
        // A new budget fires its thresholds again, except those that are already passed.
        if self.budget != before {
            self.fired =
                self.budget.map_or_else(Fired::default, |it| Fired::passed(it, self.spent));
        }
        self.expires_at = update.expires_at.changed().unwrap_or(self.expires_at);
    }

    /// `check_and_consume`: "either all allow and all are charged, or nothing changes".
    pub(super) fn check(&mut self, call: &Call, now: u64) -> Answer {
        let answer = self.decide(call, now);
        // "A denial, whatever its reason, charges nothing but does store this [the rebase] for the scopes it meets, or
        // a full key would stay frozen until the far date".
        let admitted = matches!(answer, Answer::Allowed { .. });
        *self = if admitted { self.charged(call, now).0 } else { self.rebased(call, now) };
        answer
    }

    /// "A check that consumes nothing (`peek`) answers the same decision and changes nothing."
    pub(super) fn decide(&self, call: &Call, now: u64) -> Answer {
        match self.denial(call, now) {
            None => {
                let (charged, crossed) = self.charged(call, now);
                let remaining = charged.remaining(call, now);
                Answer::Allowed { replayed: false, remaining, crossed }
            }
            Some(denial) => Answer::Denied(denial),
        }
    }

    /// "Answers `Allowed`, flagged `replayed`, with the state of now": nothing is written.
    pub(super) fn replayed(&self, call: &Call, now: u64) -> Answer {
        let remaining = self.remaining(call, now);
        Answer::Allowed { replayed: true, remaining, crossed: Vec::new() }
    }

    /// Returns the windows that a call was charged to, right after the charge.
    pub(super) fn admitting_windows(&self, call: &Call) -> Vec<WindowId> {
        met_names(call).filter_map(|name| self.scopes.get(&name)).flat_map(Scope::windows).collect()
    }

    /// Corrects a call from `estimate` to `actual`: returns the new key and the thresholds that fire. It writes "both
    /// windows of each counted scope it meets, also when it adds zero"; "a scope whose limits are gone is skipped".
    pub(super) fn corrected(
        &self,
        admitting: &[WindowId],
        estimate: &Call,
        actual: &Call,
        now: u64,
    ) -> (Self, Vec<Crossed>) {
        let corrected = self.with_met_scopes(estimate, |scope| {
            let mut scope = scope.as_of(now)?;
            scope.correct(admitting, estimate, actual);
            Some(scope)
        });
        // "Credits are held and settled the same way, without windows."
        let corrected = corrected.with_spent(if actual.credits >= estimate.credits {
            add(self.spent, actual.credits - estimate.credits)
        } else {
            self.spent.saturating_sub(estimate.credits - actual.credits)
        });
        corrected.firing(estimate)
    }

    /// "Reading usage never changes it, and shows a window that has passed as empty."
    pub(super) fn usage(&self, now: u64) -> Usage {
        let global = self.scopes.get(&None).and_then(|scope| scope.as_of(now));
        let mut rows = vec![Scope::row(global.as_ref(), "global")];
        for (name, scope) in &self.scopes {
            if let (Some(name), Some(scope)) = (name, scope.as_of(now)) {
                rows.push(Scope::row(Some(&scope), name));
            }
        }
        Usage { rows, credits: Credits { spent: self.spent, budget: self.budget } }
    }

    /// Returns the reason for a denial: "the first that holds, in the order unknown, expired, admin, budget, rate".
    fn denial(&self, call: &Call, now: u64) -> Option<Denial> {
        self.denial_but_for_rules(call, now).or_else(|| {
            let violated = self.violated(call, now);
            Some(Denial::RateLimited {
                binding: binding(&violated)?,
                violated: violated.into_iter().map(|state| state.rule).collect(),
                // "The windows as they stand" are those after the denial, also for a peek: it answers the same
                // decision.
                retry_at: self.rebased(call, now).retry_at(call, now),
            })
        })
    }

    fn denial_but_for_rules(&self, call: &Call, now: u64) -> Option<Denial> {
        // "A key is expired from `expires_at` on".
        if self.expires_at.is_some_and(|expires_at| now >= expires_at) {
            return Some(Denial::ExpiredKey);
        }
        if self.kind == KeyKind::Admin {
            return Some(Denial::AdminKey);
        }
        // "The budget follows the same three lines, with credits".
        if self
            .budget
            .is_some_and(|budget| !admits(budget, self.spent, call.credits, call.requests))
        {
            return Some(Denial::BudgetExhausted);
        }
        None
    }

    fn violated(&self, call: &Call, now: u64) -> Vec<RuleState> {
        self.rules(call, now).into_iter().filter(|state| !state.admits(call)).collect()
    }

    /// "The first instant at which this same charge would be admitted if nothing else were consumed. Only ends of the
    /// windows as they stand can be that, minute ends and day ends, each tried in full (by then a pending limit may be
    /// in force, or the key may have expired). If none admits it, `retry_at` is none".
    fn retry_at(&self, call: &Call, now: u64) -> Option<u64> {
        let met = self.met(call, now);
        let ends: BTreeSet<u64> = met.flat_map(|(_, scope)| scope.ends()).collect();
        ends.into_iter().find(|&end| {
            self.denial_but_for_rules(call, end).is_none() && self.violated(call, end).is_empty()
        })
    }

    /// Returns the rules that the call meets, in the order in which they are listed: global before asset.
    fn rules(&self, call: &Call, now: u64) -> Vec<RuleState> {
        self.met(call, now).flat_map(|(rule_scope, scope)| scope.rules(rule_scope)).collect()
    }

    /// Returns the counted scopes that the call meets, as written now. "A call of no asset meets the global rules"; so
    /// does one of "an asset without limits".
    fn met(&self, call: &Call, now: u64) -> impl Iterator<Item = (RuleScope, Scope)> {
        met_names(call).filter_map(move |name| {
            let scope = if name.is_some() { RuleScope::Asset } else { RuleScope::Global };
            Some((scope, self.scopes.get(&name)?.as_of(now)?))
        })
    }

    fn remaining(&self, call: &Call, now: u64) -> Remaining {
        let rules = self.rules(call, now);
        Remaining {
            rules: rules.iter().map(|state| (state.rule, state.remaining())).collect(),
            budget: self.budget.map(|budget| budget.saturating_sub(self.spent)),
        }
    }

    /// Returns the key after the call was admitted, and the thresholds that fire.
    fn charged(&self, call: &Call, now: u64) -> (Self, Vec<Crossed>) {
        self.with_met_scopes(call, |scope| {
            let mut scope = scope.as_of(now)?;
            scope.admit(call);
            Some(scope)
        })
        .with_spent(add(self.spent, call.credits))
        .firing(call)
    }

    /// Fires the thresholds that the counts have reached, first of the rules that the call meets, then of the budget.
    /// "Detected inside the atomic step": each charge checks them.
    fn firing(mut self, call: &Call) -> (Self, Vec<Crossed>) {
        let mut crossed = Vec::new();
        for name in met_names(call) {
            if let Some(scope) = self.scopes.get_mut(&name) {
                crossed.extend(scope.fire(name.as_ref()));
            }
        }
        if let Some(limit) = self.budget {
            let used = self.spent;
            for percent in self.fired.fire(limit, used) {
                let (rule, asset, resets_at) = (None, None, None);
                crossed.push(Crossed { rule, asset, percent, limit, used, resets_at });
            }
        }
        (self, crossed)
    }

    /// Returns the key after the call was denied.
    fn rebased(&self, call: &Call, now: u64) -> Self {
        self.with_met_scopes(call, |scope| Some(scope.rebased(now)))
    }

    /// Returns the key with the scopes that the call meets replaced or dropped.
    fn with_met_scopes(&self, call: &Call, replaced: impl Fn(&Scope) -> Option<Scope>) -> Self {
        let mut key = self.clone();
        for name in met_names(call) {
            if let Some(scope) = self.scopes.get(&name) {
                key.put(name, replaced(scope));
            }
        }
        key
    }

    /// "Credits spent are counted also without a budget."
    fn with_spent(self, spent: u64) -> Self {
        Self { spent, ..self }
    }

    fn change(&mut self, name: Option<String>, limits: Option<Limits>, now: u64) {
        self.countings += 1;
        let (current, limits) = (self.scopes.get(&name), limits.unwrap_or_default());
        let changed = Scope::changed(current, &limits, now, self.countings);
        self.put(name, changed);
    }

    fn put(&mut self, name: Option<String>, scope: Option<Scope>) {
        match scope {
            Some(scope) => self.scopes.insert(name, scope),
            None => self.scopes.remove(&name),
        };
    }
}

/// Returns the names of the scopes that a call meets if they are counted.
fn met_names(call: &Call) -> impl Iterator<Item = Option<String>> {
    iter::once(None).chain(call.asset.clone().map(Some))
}

/// "The binding rule is the violated one that resets last; ties go to the smaller limit, then global before asset,
/// tokens before requests, minute before day."
fn binding(violated: &[RuleState]) -> Option<Rule> {
    let first_by_name = |rule: Rule| {
        (
            rule.scope == RuleScope::Asset,
            rule.unit == Unit::Requests,
            rule.window == WindowKind::Day,
        )
    };
    let first = violated
        .iter()
        .min_by_key(|state| (Reverse(state.resets_at), state.limit, first_by_name(state.rule)));
    first.map(|state| state.rule)
}
