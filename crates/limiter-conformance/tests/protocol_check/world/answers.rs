//! The comparison of a client's answers with the oracle's.

use limiter_core::{Crossing, DenialReason, Timestamp, Unit, Window};

use super::Wrong;
use crate::oracle::{Cost, Decided, Fired, Oracle};

pub(super) fn wrong_decision(
    oracle: &Oracle,
    decision: &limiter_core::Decision,
    asset: bool,
    cost: Cost,
    now: Timestamp,
) -> Option<Wrong> {
    let Some(denied) = decision.denied() else {
        let mut is: Vec<_> =
            decision.rules().map(|it| (numbers(it.rule), it.used, it.limit)).collect();
        is.sort_unstable();
        let must = oracle.rules(asset, now);
        return (is != must).then(|| Wrong::Decision(format!("{is:?}, must be {must:?}")));
    };
    let is = match denied.reason() {
        DenialReason::KeyUnknown => Decided::Unknown,
        DenialReason::KeyExpired { .. } => Decided::Expired,
        DenialReason::BudgetExhausted { .. } => Decided::Budget,
        DenialReason::RateLimited(limited) => {
            let mut violated: Vec<_> =
                limited.violations().map(|it| (numbers(it.rule), it.used, it.limit)).collect();
            violated.sort_unstable();
            Decided::Limited(violated, limited.retry_at().map(Timestamp::unix_ms))
        }
        other => return Some(Wrong::Decision(format!("{other:?}"))),
    };
    let must = oracle.decide(asset, cost, now);
    (is != must).then(|| Wrong::Decision(format!("{is:?}, must be {must:?}")))
}

pub(super) fn wrong_thresholds(crossed: &[Crossing], fired: &[Fired]) -> Option<Wrong> {
    let mut fired_now: Vec<Fired> = crossed.iter().map(fired_of).collect();
    fired_now.sort_unstable();
    (fired_now != fired).then(|| Wrong::Fired(format!("{fired_now:?}, must be {fired:?}")))
}

fn fired_of(crossing: &Crossing) -> Fired {
    (numbers(crossing.rule), crossing.percent, crossing.used, crossing.limit)
}

fn numbers(rule: limiter_core::Rule) -> [usize; 3] {
    let window = [Window::Minute, Window::Day, Window::Ever]
        .iter()
        .position(|it| Some(*it) == rule.window());
    let unit = [Unit::Requests, Unit::Tokens, Unit::Credits]
        .iter()
        .position(|it| Some(*it) == rule.unit());
    [
        rule.scope as usize,
        window.expect("a window of these worlds"),
        unit.expect("a unit of these worlds"),
    ]
}
