//! The comparison of a client's answers with the oracle's.

use limiter_core::{
    Allowed, Crossing, Decision, DenialReason, KeyId, LimitExceeded, Rule, Timestamp, Unit, Window,
};

use super::{Seen, Sight, Wrong};
use crate::oracle::{Cost, Decided, Fired, Oracle, PARALLEL};
use crate::path::{Path, Subject};

pub(super) fn see(seen: &Seen, decision: &Decision) {
    let Some(denied) = decision.denied() else {
        let replays = decision.allowed().is_some_and(Allowed::replayed);
        return seen.saw(if replays { Sight::ReservedAgain } else { Sight::Allowed });
    };
    seen.saw(Sight::Denied);
    if let DenialReason::KeyExpired { group: Some(_), .. } = denied.reason() {
        seen.saw(Sight::DeniedByAnExpiredGroup);
    }
    let violations = || denied.exceeded().into_iter().flat_map(LimitExceeded::violations);
    if let Some(slots) = violations().find(|it| it.rule.is_parallel()) {
        let by_group = slots.group.is_some();
        seen.saw(if by_group { Sight::OutOfSlotsOfTheGroup } else { Sight::OutOfSlots });
    }
    let by_group = violations().any(|it| it.group.is_some());
    let by_key = violations().any(|it| it.group.is_none());
    if by_group {
        seen.saw(if by_key { Sight::DeniedByBothLevels } else { Sight::DeniedByGroup });
    }
}

pub(super) fn wrong_decision(
    oracle: &Oracle,
    decision: &Decision,
    of: Subject,
    cost: Cost,
    now: Timestamp,
) -> Option<Wrong> {
    let rule = |rule, group: &Option<KeyId>| rule_of(of.path, rule, group.as_ref());
    let Some(denied) = decision.denied() else {
        let rules = decision.rules();
        let mut is: Vec<_> =
            rules.map(|it| (rule(it.rule, &it.group), it.used, it.limit)).collect();
        is.sort_unstable();
        let must = oracle.rules(of, cost, now);
        return (is != must).then(|| Wrong::Decision(format!("{is:?}, must be {must:?}")));
    };
    let limited = |exceeded: &LimitExceeded, budget| {
        let violations = exceeded.violations();
        let mut violated: Vec<_> =
            violations.map(|it| (rule(it.rule, &it.group), it.used, it.limit)).collect();
        violated.sort_unstable();
        let retry_at = exceeded.retry_at().map(Timestamp::unix_ms);
        Decided::Limited { violated, budget, retry_at }
    };
    let is = match denied.reason() {
        DenialReason::KeyUnknown => Decided::Unknown,
        DenialReason::KeyExpired { group, .. } => Decided::Expired(place(of.path, group.as_ref())),
        DenialReason::BudgetExhausted(exceeded) => limited(exceeded, true),
        DenialReason::RateLimited(exceeded) => limited(exceeded, false),
        other => return Some(Wrong::Decision(format!("{other:?}"))),
    };
    let must = oracle.decide(of, cost, now);
    (is != must).then(|| Wrong::Decision(format!("{is:?}, must be {must:?}")))
}

pub(super) fn wrong_thresholds(
    of: Subject,
    crossed: &[Crossing],
    fired: &[Fired],
) -> Option<Wrong> {
    let mut fired_now: Vec<Fired> = crossed
        .iter()
        .map(|it| (rule_of(of.path, it.rule, it.group.as_ref()), it.percent, it.used, it.limit))
        .collect();
    fired_now.sort_unstable();
    (fired_now != fired).then(|| Wrong::Fired(format!("{fired_now:?}, must be {fired:?}")))
}

/// A rule as the oracle writes it.
fn rule_of(path: Path, rule: Rule, group: Option<&KeyId>) -> [usize; 4] {
    let window = [Window::Minute, Window::Day, Window::Ever]
        .iter()
        .position(|it| Some(*it) == rule.window());
    let unit = [Unit::Requests, Unit::Tokens, Unit::Credits]
        .iter()
        .position(|it| Some(*it) == rule.unit());
    let (window, unit) = match rule.is_parallel() {
        true => (PARALLEL, 0),
        false => window.zip(unit).expect("a window and a unit of these worlds"),
    };
    [place(path, group), rule.scope as usize, window, unit]
}

/// The place of a level in a path, by its group: none for the key itself.
fn place(path: Path, group: Option<&KeyId>) -> usize {
    group.map_or_else(|| path.levels().len(), KeyId::depth) - 1
}
