//! The state of the rules that a call met, and the violations.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use crate::charge::{Amount, Charge};
use crate::clock::Timestamp;
use crate::limits::MAX_COUNT;
use crate::meter::Meter;
use crate::record::{CREDITS, Record, Span, meter_of};
use crate::rule::{Rule, Unit};
use crate::token_type::TokenType;

/// The state of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RuleState {
    /// The rule.
    pub rule: Rule,
    /// The most that may be used in the window.
    pub limit: u64,
    /// The amount used: after the charge if it was allowed, without it if it was denied.
    pub used: u64,
    /// The amount left, at least 0.
    pub remaining: u64,
    /// When the window ends and the count starts again from zero.
    pub resets_at: Timestamp,
    /// Which tokens are counted, if the unit is tokens.
    pub token_type: TokenType,
}

/// A rule that a charge would have broken, as it stands without the charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The most that may be used in the window.
    pub limit: u64,
    /// The amount used.
    pub used: u64,
    /// The amount that the charge would have added. Even 0 is too much for a new call if nothing is left.
    pub asked: u64,
    /// When the window ends and the count starts again from zero. `None` if that does not help, because the call
    /// [exceeds the limit itself](Self::exceeds_limit).
    pub resets_at: Option<Timestamp>,
    /// Which tokens are counted, if the unit is tokens.
    pub token_type: TokenType,
}

/// The rules that a call met, and its credits: up to eight rules, fewer where there are no limits.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// The record of the global scope, then that of the asset's.
    pub(crate) records: [Record; 2],
}

impl Rules {
    /// Nothing is limited or counted.
    pub(crate) const NONE: Self = Self::new([Record::UNCOUNTED; 2]);

    #[inline]
    pub(crate) const fn new(records: [Record; 2]) -> Self {
        Self { records }
    }

    /// Returns the credits spent, and the budget.
    pub(crate) fn credits(&self) -> Meter {
        self.records[0].meter(CREDITS)
    }

    /// Sets the credits.
    pub(crate) fn with_credits(mut self, credits: Meter) -> Self {
        self.records[0].set_meter(CREDITS, credits);
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = RuleState> {
        Rule::ALL.iter().filter_map(|rule| self.state(*rule))
    }

    /// Returns each rule that the charge would break, with the amount that it asks for.
    pub(crate) fn violated_by(&self, charge: &Charge) -> impl Iterator<Item = (RuleState, u64)> {
        let makes_request = charge.requests() > 0;
        self.iter().filter_map(move |state| {
            let asked = match state.rule.unit {
                Unit::Requests => charge.requests(),
                Unit::Tokens => charge.tokens(state.token_type),
            };
            let violated = !state.meter().admits(asked, makes_request);
            violated.then_some((state, asked))
        })
    }

    #[inline]
    fn state(&self, rule: Rule) -> Option<RuleState> {
        let record = &self.records[rule.scope as usize];
        let meter = record.meter(meter_of(rule.window, rule.unit));
        // Most rules have no limit and need no further work.
        let (limit, remaining) = (meter.limit()?, meter.remaining()?);
        Some(RuleState {
            rule,
            limit,
            used: meter.used(),
            remaining,
            resets_at: record.span(rule.window).end,
            token_type: record.token_type(rule.window),
        })
    }
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Restores the rules of a saved decision. Rules that are missing have no limit.
impl FromIterator<RuleState> for Rules {
    fn from_iter<I: IntoIterator<Item = RuleState>>(states: I) -> Self {
        let mut rules = Self::NONE;
        for state in states {
            let Rule { scope, window, unit } = state.rule;
            let record = &mut rules.records[scope as usize];
            record.set_span(window, Span { end: state.resets_at, rebases: 0 });
            let meter = meter_of(window, unit);
            record.set_meter(meter, state.meter());
            if unit == Unit::Tokens {
                record.counts[meter] = Amount::tokens(state.token_type);
            }
        }
        rules
    }
}

impl RuleState {
    fn meter(&self) -> Meter {
        // A state from serde is unchecked, so its limit is capped.
        Meter::new(Some(self.limit.min(MAX_COUNT))).with_used(self.used)
    }

    /// Returns whether this rule has a smaller share left than the other. Of equal shares, the one that would
    /// [bind](Self::binds_before) is tighter.
    #[must_use]
    pub fn is_tighter_than(&self, other: &Self) -> bool {
        // a/b < c/d without dividing; a limit of 0 has nothing left.
        let share = |left: u64, of: u64| u128::from(left).saturating_mul(u128::from(of.max(1)));
        let (own, others) =
            (share(self.remaining, other.limit), share(other.remaining, self.limit));
        own < others || (own == others && self.binds_before(other))
    }

    /// Returns whether this violated rule is the one to wait for: it resets later. Ties are broken as for
    /// [`RateLimited::binding`](crate::RateLimited::binding).
    #[must_use]
    pub fn binds_before(&self, other: &Self) -> bool {
        self.binding_order() < other.binding_order()
    }

    /// Returns the order of violated rules: the one that resets last comes first; then the smaller limit, global before
    /// asset, tokens before requests, minute before day.
    pub(crate) fn binding_order(&self) -> impl Ord + use<> {
        let Rule { scope, window, unit } = self.rule;
        (Reverse(self.resets_at), self.limit, scope, Reverse(unit), window)
    }

    /// Returns the share of the limit that is used, in whole percent rounded down. A limit of 0 is fully used.
    #[must_use]
    pub fn percent(&self) -> u64 {
        percent(self.used, self.limit)
    }

    /// Returns the name of the unit: `requests`, `tokens`, `output tokens`, `input tokens`.
    #[must_use]
    pub const fn unit_name(&self) -> &'static str {
        unit_name(self.rule.unit, self.token_type)
    }
}

impl Violation {
    /// Creates a violation of a rule by the amount that a charge asks for. `never_fits` if no end of a window makes
    /// room.
    pub(crate) fn new(state: RuleState, asked: u64, never_fits: bool) -> Self {
        let RuleState { rule, limit, used, resets_at, token_type, .. } = state;
        // A call that asks for nothing needs one unit to be left.
        let exceeds_limit = never_fits && asked.max(1) > limit;
        let resets_at = (!exceeds_limit).then_some(resets_at);
        Self { rule, limit, used, asked, resets_at, token_type }
    }

    /// Returns whether the call exceeds the limit itself, even with nothing used: retrying will not help.
    #[must_use]
    pub const fn exceeds_limit(&self) -> bool {
        self.resets_at.is_none()
    }

    /// Returns the name of the unit: `requests`, `tokens`, `output tokens`, `input tokens`.
    #[must_use]
    pub const fn unit_name(&self) -> &'static str {
        unit_name(self.rule.unit, self.token_type)
    }
}

pub(crate) const fn unit_name(unit: Unit, token_type: TokenType) -> &'static str {
    match unit {
        Unit::Requests => "requests",
        Unit::Tokens => token_type.tokens(),
    }
}

/// Returns the share that is used, in whole percent rounded down.
pub(crate) fn percent(used: u64, limit: u64) -> u64 {
    let used = u128::from(used).saturating_mul(100);
    let percent = used.checked_div(u128::from(limit)).unwrap_or(100);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// Equality ignores counts without a limit.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Rules {}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(rule: &str, remaining: u64, limit: u64, resets_at: i64) -> RuleState {
        RuleState {
            rule: rule.parse().unwrap(),
            limit,
            used: limit.saturating_sub(remaining),
            remaining,
            resets_at: Timestamp::from_unix_ms(resets_at),
            token_type: TokenType::Total,
        }
    }

    #[test]
    fn the_rule_that_resets_last_binds_then_the_smaller_limit_then_global_then_tokens_then_minute()
    {
        let in_order = [
            state("asset/day/tokens", 0, 900, 86_400),
            state("global/minute/tokens", 0, 1, 60),
            state("global/day/requests", 0, 1, 60),
            state("asset/minute/tokens", 0, 1, 60),
            state("asset/day/tokens", 0, 1, 60),
            state("asset/minute/requests", 0, 1, 60),
            state("asset/day/requests", 0, 1, 60),
            state("global/day/requests", 0, 2, 60),
        ];
        for (first, other) in in_order.iter().zip(&in_order[1..]) {
            assert!(first.binds_before(other), "{first:?} {other:?}");
            assert!(!other.binds_before(first), "{first:?} {other:?}");
        }
    }

    #[test]
    fn the_tightest_rule_has_the_smallest_share_left() {
        let many = state("asset/day/tokens", 50, 100_000, 60);
        let few = state("asset/minute/requests", 3, 10, 60);
        assert!(many.is_tighter_than(&few));
        assert!(!few.is_tighter_than(&many));
        let nothing = state("global/minute/requests", 0, 0, 60);
        assert!(nothing.is_tighter_than(&many));
    }
}
