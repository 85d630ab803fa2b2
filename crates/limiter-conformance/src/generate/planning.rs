//! Random operations on plans.

use proptest::prelude::*;

use crate::replay::{Action, Change, Limits, Other, Plan, Window};

use super::labels::weighted;
use super::random::{
    Move, assets, budgets, changes, effective, other, slots, thresholds, without_budget, zones,
};

pub(super) fn actions() -> BoxedStrategy<Action> {
    prop_oneof![
        12 => plans().prop_map(Action::Plan),
        1 => labels().prop_map(|plan| Action::DeletePlan { plan }),
    ]
    .boxed()
}

/// The label of a plan. Most histories change the plan that their keys have; few name one that does not exist.
pub(super) fn labels() -> BoxedStrategy<String> {
    weighted(&[(20, "free"), (8, "pro"), (1, "gone")])
}

/// The creation of a plan: mostly of one with which a group may be open, if any is to be.
pub(super) fn first(label: &'static str, opens: bool) -> impl Strategy<Value = Move> {
    let is_short = proptest::bool::weighted(if opens { 0.95 } else { 0.0 });
    (whole(), is_short).prop_map(move |(plan, is_short)| {
        let plan = if is_short { without_long_windows(plan) } else { plan };
        Move::at_once(Action::Plan(Plan { plan: label.to_owned(), ..plan }))
    })
}

fn without_long_windows(plan: Plan) -> Plan {
    let short =
        |limits: &mut Limits| limits.amounts.retain(|(window, _), _| *window <= Window::Day);
    let Plan { mut global, mut assets, mut other, .. } = plan.clone();
    if let Change::Set(global) = &mut global {
        short(global);
    }
    if let Change::Set(assets) = &mut assets {
        assets.values_mut().flatten().for_each(short);
    }
    if let Change::Set(Other::Limited(other)) = &mut other {
        short(other);
    }
    Plan { global, assets, other, budget: Change::Keep, ..plan }
}

fn plans() -> BoxedStrategy<Plan> {
    // Most change one thing, for the same reason as with updates.
    let plan = prop_oneof![
        8 => changes(without_budget(NO_LIFTS)).prop_map(|global| Plan { global, ..Plan::default() }),
        4 => changes(assets(NO_LIFTS)).prop_map(|assets| Plan { assets, ..Plan::default() }),
        3 => changes(other(NO_LIFTS)).prop_map(|other| Plan { other, ..Plan::default() }),
        2 => changes(budgets(NO_LIFTS)).prop_map(|budget| Plan { budget, ..Plan::default() }),
        1 => changes(slots(NO_LIFTS)).prop_map(|parallel| Plan { parallel, ..Plan::default() }),
        1 => changes(zones()).prop_map(|time_zone| Plan { time_zone, ..Plan::default() }),
        1 => changes(thresholds()).prop_map(|thresholds| Plan { thresholds, ..Plan::default() }),
        2 => Just(Plan::default()),
        3 => whole(),
    ];
    (labels(), effective(), plan)
        .prop_map(|(label, effective, plan)| Plan { plan: label, effective, ..plan })
        .boxed()
}

fn whole() -> impl Strategy<Value = Plan> {
    let scopes = (
        changes(without_budget(FEW_LIFTS)),
        changes(assets(NO_LIFTS)),
        often_kept(other(NO_LIFTS)),
    );
    let rest = (
        often_kept(budgets(NO_LIFTS)),
        often_kept(slots(NO_LIFTS)),
        often_kept(zones()),
        often_kept(thresholds()),
    );
    (scopes, rest).prop_map(|((global, assets, other), rest)| {
        let (budget, parallel, time_zone, thresholds) = rest;
        Plan { global, assets, other, budget, parallel, time_zone, thresholds, ..Plan::default() }
    })
}

fn often_kept<T: Clone + std::fmt::Debug>(
    values: impl Strategy<Value = T>,
) -> impl Strategy<Value = Change<T>> {
    prop_oneof![3 => Just(Change::Keep), 1 => values.prop_map(Change::Set)]
}

const NO_LIFTS: u32 = 0;
/// A limit that a plan lifts is one that it does not have.
const FEW_LIFTS: u32 = 3;
