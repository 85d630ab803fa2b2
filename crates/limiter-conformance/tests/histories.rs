//! Properties of every history.

use std::collections::{BTreeMap, BTreeSet};

use limiter_conformance::generate::{
    grouped_world, histories, histories_with_groups, histories_with_open_groups,
    histories_with_plans, histories_with_reservations, parallel_world, planned_world,
    reserved_world, small_world,
};
use limiter_conformance::model::{Bounds, Model};
use limiter_conformance::replay::{
    Action, Answer, Denial, Exceeded, KeyKind, Operation, Rule, read, to_jsonl,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

proptest! {
    #[test]
    fn the_model_answers_every_history_and_a_peek_as_the_check_after_it(
        history in prop_oneof![
            histories(1..60).boxed(),
            histories_with_groups(1..60).boxed(),
            histories_with_plans(1..60).boxed(),
            histories_with_open_groups(1..60).boxed(),
        ]
    ) {
        let mut model = Model::new();
        for operation in &history {
            if !model.specifies(operation) {
                continue;
            }
            let answer_to_peek = peeked(operation).map(|peek| model.answer(&peek));
            let answer = model.answer(operation);
            if let Some(peeked) = answer_to_peek {
                prop_assert_eq!(peeked, answer.clone());
            }
            let exceeded = match &answer {
                Answer::Denied(denial) => denial.exceeded().cloned(),
                _ => None,
            };
            if let Some(Exceeded { violated, binding, retry_at }) = exceeded {
                prop_assert!(violated.contains(&binding) && violated.is_sorted());
                prop_assert!(retry_at.is_none_or(|at| at > operation.at));
                // By then, a reservation may be forgotten.
                let is_call = matches!(operation.action, Action::Check(_) | Action::Peek(_));
                if let Some(at) = retry_at.filter(|_| is_call) {
                    let mut later = model.clone();
                    // A peek does not write the rebase, the first check does.
                    later.answer(&checked(operation));
                    let retried = later.answer(&Operation { at, ..checked(operation) });
                    let is_allowed = matches!(retried, Answer::Allowed { .. } | Answer::Shadowed { .. });
                    // By then, the state of an unregistered key may be gone, and such a call makes none.
                    let is_gone = retried == Answer::Denied(Denial::UnknownKey)
                        && remembers_without_a_request(&operation.action);
                    prop_assert!(is_allowed || is_gone, "{:?}", retried);
                }
            }
        }
    }

    #[test]
    fn what_is_written_reads_the_same(
        history in prop_oneof![
            histories_with_reservations(1..30).boxed(),
            histories_with_groups(1..30).boxed(),
            histories_with_plans(1..30).boxed(),
            histories_with_open_groups(1..30).boxed(),
        ]
    ) {
        for (line, operation) in to_jsonl(&history).lines().zip(&history) {
            prop_assert_eq!(&read(line).unwrap(), operation);
        }
    }
}

#[test]
fn the_small_world_has_every_short_history_once() {
    assert_eq!(small_world(0).count(), 1);
    assert_eq!(small_world(2).count(), 1 + 19 + 19 * 19);
    assert_eq!(small_world(3).count(), 7_240);
}

#[test]
fn the_small_world_meets_every_kind_of_denial() {
    let (mut histories, mut limited, mut exhausted, mut never) = (0, 0, 0, 0);
    for history in small_world(3) {
        let mut model = Model::new();
        histories += 1;
        for operation in &history {
            match model.answer(operation) {
                Answer::Denied(Denial::RateLimited(Exceeded { retry_at: None, .. })) => never += 1,
                Answer::Denied(Denial::RateLimited(_)) => limited += 1,
                Answer::Denied(Denial::BudgetExhausted(_)) => exhausted += 1,
                Answer::Error(problem) => panic!("{problem:?}:\n{}", to_jsonl(&history)),
                _ => {}
            }
        }
    }
    println!(
        "{histories} histories: {limited} denials with a retry, {never} without, {exhausted} for the budget"
    );
    assert!(limited > 0 && never > 0 && exhausted > 0);
}

/// A history that meets only errors would prove nothing.
#[test]
fn reservations_meet_every_kind_of_answer() {
    for (name, histories) in with_reservations() {
        let mut met = BTreeMap::new();
        for history in &histories {
            let mut model = Model::new();
            for operation in history {
                let kind = if model.specifies(operation) {
                    kind(&operation.action, &model.answer(operation))
                } else {
                    "unspecified".to_owned()
                };
                *met.entry(kind).or_insert(0) += 1;
            }
        }
        println!("{name}: {met:#?}");
        for expected in [
            "reserve allowed",
            "reserve replayed",
            "reserve denied",
            "reserve AlreadyExists",
            "amend allowed",
            "amend denied",
            "amend UnknownReservation",
            "amend AlreadySettled",
            "settle ok",
            "settle UnknownReservation",
            "settle AlreadySettled",
            "cancel ok",
            "cancel UnknownReservation",
            "cancel AlreadySettled",
            "check allowed",
            "check replayed",
            "check denied",
        ] {
            // Each letter of the enumerated world has one figure for each operation.
            let never = name == "enumerated" && expected == "reserve AlreadyExists";
            assert!(never || met.contains_key(expected), "{name} histories never meet: {expected}");
        }
    }
}

/// Nor would one whose groups deny and spare nothing.
#[test]
fn groups_meet_every_kind_of_answer() {
    let random = some(histories_with_groups(1..60), 300);
    for (name, histories) in [("random", random), ("enumerated", grouped_world(3).collect())] {
        let mut met = BTreeMap::new();
        for history in &histories {
            let mut model = Model::new();
            for operation in history.iter() {
                if !model.specifies(operation) {
                    continue;
                }
                for kind in kinds_of_groups(&operation.action, &model.answer(operation)) {
                    *met.entry(kind).or_insert(0) += 1;
                }
            }
        }
        println!("{name}: {met:#?}");
        let in_both = [
            "check allowed at 2 levels",
            "check allowed at 3 levels",
            "check denied by a group",
            "check denied by several levels",
            "check denies an asset by a group",
            "check shadowed and charged",
            "reserve shadowed and charged",
            "amend denied by a group",
            "amend shadowed",
            "a threshold of a group",
        ];
        let in_random = [
            "check allowed at 1 levels",
            "check allowed at 4 levels",
            "check shadowed",
            "check expired by a group",
            "a group is called",
            "create NoGroup",
            "delete NotEmpty",
            "create AlreadyExists",
            "a group is created",
        ];
        let in_random = in_random.iter().filter(|_| name == "random");
        for expected in in_both.iter().chain(in_random) {
            assert!(met.contains_key(*expected), "{name} histories never meet: {expected}");
        }
    }
}

/// Returns what an answer shows of groups.
fn kinds_of_groups(action: &Action, answer: &Answer) -> Vec<String> {
    let operation = name_of(action);
    let mut kinds = Vec::new();
    match answer {
        Answer::Allowed { .. } => {
            let levels = action.key().map_or(0, |key| key.split('/').count());
            kinds.push(format!("{operation} allowed at {levels} levels"));
        }
        Answer::Denied(Denial::UnknownKey) if matches!(action.key(), Some("g" | "g/t")) => {
            kinds.push("a group is called".to_owned());
        }
        Answer::Denied(Denial::ExpiredKey { group: Some(_) }) => {
            kinds.push(format!("{operation} expired by a group"));
        }
        Answer::Denied(Denial::AssetDenied { group: Some(_) }) => {
            kinds.push(format!("{operation} denies an asset by a group"));
        }
        Answer::Denied(denial) => {
            let violated = denial.exceeded().map_or(&[][..], |it| &it.violated);
            let mut groups: Vec<_> = violated.iter().map(|it| &it.group).collect();
            groups.dedup();
            if groups.iter().any(|group| group.is_some()) {
                kinds.push(format!("{operation} denied by a group"));
            }
            if groups.len() > 1 {
                kinds.push(format!("{operation} denied by several levels"));
            }
        }
        Answer::Shadowed { charged: Some(_), .. } => {
            kinds.push(format!("{operation} shadowed and charged"));
        }
        Answer::Shadowed { charged: None, .. } => kinds.push(format!("{operation} shadowed")),
        Answer::Error(problem) => kinds.push(format!("{operation} {problem:?}")),
        Answer::Ok if matches!(action, Action::Create(create) if create.kind == KeyKind::Group) => {
            kinds.push("a group is created".to_owned());
        }
        _ => {}
    }
    if answer.crossed().iter().any(|crossed| crossed.group.is_some()) {
        kinds.push("a threshold of a group".to_owned());
    }
    kinds
}

/// Nor would one in which no change of a plan ever reaches a key.
#[test]
fn plans_meet_every_kind_of_answer() {
    let random = some(histories_with_plans(1..60), 400);
    for (name, histories) in [("random", random), ("enumerated", planned_world(3).collect())] {
        let mut met = BTreeMap::<String, usize>::new();
        for history in &histories {
            // A second model never changes a plan: where its answers differ, a changed plan took effect.
            let (mut model, mut stays) = (Model::new(), Model::new());
            let mut plans = BTreeSet::new();
            for operation in history {
                if !model.specifies(operation) {
                    continue;
                }
                let answer = model.answer(operation);
                let kind = match (&operation.action, &answer) {
                    (Action::Plan(_) | Action::DeletePlan { .. }, Answer::Error(problem)) => {
                        format!("a plan {problem:?}")
                    }
                    (Action::Update(_) | Action::Create(_), Answer::Error(problem)) => {
                        format!("{} {problem:?}", name_of(&operation.action))
                    }
                    (Action::DeletePlan { .. }, _) => "a plan is deleted".to_owned(),
                    (Action::Plan(plan), _) => {
                        if !plans.insert(plan.plan.clone()) {
                            format!("a plan is changed {:?}", plan.effective)
                        } else {
                            stays.answer(operation);
                            continue;
                        }
                    }
                    _ => String::new(),
                };
                let fired = |model: &mut Model| {
                    model.answer(&Operation { action: Action::Events {}, ..operation.clone() })
                };
                if kind.is_empty() && stays.answer(operation) != answer {
                    *met.entry(format!("{} differs", name_of(&operation.action))).or_default() += 1;
                }
                let is_call = matches!(operation.action, Action::Check(_) | Action::Reserve(_));
                if let (Answer::Events(events), true) = (fired(&mut model), is_call)
                    && events.len() > answer.crossed().len()
                {
                    *met.entry("a plan fires".to_owned()).or_default() += 1;
                }
                *met.entry(kind).or_default() += 1;
            }
        }
        println!("{name}: {met:#?}");
        let in_both = [
            "a plan is changed Next",
            "a plan is changed Now",
            "check differs",
            "reserve differs",
            "other differs",
            "a plan fires",
        ];
        let in_random = [
            "a plan InUse",
            "a plan NoPlan",
            "a plan is deleted",
            "create NoPlan",
            "update NoPlan",
        ];
        let in_random = in_random.iter().filter(|_| name == "random");
        for expected in in_both.iter().chain(in_random) {
            assert!(met.contains_key(*expected), "{name} histories never meet: {expected}");
        }
    }
}

/// Nor would one that never meets a parallel limit, or whose slots never come back.
#[test]
fn reservations_meet_parallel_limits_and_slots_come_back() {
    let unbounded = Bounds::default();
    for (name, histories) in
        [("random", random(400)), ("enumerated", parallel_world(2).collect::<Vec<_>>())]
    {
        let mut met = BTreeMap::<&str, usize>::new();
        for history in histories {
            let (mut model, mut is_full) = (Model::bounded(unbounded), false);
            for operation in &history {
                if !model.specifies(operation) {
                    continue;
                }
                let answer = model.answer(operation);
                let (denial, is_shadowed) = match &answer {
                    Answer::Denied(denial) => (Some(denial), false),
                    Answer::Shadowed { denial, .. } => (Some(denial), true),
                    _ => (None, false),
                };
                let exceeded = denial.and_then(|denial| denial.exceeded());
                let parallel =
                    exceeded.filter(|it| it.violated.iter().any(|it| it.rule.is_parallel()));
                let mut sees = |what| *met.entry(what).or_default() += 1;
                match (parallel, &operation.action, &answer) {
                    (Some(_), ..) if is_shadowed => sees("shadowed"),
                    (Some(it), ..) if it.violated.len() > 1 => sees("with others"),
                    (Some(it), ..) => {
                        sees(if it.retry_at.is_some() { "full" } else { "never" });
                        is_full = true;
                    }
                    (
                        None,
                        Action::Reserve(_),
                        Answer::Allowed { replayed: false, remaining, .. },
                    ) if is_full && remaining.0.iter().any(|(it, _)| it.rule.is_parallel()) => {
                        sees("free again");
                    }
                    _ => {}
                }
            }
        }
        let never = if name == "random" { "" } else { "with others" };
        for expected in ["full", "never", "shadowed", "free again", "with others"] {
            assert!(met.contains_key(expected) || expected == never, "{name}: {expected}: {met:?}");
        }
    }
}

/// Nor would one that never meets its small bounds, or is never admitted again.
#[test]
fn reservations_meet_small_bounds_and_find_room_again() {
    let (random, one) = (random(100), Bounds { open: 1, ended: 1, checks: 1 });
    let met = met_at(one, reserved_world(2));
    assert!(met.contains_key("reserve TooMany"));
    for bounds in [Bounds { ended: 2, ..one }, Bounds { open: 2, ..one }] {
        let met = met_at(bounds, random.iter().cloned());
        for expected in ["reserve TooMany", "reserve allowed again", "check TooMany"] {
            assert!(met.contains_key(expected), "{bounds:?} never meet: {expected}");
        }
    }
}

/// Counts the kinds of answers that histories get with these bounds.
fn met_at(
    bounds: Bounds,
    histories: impl Iterator<Item = Vec<Operation>>,
) -> BTreeMap<String, usize> {
    let mut met = BTreeMap::new();
    for history in histories {
        let (mut model, mut refused) = (Model::bounded(bounds), false);
        for operation in &history {
            if !model.specifies(operation) {
                continue;
            }
            let mut kind = kind(&operation.action, &model.answer(operation));
            refused |= kind == "reserve TooMany";
            if refused && kind == "reserve allowed" {
                kind += " again";
            }
            *met.entry(kind).or_insert(0) += 1;
        }
    }
    println!("{bounds:?}: {met:#?}");
    met
}

/// Nor would one that reaches no threshold.
#[test]
fn reservations_fire_thresholds_at_each_of_their_steps() {
    let mut met = BTreeMap::new();
    for (_, histories) in with_reservations() {
        for history in &histories {
            let mut model = Model::new();
            for operation in history {
                for crossed in model.answer(operation).crossed() {
                    let is_budget = crossed.rule == Rule::BUDGET;
                    let limit = if is_budget { "the budget" } else { "a rule" };
                    let fires = format!("{} fires for {limit}", name_of(&operation.action));
                    *met.entry(fires).or_insert(0) += 1;
                }
            }
        }
    }
    println!("{met:#?}");
    for operation in ["check", "reserve", "amend", "settle", "update"] {
        for limit in ["a rule", "the budget"] {
            let expected = format!("{operation} fires for {limit}");
            assert!(met.contains_key(&expected), "histories never meet: {expected}");
        }
    }
}

/// Random histories, and all short ones of the enumerated world.
fn with_reservations() -> [(&'static str, Vec<Vec<Operation>>); 2] {
    [("random", random(600)), ("enumerated", reserved_world(3).collect())]
}

fn random(histories: usize) -> Vec<Vec<Operation>> {
    some(histories_with_reservations(1..60), histories)
}

fn some(random: impl Strategy<Value = Vec<Operation>>, histories: usize) -> Vec<Vec<Operation>> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    (0..histories).map(|_| random.new_tree(&mut runner).unwrap().current()).collect()
}

fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Reserve(_) => "reserve",
        Action::Amend(_) => "amend",
        Action::Settle(_) => "settle",
        Action::Cancel { .. } => "cancel",
        Action::Update(_) => "update",
        Action::Create(_) => "create",
        Action::Delete { .. } => "delete",
        Action::Check(_) => "check",
        _ => "other",
    }
}

fn kind(action: &Action, answer: &Answer) -> String {
    let operation = name_of(action);
    match answer {
        Answer::Allowed { replayed: true, .. } => format!("{operation} replayed"),
        Answer::Allowed { .. } => format!("{operation} allowed"),
        Answer::Denied(_) => format!("{operation} denied"),
        Answer::Error(problem) => format!("{operation} {problem:?}"),
        Answer::TooMany { .. } => format!("{operation} TooMany"),
        Answer::Shadowed { .. } => format!("{operation} shadowed"),
        _ => format!("{operation} ok"),
    }
}

/// Returns whether a call has an id and makes no request: an unregistered key without state refuses it.
fn remembers_without_a_request(action: &Action) -> bool {
    matches!(action, Action::Check(call) if call.requests == 0 && call.request_id.is_some())
}

/// Returns a peek at the same call.
fn peeked(operation: &Operation) -> Option<Operation> {
    match &operation.action {
        // A repeated id is answered otherwise.
        Action::Check(call) if call.request_id.is_none() => {
            Some(Operation { at: operation.at, action: Action::Peek(call.clone()) })
        }
        _ => None,
    }
}

/// Returns a check of the same call.
fn checked(operation: &Operation) -> Operation {
    match &operation.action {
        Action::Peek(call) => Operation { at: operation.at, action: Action::Check(call.clone()) },
        _ => operation.clone(),
    }
}
