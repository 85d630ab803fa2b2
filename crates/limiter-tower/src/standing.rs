//! The state of a call's rules, as headers show it.

use std::time::Duration;

use limiter::decision::{LimitExceeded, RuleState, Violation};
use limiter::{Allowed, Decision, Denied, Measure, TimeZone, Timestamp, Unit, Window};

use crate::retry::Retry;

/// A decision as headers show it: the rules of requests and tokens that the call met in windows that end, and the moment
/// from which waits are counted. Credits, limits for ever and parallel limits have no headers.
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
    /// Each rule that headers show: those of the outermost group first and of the key itself last, and of each level in the
    /// order of [`Rule`](limiter::Rule): global before asset, minute before day, requests before tokens. A caller of a key that
    /// nobody registered sees no figures of groups.
    pub fn rules(self) -> impl Iterator<Item = RuleState> + 'a {
        let allowed = self.allowed.into_iter().flat_map(Allowed::shown_rules);
        let denied = self.exceeded().into_iter().flat_map(LimitExceeded::shown_rules);
        let rules = allowed.chain(denied);
        rules.filter(|state| match state.rule.measure {
            Measure::Amount(window, unit) => window.ends() && unit != Unit::Credits,
            Measure::Parallel => false,
        })
    }

    /// Returns the limit of requests that a client reaches first, if any: the one with the fewest requests left. Of
    /// equal ones it is the smaller limit, then the first of [`rules`](Self::rules).
    ///
    /// Of a denied call it is the violated limit of requests to wait for, if one is violated.
    #[must_use]
    pub fn requests(self) -> Option<RuleState> {
        self.of_unit(Unit::Requests)
    }

    /// Returns the limit of tokens that a client reaches first, if any: of input tokens, of output tokens or of both
    /// together, as for [`requests`](Self::requests).
    #[must_use]
    pub fn tokens(self) -> Option<RuleState> {
        self.met_first(|unit| unit != Unit::Requests)
    }

    /// Returns the limit of this unit that a client reaches first, if any: as for [`requests`](Self::requests).
    #[must_use]
    pub fn of_unit(self, unit: Unit) -> Option<RuleState> {
        self.met_first(|counted| counted == unit)
    }

    /// Returns the limit that binds, if any: the one with the smallest share left, which compares requests and tokens.
    /// Of a denied call it is the violated limit to wait for.
    #[must_use]
    pub fn overall(self) -> Option<RuleState> {
        self.to_wait_for(|_| true).or_else(|| {
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
        let others = |violated: bool| {
            let first = first.clone();
            self.rules().filter(move |state| {
                first.as_ref().is_some_and(|first| !is_same(first, state))
                    && self.is_violated(state) == violated
            })
        };
        let (violated, rest) = (others(true), others(false));
        first.into_iter().chain(violated).chain(rest)
    }

    /// Whether the rule denied the call.
    #[must_use]
    pub fn is_violated(self, state: &RuleState) -> bool {
        self.violations().any(|violation| is_of(&violation, state))
    }

    /// Returns the end of a rule's window; `None` if a denied call exceeds the limit itself, so that waiting does not help.
    #[must_use]
    pub fn resets_at(self, state: &RuleState) -> Option<Timestamp> {
        let is_exceeded =
            |violation: Violation| is_of(&violation, state) && violation.exceeds_limit();
        state.resets_at.filter(|_| !self.violations().any(is_exceeded))
    }

    /// Returns the time from the decision to [`resets_at`](Self::resets_at).
    #[must_use]
    pub fn resets_after(self, state: &RuleState) -> Option<Duration> {
        Some(self.resets_at(state)?.since(self.decided_at))
    }

    /// Returns the retry advice of a denied call: the whole seconds of [`Denied::retry_after`], rounded up, at least one.
    /// [`Retry::Never`] if it never fits, or no limit denied it. `None` for an allowed call.
    #[must_use]
    pub fn retry(self) -> Option<Retry> {
        Some(self.denied?.retry_after().map_or(Retry::Never, Retry::after))
    }

    fn exceeded(self) -> Option<&'a LimitExceeded> {
        self.denied?.exceeded()
    }

    fn violations(self) -> impl Iterator<Item = Violation> + 'a {
        self.exceeded().into_iter().flat_map(LimitExceeded::violations)
    }

    fn met_first(self, counts: impl Fn(Unit) -> bool) -> Option<RuleState> {
        self.to_wait_for(&counts).or_else(|| {
            let counted = self.rules().filter(|state| state.rule.unit().is_some_and(&counts));
            // The first one of equal keys.
            counted.min_by_key(|state| (state.remaining, state.limit))
        })
    }

    /// Returns the violated limit to wait for, among those that count this.
    fn to_wait_for(self, counts: impl Fn(Unit) -> bool) -> Option<RuleState> {
        self.rules()
            .filter(|state| state.rule.unit().is_some_and(&counts) && self.is_violated(state))
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

/// Returns whether both are the same rule of the same level.
fn is_same(one: &RuleState, other: &RuleState) -> bool {
    (&one.group, one.rule) == (&other.group, other.rule)
}

/// Returns whether it is a violation of this rule of this level.
fn is_of(violation: &Violation, state: &RuleState) -> bool {
    (&violation.group, violation.rule) == (&state.group, state.rule)
}

/// Returns the length of a rule's window in seconds: by the calendar, so that a day has 24 hours also where the clocks
/// change.
pub(crate) fn window_seconds(state: &RuleState) -> Option<u64> {
    match state.rule.window()? {
        Window::Minute => Some(60),
        Window::Hour => Some(3_600),
        Window::Day => Some(DAY.as_secs()),
        Window::Week => Some(7 * DAY.as_secs()),
        Window::Month => {
            // It ends at midnight somewhere on earth. A day later, the next month has begun everywhere.
            let start = |end| Window::Month.start(end, &TimeZone::UTC);
            let end = start(state.resets_at?.after(DAY));
            Some(whole_seconds(end.since(start(end))))
        }
        Window::Ever => None,
    }
}

/// Rounds up: a call a moment too early is denied again.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

const DAY: Duration = Duration::from_secs(86_400);
