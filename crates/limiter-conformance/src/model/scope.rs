//! One counted scope: all calls of a key, or its calls of one asset.

use crate::replay::{
    Call, Crossed, Limits, Row, Rule, Scope as RuleScope, TokenType, Unit, Window as WindowKind,
};

use super::window::{Window, WindowId, WindowLimits, tokens};

/// Its minute and its day. "While it is counted, all four of its (window, unit) pairs are, also those without a limit".
#[derive(Clone, Debug)]
pub(super) struct Scope([Window; 2]);

/// One limit in force, and its usage.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuleState {
    pub(super) rule: Rule,
    pub(super) limit: u64,
    pub(super) used: u64,
    pub(super) resets_at: u64,
    token_type: TokenType,
}

impl Scope {
    /// "A new key's limits are in force at once." "Limits without a single number are no limits."
    pub(super) fn created(limits: &Limits, now: u64, counting: u64) -> Option<Self> {
        let opened = |kind| Window::opened(kind, now, WindowLimits::of(limits, kind), counting);
        Self(KINDS.map(opened)).if_counted()
    }

    /// Returns the scope as written now. "A scope is counted from the operation that gives it limits until it has
    /// none, in force or pending; then its counts are dropped by the next operation that writes them."
    pub(super) fn as_of(&self, now: u64) -> Option<Self> {
        Self(self.each(|window| window.as_of(now))).if_counted()
    }

    /// Returns the scope after a denial, which writes no counts and so drops none.
    pub(super) fn rebased(&self, now: u64) -> Self {
        Self(self.each(|window| window.rebased(now)))
    }

    /// Changes the limits of a scope, counted or not: "setting, raising, lowering, clearing, adding or removing an
    /// asset, changing the token type".
    ///
    /// "A scope that was dropped and gains limits again never finds its earlier windows": a new counting gets a new
    /// number.
    pub(super) fn changed(
        current: Option<&Self>,
        limits: &Limits,
        now: u64,
        counting: u64,
    ) -> Option<Self> {
        let limits = KINDS.map(|kind| WindowLimits::of(limits, kind));
        let configured = current.map(|scope| scope.each(Window::configured));
        // "Saving what is already configured changes nothing": not even the windows move.
        if configured.unwrap_or([WindowLimits::NONE; 2]) == limits {
            return current.cloned();
        }
        // The change writes both windows. An uncounted scope is counted from here on, with no limit in force: also
        // the first limits of a scope of an old key take effect at the next window.
        let opened = |kind| Window::opened(kind, now, WindowLimits::NONE, counting);
        let mut scope =
            current.and_then(|scope| scope.as_of(now)).unwrap_or_else(|| Self(KINDS.map(opened)));
        for (window, limits) in scope.0.iter_mut().zip(limits) {
            window.change(limits);
        }
        scope.if_counted()
    }

    /// "Both windows of each counted scope it meets, also when it adds zero".
    pub(super) fn admit(&mut self, call: &Call) {
        self.0.iter_mut().for_each(|window| window.admit(call));
    }

    pub(super) fn correct(&mut self, admitting: &[WindowId], estimate: &Call, actual: &Call) {
        self.0.iter_mut().for_each(|window| window.correct(admitting, estimate, actual));
    }

    pub(super) fn windows(&self) -> [WindowId; 2] {
        self.each(Window::id)
    }

    /// Returns the rules in the order in which they are listed: minute before day, requests before tokens.
    pub(super) fn rules(&self, scope: RuleScope) -> Vec<RuleState> {
        let mut rules = Vec::new();
        for (kind, window) in KINDS.into_iter().zip(&self.0) {
            for unit in [Unit::Requests, Unit::Tokens] {
                // A count without a limit "never denies".
                if let Some(limit) = window.in_force().limit(unit) {
                    rules.push(RuleState {
                        rule: Rule { scope, window: kind, unit },
                        limit,
                        used: window.used(unit),
                        resets_at: window.resets_at(),
                        token_type: window.in_force().token_type,
                    });
                }
            }
        }
        rules
    }

    /// Fires the reached thresholds of the rules, in the order in which the rules are listed. `None` is the global
    /// scope.
    pub(super) fn fire(&mut self, asset: Option<&String>) -> Vec<Crossed> {
        let scope = if asset.is_some() { RuleScope::Asset } else { RuleScope::Global };
        let mut crossed = Vec::new();
        for RuleState { rule, limit, used, resets_at, .. } in self.rules(scope) {
            let window = &mut self.0[usize::from(rule.window == WindowKind::Day)];
            for percent in window.fired(rule.unit).fire(limit, used) {
                let (rule, asset, resets_at) = (Some(rule), asset.cloned(), Some(resets_at));
                crossed.push(Crossed { rule, asset, percent, limit, used, resets_at });
            }
        }
        crossed
    }

    /// Returns the ends of the stored windows.
    pub(super) fn ends(&self) -> [u64; 2] {
        self.each(Window::resets_at)
    }

    /// Returns the row of the usage; "an unconfigured scope says none, not zero".
    pub(super) fn row(scope: Option<&Self>, name: &str) -> Row {
        let [minute, day] = scope.map(|scope| scope.each(Window::usage)).unwrap_or_default();
        Row { scope: name.to_owned(), minute, day }
    }

    fn each<T>(&self, window: impl Fn(&Window) -> T) -> [T; 2] {
        self.0.each_ref().map(window)
    }

    fn if_counted(self) -> Option<Self> {
        self.0.iter().any(Window::has_limits).then_some(self)
    }
}

impl RuleState {
    pub(super) fn admits(&self, call: &Call) -> bool {
        let tokens = tokens(self.token_type, call.input, call.output);
        let added = if self.rule.unit == Unit::Requests { call.requests } else { tokens };
        admits(self.limit, self.used, added, call.requests)
    }

    /// "Remaining = max(0, limit − used)".
    pub(super) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// Returns whether a partly used limit admits a call that adds to it: the three lines that rules and the budget
/// follow.
pub(super) fn admits(limit: u64, used: u64, added: u64, requests: u64) -> bool {
    if added > 0 {
        // "n > 0: U + n ≤ L"
        used + added <= limit
    } else if requests >= 1 {
        // "n = 0 and the charge makes a request (requests ≥ 1): U < L. A new call needs at least one unit left in every
        // rule, also when its tokens are not known yet"
        used < limit
    } else {
        // "n = 0 and requests = 0 (a top-up of a running call): always"
        true
    }
}

const KINDS: [WindowKind; 2] = [WindowKind::Minute, WindowKind::Day];
