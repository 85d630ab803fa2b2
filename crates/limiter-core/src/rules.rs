//! The state of the rules that a call met, and the violations.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use smallvec::SmallVec;

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::levels::Levels;
use crate::limits::{MAX_COUNT, Quantity, Within};
use crate::meter::{Meter, Meters, least};
use crate::names::KeyId;
use crate::parallel::Parallel;
use crate::record::Record;
use crate::rule::{Measure, Rule, Scope, Unit};
use crate::state::CreditUsage;
use crate::thresholds::Thresholds;
use crate::window::{NEVER, Window};

/// The state of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RuleState {
    /// The group whose rule it is; left out if it is one of the key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<KeyId>,
    /// The rule.
    pub rule: Rule,
    /// The most that may be used in the window, credits in millionths; or the most calls that may be open.
    pub limit: u64,
    /// The amount used, or the calls that are open: after the charge if it was allowed, without it if it was denied.
    pub used: u64,
    /// The amount left, at least 0.
    pub remaining: u64,
    /// When the window ends and the count starts again from zero; null if it does not end. Of a parallel limit that has denied
    /// the call: when slots expire and one is free, if none is given back before; otherwise null.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub resets_at: Option<Timestamp>,
}

/// A rule that a charge would have broken, as it stands without the charge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Violation {
    /// The group whose rule it is; left out if it is one of the key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<KeyId>,
    /// The rule.
    pub rule: Rule,
    /// The most that may be used in the window, credits in millionths; or the most calls that may be open.
    pub limit: u64,
    /// The amount used, or the calls that are open.
    pub used: u64,
    /// The amount that the charge would have added. Even 0 is too much for a new call if nothing is left. 1 for a parallel
    /// limit.
    pub asked: u64,
    /// When the window ends and the count starts again from zero, or when a slot is free at the latest. Null if that does not
    /// help, because the call [exceeds the limit itself](Self::exceeds_limit) or the window does not end.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub resets_at: Option<Timestamp>,
}

/// The rules that a call met: those of its key, and in [`More`] those of the key's groups.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) global: Part,
    /// Of the asset or of other assets.
    pub(crate) second: Part,
    /// The scope of the second part, if the call met one.
    pub(crate) second_scope: Option<Scope>,
    /// Of the level, and so of all its scopes.
    pub(crate) thresholds: Thresholds,
    /// Whether nobody registered the key, so that its callers may not see the figures of groups.
    pub(crate) unregistered: bool,
    /// Whether they are as they stood when a lease was taken, out of which the call was decided. Here, since it fits beside the
    /// others.
    pub(crate) leased: bool,
    /// Boxed, since few calls have any, and the size of a decision decides what one costs.
    pub(crate) more: Option<Box<More>>,
}

/// The rules that few calls meet.
#[derive(Clone, Default)]
pub(crate) struct More {
    /// Of other assets, for an asset whose first limit is pending.
    third: Option<Box<Part>>,
    /// The parallel limits of the level.
    parallel: Vec<RuleState>,
    /// Of the next level outside.
    outer: Option<Outer>,
}

/// The rules of a group that a call met, and in them those of outer groups.
#[derive(Clone)]
struct Outer {
    /// An id that begins with that of the group.
    path: KeyId,
    /// The level of the group, from the outermost, which is 0.
    level: usize,
    rules: Rules,
}

/// The limits of one scope, with what is left of each.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) meters: Meters,
    pub(crate) ends: [Timestamp; Window::ENDING.len()],
}

static NOTHING: Record = Record::NOTHING;

impl Part {
    /// A scope that the call did not meet.
    pub(crate) const EMPTY: Self =
        Self { meters: Meters::NONE, ends: [NEVER; Window::ENDING.len()] };

    fn states(&self, scope: Scope, thresholds: Thresholds) -> impl Iterator<Item = RuleState> {
        self.meters.iter().filter_map(move |meter| self.state(scope, meter, thresholds))
    }

    #[inline]
    fn state(&self, scope: Scope, meter: &Meter, thresholds: Thresholds) -> Option<RuleState> {
        let limit = meter.limit()?;
        let (window, unit) = (meter.window(), meter.unit());
        let left = meter.left(thresholds);
        Some(RuleState {
            group: None,
            rule: Rule::of(scope, window, unit),
            limit,
            used: limit.cast_signed().saturating_sub(left).cast_unsigned(),
            remaining: left.max(0).cast_unsigned(),
            resets_at: self.ends.get(window as usize).copied(),
        })
    }
}

impl Rules {
    /// Nothing is limited or counted.
    pub(crate) const NONE: Self = Self {
        global: Part::EMPTY,
        second: Part::EMPTY,
        second_scope: None,
        thresholds: Thresholds::NONE,
        unregistered: false,
        leased: false,
        more: None,
    };

    /// Returns the rules of the records that a call met, each with its level: the outermost first, of each the global one.
    pub(crate) fn of<'a>(
        levels: &Levels<'_>,
        records: impl IntoIterator<Item = (usize, Scope, &'a Record)>,
    ) -> Self {
        let (mut rules, mut at) = (Self::NONE, None);
        for (level, scope, record) in records {
            rules = rules.inside(at, level, levels.key);
            if at != Some(level) {
                rules.add_parallel(levels.parallel.iter().filter(|limit| limit.level == level));
            }
            at = Some(level);
            rules.add(scope, record);
        }
        // If the levels that were left out are inner ones, the key has no rules.
        let own = levels.states.last();
        let unregistered = own.is_some_and(|own| !own.is_registered());
        let rules = rules.inside(at, levels.states.len().saturating_sub(1), levels.key);
        Self { unregistered, ..rules }
    }

    /// Returns the rules of one level. It copies them once, straight into the answer: the copy is most of the cost of a decision
    /// in memory.
    #[inline(always)]
    pub(crate) fn of_records(
        global: &Record,
        second: Option<(Scope, &Record)>,
        outer: Option<Box<More>>,
        unregistered: bool,
    ) -> Self {
        // One way for calls with a second record and without: where two meet again, all is copied once more.
        let second_scope = second.map(|(scope, _)| scope);
        let record = second.map_or(&NOTHING, |(_, record)| record);
        let (of_global, of_second) = (global.meters_beyond(), record.meters_beyond());
        Self {
            global: global.part_with(of_global),
            second: record.part_with(of_second),
            second_scope,
            thresholds: global.thresholds,
            unregistered,
            leased: false,
            more: outer,
        }
    }

    /// Adds the rules of a record: the global one first.
    pub(crate) fn add(&mut self, scope: Scope, record: &Record) {
        match scope {
            Scope::Global => (self.global, self.thresholds) = (record.part(), record.thresholds),
            _ if self.second_scope.is_some() => self.more().third = Some(Box::new(record.part())),
            _ => (self.second_scope, self.second) = (Some(scope), record.part()),
        }
    }

    fn add_parallel<'a>(&mut self, limits: impl IntoIterator<Item = &'a Parallel>) {
        let mut states = limits.into_iter().map(Parallel::state).peekable();
        if states.peek().is_some() {
            self.more().parallel.extend(states);
        }
    }

    /// Returns the rules of the level inside, of which none is known yet. `at` is the level of these, if they are of any.
    fn inside(self, at: Option<usize>, level: usize, path: &KeyId) -> Self {
        match at {
            Some(at) if at != level => {
                Self { more: Some(More::of_group(path, at, || self)), ..Self::NONE }
            }
            _ => self,
        }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Adds a rule of a saved decision.
    fn restore(&mut self, state: &RuleState) {
        let (scope, window, unit) = match state.rule {
            Rule { scope, measure: Measure::Amount(window, unit) } => (scope, window, unit),
            Rule { measure: Measure::Parallel, .. } => {
                return self.more().parallel.push(RuleState { group: None, ..state.clone() });
            }
        };
        let part = match scope {
            Scope::Global => &mut self.global,
            Scope::Other if self.second_scope == Some(Scope::Asset) => {
                self.more().third.get_or_insert_with(|| Box::new(Part::EMPTY))
            }
            Scope::Asset | Scope::Other => {
                self.second_scope = Some(scope);
                &mut self.second
            }
        };
        // A state from serde is unchecked, so its numbers are capped.
        let (limit, used) = (state.limit.min(MAX_COUNT), state.used.min(MAX_COUNT));
        let left = limit.cast_signed().saturating_sub(used.cast_signed());
        let meter = Meter::new(window, unit, Some(limit), Thresholds::NONE);
        let meter = meter.with_numbers(left, 0);
        part.meters = part.meters.iter().copied().chain([meter]).collect();
        if let (Some(end), Some(resets_at)) = (part.ends.get_mut(window as usize), state.resets_at)
        {
            *end = resets_at;
        }
    }

    /// Returns the credits spent, and the budget.
    pub(crate) fn credits(&self) -> CreditUsage {
        let credits = self
            .global
            .meters
            .iter()
            .next_back()
            .filter(|meter| (meter.window(), meter.unit()) == (Window::Ever, Unit::Credits));
        let Some(credits) = credits else {
            return CreditUsage { spent: Credits::ZERO, budget: None };
        };
        CreditUsage {
            spent: Credits::of_count(credits.used(self.thresholds)),
            budget: credits.limit().map(Credits::of_count),
        }
    }

    /// Sets the credits spent, where there is no budget.
    fn with_credits(mut self, credits: CreditUsage) -> Self {
        if credits.budget.is_none() {
            let left = MAX_COUNT.saturating_sub(credits.spent.millionths()).cast_signed();
            let meter = Meter::new(Window::Ever, Unit::Credits, None, Thresholds::NONE);
            let meter = meter.with_numbers(left, 0);
            let meters = &mut self.global.meters;
            *meters = meters.iter().copied().chain([meter]).collect();
        }
        self
    }

    /// Restores the rules of a saved decision. Rules that are missing have no limit.
    pub(crate) fn restored(
        states: impl IntoIterator<Item = RuleState>,
        credits: Option<CreditUsage>,
    ) -> Self {
        let (mut rules, mut at): (_, Option<KeyId>) = (Self::NONE, None);
        for state in states {
            if state.group != at
                && let Some(group) = &at
            {
                let more = More::of_group(group, group.depth().saturating_sub(1), || rules);
                rules = Self { more: Some(more), ..Self::NONE };
            }
            at.clone_from(&state.group);
            rules.restore(&state);
        }
        if let Some(group) = at {
            let more = More::of_group(&group, group.depth().saturating_sub(1), || rules);
            rules = Self { more: Some(more), ..Self::NONE };
        }
        match credits {
            Some(credits) => rules.with_credits(credits),
            None => rules,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = RuleState> {
        let mut levels: SmallVec<[_; KeyId::MAX_SEGMENTS]> = SmallVec::new();
        let mut outer = self.outer();
        while let Some(group) = outer {
            levels.push(group);
            outer = group.rules.outer();
        }
        levels.into_iter().rev().flat_map(Outer::iter).chain(self.of_level())
    }

    /// Returns the rules whose figures a caller may see: all, or those of the key alone if nobody registered it.
    pub(crate) fn shown(&self) -> impl Iterator<Item = RuleState> {
        self.iter().filter(|state| !self.unregistered || state.group.is_none())
    }

    fn outer(&self) -> Option<&Outer> {
        self.more.as_deref()?.outer.as_ref()
    }

    /// Returns the rules of its level alone.
    pub(crate) fn of_level(&self) -> impl Iterator<Item = RuleState> {
        let more = self.more.as_deref();
        let third = more.and_then(|more| more.third.as_deref());
        let second = self.second_scope.map(|scope| self.second.states(scope, self.thresholds));
        let third = third.map(|part| part.states(Scope::Other, self.thresholds));
        let parallel = more.map_or(&[][..], |more| &more.parallel);
        let parallel = move |of: &'static [Scope]| {
            parallel.iter().filter(move |state| of.contains(&state.rule.scope)).cloned()
        };
        let global = self.global.states(Scope::Global, self.thresholds);
        let global = global.chain(parallel(&[Scope::Global]));
        let is_of_asset = self.second_scope != Some(Scope::Other);
        // The parallel limit of an asset stands before the rules of others, should the call meet both.
        let before: &[Scope] = if is_of_asset { &[Scope::Asset] } else { &[] };
        let after: &[Scope] =
            if is_of_asset { &[Scope::Other] } else { &[Scope::Asset, Scope::Other] };
        let second = second.into_iter().flatten().chain(parallel(before));
        global.chain(second).chain(third.into_iter().flatten()).chain(parallel(after))
    }

    /// Returns each rule that the charge would break, with the amount that it asks for.
    pub(crate) fn violated_by(&self, charge: &Charge) -> impl Iterator<Item = (RuleState, u64)> {
        let charge = *charge;
        self.iter().filter_map(move |state| {
            let (asked, is_call) = match state.rule.unit() {
                Some(unit) => (charge.amount(unit), charge.requests() > 0),
                None => (1, true),
            };
            let least = least(Some(state.limit), asked.cast_signed(), is_call);
            let left = state.limit.cast_signed().saturating_sub(state.used.cast_signed());
            (left < least).then_some((state, asked))
        })
    }
}

impl More {
    /// Holds the rules of a group, which is named by the beginning of this id.
    #[inline(always)]
    pub(crate) fn of_group(path: &KeyId, level: usize, rules: impl FnOnce() -> Rules) -> Box<Self> {
        let outer = Some(Outer { path: path.clone(), level, rules: rules() });
        Box::new(Self { third: None, parallel: Vec::new(), outer })
    }
}

impl Outer {
    fn iter(&self) -> impl Iterator<Item = RuleState> {
        let group = self.path.levels().nth(self.level);
        self.rules.of_level().map(move |state| RuleState { group: group.clone(), ..state })
    }
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.shown())
    }
}

impl RuleState {
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
    /// [`LimitExceeded::binding`](crate::LimitExceeded::binding).
    #[must_use]
    pub fn binds_before(&self, other: &Self) -> bool {
        self.binding_order() < other.binding_order()
    }

    /// Returns the order of violated rules: the one that resets last comes first; then the smaller limit; then the outermost
    /// level; then the order of rules.
    pub(crate) fn binding_order(&self) -> impl Ord + use<> {
        let depth = self.group.as_ref().map_or(usize::MAX, KeyId::depth);
        (Reverse(self.resets_at.unwrap_or(NEVER)), self.limit, depth, self.rule)
    }

    /// Returns the share of the limit that is used, in whole percent rounded down. A limit of 0 is fully used.
    #[must_use]
    pub fn percent(&self) -> u64 {
        percent(self.used, self.limit)
    }
}

/// Formats as in `1 of 60 requests per minute`, `3 of 10 calls in parallel`.
impl fmt::Display for RuleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, limit, used, .. } = self;
        let Measure::Amount(window, unit) = rule.measure else {
            return write!(f, "{used} of {limit} calls in parallel");
        };
        let [used, limit] = [*used, *limit].map(|amount| Quantity(amount, unit));
        write!(f, "{used} of {limit} {} {}", unit.label(), Within(window))
    }
}

impl Violation {
    /// Creates a violation of a rule by the amount that a charge asks for. `never_fits` if no end of a window makes
    /// room.
    pub(crate) fn new(state: RuleState, asked: u64, never_fits: bool) -> Self {
        let RuleState { group, rule, limit, used, resets_at, .. } = state;
        // A call that asks for nothing needs one unit to be left.
        let exceeds_limit = never_fits && asked.max(1) > limit;
        let resets_at = resets_at.filter(|_| !exceeds_limit);
        Self { group, rule, limit, used, asked, resets_at }
    }

    /// Returns whether the call exceeds the limit itself, even with nothing used: retrying will not help.
    #[must_use]
    pub const fn exceeds_limit(&self) -> bool {
        let least = if self.asked == 0 { 1 } else { self.asked };
        self.resets_at.is_none() && least > self.limit
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
        let rule: Rule = rule.parse().unwrap();
        RuleState {
            group: None,
            rule,
            limit,
            used: limit.saturating_sub(remaining),
            remaining,
            resets_at: rule
                .window()
                .is_some_and(Window::ends)
                .then(|| Timestamp::from_unix_ms(resets_at)),
        }
    }

    fn of_group(group: &str, state: RuleState) -> RuleState {
        RuleState { group: Some(group.parse().unwrap()), ..state }
    }

    #[test]
    fn of_equal_rules_the_outermost_binds() {
        let own = state("global/minute/requests", 0, 1, 60);
        let [outer, inner] = ["acme", "acme/search"].map(|group| of_group(group, own.clone()));
        assert!(outer.binds_before(&inner) && inner.binds_before(&own));
        assert!(!inner.binds_before(&outer) && !own.binds_before(&inner));
        let smaller = state("asset/minute/requests", 0, 0, 60);
        assert!(smaller.binds_before(&outer), "the smaller limit comes first");
    }

    #[test]
    fn the_rule_that_resets_last_binds_then_the_smaller_limit_then_the_first() {
        let in_order = [
            state("asset/ever/requests", 0, 900, 0),
            state("asset/day/tokens", 0, 900, 86_400),
            state("global/minute/requests", 0, 1, 60),
            state("global/minute/tokens", 0, 1, 60),
            state("global/day/requests", 0, 1, 60),
            state("asset/minute/tokens", 0, 1, 60),
            state("asset/day/tokens", 0, 1, 60),
            state("other/minute/requests", 0, 1, 60),
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

    #[test]
    fn a_saved_decision_has_the_same_rules_again() {
        for rules in [
            vec![state("global/minute/requests", 3, 10, 60), state("global/ever/credits", 1, 2, 0)],
            vec![state("global/day/tokens", 3, 10, 60), state("other/hour/requests", 1, 2, 90)],
            vec![state("asset/day/tokens", 0, 1, 60), state("other/month/credits", 1, 2, 90)],
            vec![
                of_group("acme", state("global/parallel", 0, 1, 0)),
                state("global/parallel", 3, 10, 0),
                state("asset/day/tokens", 0, 1, 60),
                state("asset/parallel", 0, 1, 0),
                state("other/month/credits", 1, 2, 90),
            ],
            vec![state("other/hour/requests", 1, 2, 90), state("other/parallel", 0, 1, 0)],
            vec![
                of_group("acme", state("asset/day/tokens", 0, 1, 60)),
                of_group("acme/search/ci", state("global/day/tokens", 0, 7, 60)),
                of_group("acme/search/ci", state("other/hour/requests", 1, 2, 90)),
                state("global/day/tokens", 3, 10, 60),
            ],
        ] {
            let restored = Rules::restored(rules.clone(), None);
            assert_eq!(restored.iter().collect::<Vec<_>>(), rules);
        }
    }
}
