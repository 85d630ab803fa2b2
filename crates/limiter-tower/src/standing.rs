//! The state of a call's rules, as headers show it.

use std::time::Duration;

use limiter::decision::{RateLimited, RuleState, Violation};
use limiter::{Allowed, Decision, Denied, Timestamp, TokenType, Unit, Window};

use crate::retry::Retry;

/// A decision as headers see it: the rules that the call met, and the moment from which waits are counted.
///
/// It borrows from an [`Allowed`], a [`Denied`] or a [`Decision`], and costs nothing to make. A denial for another
/// reason than a rule has no rules, so that it gets no headers of any dialect.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Either the call is allowed, or it is denied.
    allowed: Option<&'a Allowed>,
    denied: Option<&'a Denied>,
    decided_at: Timestamp,
}

impl<'a> Standing<'a> {
    /// Each rule, in the order of [`Rule`](limiter::Rule): global before asset, minute before day, requests before tokens.
    pub fn rules(self) -> impl Iterator<Item = RuleState> + 'a {
        let allowed = self.allowed.into_iter().flat_map(Allowed::rules);
        allowed.chain(self.limited().into_iter().flat_map(RateLimited::rules))
    }

    /// Returns the limit of requests that a client reaches first, if any: the one with the fewest requests left. Of
    /// equal ones it is the smaller limit, then the first of [`rules`](Self::rules).
    ///
    /// Of a denied call it is the violated limit of requests to wait for, if one is violated.
    #[must_use]
    pub fn requests(self) -> Option<RuleState> {
        self.met_first(|unit, _| unit == Unit::Requests)
    }

    /// Returns the limit of tokens of any type that a client reaches first, if any: as for
    /// [`requests`](Self::requests).
    #[must_use]
    pub fn tokens(self) -> Option<RuleState> {
        self.met_first(|unit, _| unit == Unit::Tokens)
    }

    /// Returns the limit of tokens of this type that a client reaches first, if any: as for
    /// [`requests`](Self::requests).
    #[must_use]
    pub fn tokens_of(self, token_type: TokenType) -> Option<RuleState> {
        self.met_first(|unit, counted| unit == Unit::Tokens && counted == token_type)
    }

    /// Returns the limit that binds, if any: the one with the smallest share left, which compares requests and tokens.
    /// Of a denied call it is the violated limit to wait for.
    #[must_use]
    pub fn overall(self) -> Option<RuleState> {
        self.to_wait_for(|_, _| true).or_else(|| {
            self.rules().reduce(
                |tightest, other| {
                    if other.is_tighter_than(&tightest) { other } else { tightest }
                },
            )
        })
    }

    /// Returns each rule once: first the [overall](Self::overall) one, then the others that are violated, then the
    /// rest.
    pub(crate) fn by_urgency(self) -> impl Iterator<Item = RuleState> + 'a {
        let first = self.overall();
        let others = move |violated: bool| {
            self.rules().filter(move |state| {
                first.is_some_and(|first| first.rule != state.rule)
                    && self.is_violated(state) == violated
            })
        };
        first.into_iter().chain(others(true)).chain(others(false))
    }

    /// Whether the rule denied the call.
    #[must_use]
    pub fn is_violated(self, state: &RuleState) -> bool {
        self.violations().any(|violation| violation.rule == state.rule)
    }

    /// Returns the end of a rule's window; `None` if a denied call exceeds the limit itself, so that waiting does not help.
    #[must_use]
    pub fn resets_at(self, state: &RuleState) -> Option<Timestamp> {
        let is_exceeded =
            |violation: Violation| violation.rule == state.rule && violation.exceeds_limit();
        (!self.violations().any(is_exceeded)).then_some(state.resets_at)
    }

    /// Returns the time from the decision to [`resets_at`](Self::resets_at).
    #[must_use]
    pub fn resets_after(self, state: &RuleState) -> Option<Duration> {
        Some(self.resets_at(state)?.since(self.decided_at))
    }

    /// Returns the retry advice of a denied call: the whole seconds until the same call would pass, rounded up, at
    /// least one. [`Retry::Never`] if it never fits, or no limit denied it. `None` for an allowed call.
    #[must_use]
    pub fn retry(self) -> Option<Retry> {
        let wait = self.denied?.retry_at().map(|retry_at| retry_at.since(self.decided_at));
        Some(wait.map_or(Retry::Never, Retry::after))
    }

    fn limited(self) -> Option<&'a RateLimited> {
        self.denied?.rate_limited()
    }

    fn violations(self) -> impl Iterator<Item = Violation> + 'a {
        self.limited().into_iter().flat_map(RateLimited::violations)
    }

    fn met_first(self, counts: impl Fn(Unit, TokenType) -> bool) -> Option<RuleState> {
        self.to_wait_for(&counts).or_else(|| {
            let counted = self.rules().filter(|state| counts(state.rule.unit, state.token_type));
            // The first one of equal keys.
            counted.min_by_key(|state| (state.remaining, state.limit))
        })
    }

    /// Returns the violated limit to wait for, among those that count this.
    fn to_wait_for(self, counts: impl Fn(Unit, TokenType) -> bool) -> Option<RuleState> {
        self.rules()
            .filter(|state| counts(state.rule.unit, state.token_type) && self.is_violated(state))
            .reduce(|first, other| if other.binds_before(&first) { other } else { first })
    }
}

impl<'a> From<&'a Allowed> for Standing<'a> {
    fn from(allowed: &'a Allowed) -> Self {
        Self { allowed: Some(allowed), denied: None, decided_at: allowed.decided_at() }
    }
}

impl<'a> From<&'a Denied> for Standing<'a> {
    fn from(denied: &'a Denied) -> Self {
        let decided_at = denied.decided_at().unwrap_or_default();
        Self { allowed: None, denied: Some(denied), decided_at }
    }
}

impl<'a> From<&'a Decision> for Standing<'a> {
    fn from(decision: &'a Decision) -> Self {
        match decision {
            Decision::Allowed(allowed) => allowed.into(),
            Decision::Denied(denied) => denied.into(),
        }
    }
}

/// Returns the length of a rule's window in seconds.
pub(crate) fn window_seconds(state: &RuleState) -> u64 {
    let start = Window::start(state.rule.window, state.resets_at);
    whole_seconds(state.resets_at.since(start))
}

/// Rounds up: a call a moment too early is denied again.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}
