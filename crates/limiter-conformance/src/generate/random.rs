//! Random histories.

use proptest::bool::weighted;
use proptest::collection::{SizeRange, btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

use crate::replay::{
    Action, Amount, Assets, Call, Change, Create, END_OF_9999, Effective, KeyKind, LARGEST, Limits,
    Operation, Other, TimeZone, Unit, Update, Window,
};

use super::clock::{ClockStep, DAY_MS, MINUTE_MS, clock_steps, starts};
use super::labels::Labels;
use super::{planning, reserving};

/// Histories of this many steps in a world of three keys and three assets, one of them called `global`. Most limits and
/// charges are small, so that denials are frequent; some are as large as they may be, and a few are larger. Keys have limits
/// of all windows and units, other assets, zones, thresholds and shadow mode.
///
/// They shrink to fewer steps, simpler steps, smaller numbers and a clock that stands.
pub fn histories(steps: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Operation>> {
    let labels = Labels::flat();
    histories_of(actions(&labels), &labels, steps.into())
}

/// The same with reservations and with checks that carry a request id. The ids are few, so that some are repeated, used
/// again after their ttl, or never made; ttls last from a millisecond to for ever.
pub fn histories_with_reservations(
    steps: impl Into<SizeRange>,
) -> impl Strategy<Value = Vec<Operation>> {
    let labels = Labels::flat();
    let actions = prop_oneof![2 => actions(&labels), 3 => reserving::actions(&labels)];
    histories_of(actions.boxed(), &labels, steps.into())
}

/// The same where keys belong to groups, at most four levels deep. Groups have limits of their own, and are in shadow mode or
/// expired as keys are; some are created late, deleted too early, or called like keys.
pub fn histories_with_groups(steps: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Operation>> {
    let labels = Labels::grouped();
    let actions = prop_oneof![1 => actions(&labels), 1 => reserving::actions(&labels)];
    histories_of(actions.boxed(), &labels, steps.into())
}

/// The same where keys and groups have plans: they get one, change it and lose it, and plans change, for the next windows and at
/// once. There are limits of the plan alone, of the key alone and of both, and some that are lifted.
pub fn histories_with_plans(steps: impl Into<SizeRange>) -> impl Strategy<Value = Vec<Operation>> {
    let labels = Labels::planned();
    let actions = prop_oneof![
        6 => actions(&labels),
        2 => planning::actions(),
        2 => reserving::actions(&labels),
    ];
    histories_of(actions.boxed(), &labels, steps.into())
}

/// The same where groups are open: calls are of unregistered keys, which some histories make later, and delete again. Groups
/// are closed and opened with another plan, and lose the limit that bounds them.
pub fn histories_with_open_groups(
    steps: impl Into<SizeRange>,
) -> impl Strategy<Value = Vec<Operation>> {
    let labels = Labels::open();
    let actions = prop_oneof![
        6 => actions(&labels),
        2 => planning::actions(),
        3 => reserving::actions(&labels),
    ];
    histories_of(actions.boxed(), &labels, steps.into())
}

fn histories_of(
    actions: BoxedStrategy<Action>,
    labels: &Labels,
    steps: SizeRange,
) -> impl Strategy<Value = Vec<Operation>> + use<> {
    let first = |(label, share): &(&'static str, f64)| {
        let first = first(label, labels);
        if *share < 1.0 {
            option::weighted(*share, first).boxed()
        } else {
            first.prop_map(Some).boxed()
        }
    };
    let opens = labels.open > 0.0;
    let plans = labels.plans.iter();
    let plans = plans.map(|label| planning::first(label, opens).prop_map(Some).boxed());
    let firsts: Vec<_> = plans.chain(labels.firsts.iter().map(first)).collect();
    (starts(), firsts, vec(moves(actions), steps)).prop_map(|(start, firsts, then)| {
        operations(start, firsts.into_iter().flatten().chain(then))
    })
}

/// One operation, but for what depends on the clock.
#[derive(Clone, Debug)]
pub(super) struct Move {
    step: ClockStep,
    action: Action,
    /// Seen from the operation that sets it.
    expiry: Change<ClockStep>,
}

impl Move {
    /// A move at the instant of the one before.
    pub(super) fn at_once(action: Action) -> Self {
        Self { step: ClockStep::Forward(0), action, expiry: Change::Keep }
    }
}

fn operations(start: u64, moves: impl Iterator<Item = Move>) -> Vec<Operation> {
    let mut now = start;
    moves
        .map(|Move { step, mut action, expiry }| {
            now = step.from(now);
            let seen = |expiry: ClockStep| expiry.from(now).min(END_OF_9999);
            match &mut action {
                Action::Create(create) => create.expires_at = expiry.value().copied().map(seen),
                Action::Update(update) => {
                    update.expires_at = match expiry {
                        Change::Keep => Change::Keep,
                        Change::Clear => Change::Clear,
                        Change::Set(expiry) => Change::Set(seen(expiry)),
                    }
                }
                _ => {}
            }
            Operation { at: now, action }
        })
        .collect()
}

fn moves(actions: BoxedStrategy<Action>) -> impl Strategy<Value = Move> {
    (clock_steps(), actions, expiries()).prop_map(|(step, action, expiry)| Move {
        step,
        action,
        expiry,
    })
}

fn first(label: &'static str, labels: &Labels) -> impl Strategy<Value = Move> + use<> {
    let kind = if Labels::is_group(label) { KeyKind::Group } else { KeyKind::Member };
    create(labels).prop_map(move |create| {
        Move::at_once(Action::Create(Create { key: label.to_owned(), kind, ..create }))
    })
}

fn actions(labels: &Labels) -> BoxedStrategy<Action> {
    let managed = || labels.managed.clone();
    prop_oneof![
        28 => calls(labels).prop_map(Action::Check),
        4 => calls(labels).prop_map(Action::Peek),
        4 => managed().prop_map(|key| Action::Usage { key }),
        10 => update(labels).prop_map(Action::Update),
        3 => create(labels).prop_map(Action::Create),
        2 => (managed(), 0_u64..=40).prop_map(|(key, days)| Action::History { key, days }),
        2 => managed().prop_map(|key| Action::Reset { key }),
        2 => Just(Action::Events {}),
        1 => labels.deleted.clone().prop_map(|key| Action::Delete { key }),
    ]
    .boxed()
}

pub(super) fn calls(labels: &Labels) -> BoxedStrategy<Call> {
    let requests = prop_oneof![24 => Just(1), 6 => Just(0), 4 => 2_u64..=3, 1 => extremes()];
    let tokens = || prop_oneof![12 => 0_u64..=2, 4 => 3_u64..=6, 1 => extremes()];
    let credits = prop_oneof![12 => Just(0), 6 => 1_u64..=3, 1 => extremes()];
    (labels.called.clone(), called(), requests, tokens(), tokens(), credits)
        .prop_map(|(key, asset, requests, input, output, credits)| Call {
            key,
            asset,
            requests,
            input,
            output,
            credits,
            request_id: None,
        })
        .boxed()
}

fn create(labels: &Labels) -> BoxedStrategy<Create> {
    let kind = prop_oneof![30 => Just(KeyKind::Member), 1 => Just(KeyKind::Admin)];
    let lifts = labels.lifts();
    let scopes = (
        some(labels.limited, without_budget(lifts)),
        some(labels.limited, assets(lifts)),
        some(labels.limited, option::weighted(0.4, other(lifts))),
    );
    let budget = (option::weighted(0.2, budgets(lifts)), option::weighted(0.1, slots(lifts)));
    let zone = prop_oneof![2 => Just(TimeZone::UTC), 1 => zones()];
    let rest = (zone, option::weighted(0.2, thresholds()), weighted(labels.shadow), opens(labels));
    (labels.managed.clone(), kind, labels.plan(), scopes, budget, rest)
        .prop_map(|(key, kind, plan, (mut global, assets, other), (budget, parallel), rest)| {
            let (time_zone, thresholds, shadow, opens) = rest;
            let expires_at = None;
            // Rarely, a key has the label of a group.
            let kind = match kind {
                KeyKind::Member if Labels::is_group(&key) => KeyKind::Group,
                KeyKind::Admin if Labels::is_group(&key) => KeyKind::Member,
                kind => kind,
            };
            let open = opens.filter(|_| kind == KeyKind::Group).map(|(open, bound)| {
                if let Some((window, requests)) = bound {
                    global.amounts.insert((window, Unit::Requests), Amount::Limited(requests));
                }
                open
            });
            Create {
                key,
                kind,
                plan,
                open,
                global,
                parallel,
                assets,
                other,
                budget,
                expires_at,
                time_zone,
                thresholds,
                shadow,
            }
        })
        .boxed()
}

/// The plan with which a group is open, and mostly a limit that bounds its requests.
fn opens(
    labels: &Labels,
) -> impl Strategy<Value = Option<(String, Option<(Window, u64)>)>> + use<> {
    let window =
        prop_oneof![2 => Just(Window::Minute), 1 => Just(Window::Hour), 4 => Just(Window::Day)];
    let bound = option::weighted(0.95, (window, 3_u64..=30));
    let opens = (planning::labels(), bound);
    if labels.open > 0.0 {
        option::weighted(labels.open, opens).boxed()
    } else {
        Just(None).boxed()
    }
}

/// Nothing, but for this share.
fn some<T: Clone + Default + std::fmt::Debug + 'static>(
    share: f64,
    values: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if share < 1.0 {
        option::weighted(share, values).prop_map(Option::unwrap_or_default).boxed()
    } else {
        values.boxed()
    }
}

fn update(labels: &Labels) -> BoxedStrategy<Update> {
    let lifts = labels.lifts();
    let global = || changes(without_budget(lifts));
    // Most updates change one thing: a history of them is easier to understand than one that changes all.
    let update = prop_oneof![
        4 => global().prop_map(|global| Update { global, ..Update::default() }),
        4 => changes(assets(lifts)).prop_map(|assets| Update { assets, ..Update::default() }),
        3 => changes(other(lifts)).prop_map(|other| Update { other, ..Update::default() }),
        2 => changes(budgets(lifts)).prop_map(|budget| Update { budget, ..Update::default() }),
        1 => changes(slots(lifts)).prop_map(|parallel| Update { parallel, ..Update::default() }),
        1 => changes(zones()).prop_map(|time_zone| Update { time_zone, ..Update::default() }),
        1 => changes(thresholds()).prop_map(|thresholds| Update { thresholds, ..Update::default() }),
        1 => weighted(0.3).prop_map(|shadow| Update { shadow: Some(shadow), ..Update::default() }),
        // Nothing, or the expiry alone.
        2 => Just(Update::default()),
        2 => (
            global(),
            changes(assets(lifts)),
            changes(other(lifts)),
            changes(budgets(lifts)),
            changes(thresholds()),
        )
            .prop_map(|(global, assets, other, budget, thresholds)| {
                Update { global, assets, other, budget, thresholds, ..Update::default() }
            }),
    ];
    let of_plan = planning::labels();
    let plan = changes(of_plan).prop_map(|plan| Update { plan, ..Update::default() });
    // Where keys have plans, they often change them.
    let update = match labels.plans {
        [] => update.boxed(),
        _ if labels.open > 0.0 => {
            let open = changes(planning::labels());
            let open = open.prop_map(|open| Update { open, ..Update::default() });
            prop_oneof![4 => update, 1 => plan, 2 => open].boxed()
        }
        _ => prop_oneof![4 => update, 1 => plan].boxed(),
    };
    let effective = effective();
    let version = prop_oneof![16 => Just(None), 1 => (1_u64..=4).prop_map(Some)];
    (labels.managed.clone(), effective, version, update)
        .prop_map(|(key, effective, version, update)| Update { key, effective, version, ..update })
        .boxed()
}

pub(super) fn effective() -> impl Strategy<Value = Effective> {
    prop_oneof![2 => Just(Effective::Next), 1 => Just(Effective::Now)]
}

pub(super) fn changes<T: Clone + std::fmt::Debug>(
    values: impl Strategy<Value = T>,
) -> impl Strategy<Value = Change<T>> {
    prop_oneof![2 => Just(Change::Keep), 3 => Just(Change::Clear), 10 => values.prop_map(Change::Set)]
}

fn expiries() -> impl Strategy<Value = Change<ClockStep>> {
    let expiries = prop_oneof![
        1 => Just(ClockStep::Forward(0)),
        1 => (1..=DAY_MS).prop_map(ClockStep::Back),
        2 => (1..=2 * MINUTE_MS).prop_map(ClockStep::Forward),
        2 => (1..=2 * DAY_MS).prop_map(ClockStep::Forward),
        1 => Just(ClockStep::Forward(END_OF_9999)),
    ];
    // An expired key answers nothing but that it has expired, which would hide all the rest.
    prop_oneof![20 => Just(Change::Keep), 3 => Just(Change::Clear), 2 => expiries.prop_map(Change::Set)]
}

/// Few limits are reached more often than many.
fn limits(lifts: u32) -> BoxedStrategy<Limits> {
    let window = prop_oneof![
        4 => Just(Window::Minute),
        1 => Just(Window::Hour),
        4 => Just(Window::Day),
        1 => Just(Window::Week),
        1 => Just(Window::Month),
        1 => Just(Window::Ever),
    ];
    let unit = prop_oneof![
        3 => Just(Unit::Requests),
        3 => Just(Unit::Tokens),
        1 => Just(Unit::InputTokens),
        2 => Just(Unit::OutputTokens),
        1 => Just(Unit::Credits),
    ];
    let limit = || (window.clone(), unit.clone());
    let limits = prop_oneof![
        24 => btree_map(limit(), amounts(lifts), 0..=3),
        4 => btree_map(limit(), amounts(lifts), 0..=12),
        1 => btree_map((select(&Window::ALL[..]), select(&Unit::ALL[..])), amounts(lifts), 11..=13),
    ];
    let parallel = option::weighted(0.1, slots(lifts));
    (limits, parallel).prop_map(|(amounts, parallel)| Limits { amounts, parallel }).boxed()
}

/// The budget and the parallel limit have fields of their own.
pub(super) fn without_budget(lifts: u32) -> impl Strategy<Value = Limits> {
    limits(lifts).prop_map(|Limits { mut amounts, .. }| {
        amounts.remove(&(Window::Ever, Unit::Credits));
        Limits { amounts, parallel: None }
    })
}

pub(super) fn assets(lifts: u32) -> BoxedStrategy<Assets> {
    let limits = prop_oneof![1 => Just(None), 8 => limits(lifts).prop_map(Some)];
    btree_map(select(ASSETS).prop_map(str::to_owned), limits, 0..=2).boxed()
}

pub(super) fn other(lifts: u32) -> impl Strategy<Value = Other> {
    prop_oneof![5 => limits(lifts).prop_map(Other::Limited), 1 => Just(Other::Denied)]
}

pub(super) fn zones() -> impl Strategy<Value = TimeZone> {
    select(ZONES).prop_map(|name| name.parse().expect("a name of the database"))
}

pub(super) fn thresholds() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        4 => vec(select(&[1, 50, 80, 99, 100][..]), 0..=3),
        1 => vec(0_u64..=101, 0..=5),
    ]
}

/// The asset of a call: mostly one that may have limits.
fn called() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        3 => Just(None),
        9 => select(ASSETS).prop_map(|asset| Some(asset.to_owned())),
        1 => Just(Some("made-up".to_owned())),
    ]
}

/// Numbers for limits: most are reached by a few calls.
fn amounts(lifts: u32) -> impl Strategy<Value = Amount> {
    or_lifted(lifts, prop_oneof![24 => 1_u64..=6, 2 => Just(0), 1 => extremes()])
}

/// Parallel limits: most are reached by a few reservations.
pub(super) fn slots(lifts: u32) -> BoxedStrategy<Amount> {
    or_lifted(lifts, prop_oneof![12 => 1_u64..=3, 2 => Just(0), 1 => extremes()])
}

/// A spent budget hides the rules behind it, so most last for a while.
pub(super) fn budgets(lifts: u32) -> impl Strategy<Value = Amount> {
    or_lifted(lifts, prop_oneof![2 => 0_u64..=3, 4 => 10_u64..=40, 1 => extremes()])
}

/// So many of a hundred limits are lifted.
fn or_lifted(lifts: u32, limits: impl Strategy<Value = u64> + 'static) -> BoxedStrategy<Amount> {
    let limited = limits.prop_map(Amount::Limited).boxed();
    if lifts == 0 {
        return limited;
    }
    Union::new_weighted(vec![(100 - lifts, limited), (lifts, Just(Amount::Unlimited).boxed())])
        .boxed()
}

/// Around the largest number, and around half of it, so that sums come to lie on both sides.
pub(super) fn extremes() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(LARGEST),
        Just(LARGEST - 1),
        Just(LARGEST / 2),
        Just(LARGEST / 2 + 1),
        Just(LARGEST + 1),
    ]
}

/// Zones with days of 23 and 25 hours, of half hours and quarters, without a midnight, and one that went without a day.
pub(super) const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
];
const ASSETS: &[&str] = &["m1", "m2", "global"];
