//! Random operations on reservations, and checks with a request id.

use proptest::option;
use proptest::prelude::*;

use crate::replay::{Action, Call, LARGEST, Reserve, Totals};

use super::clock::{DAY_MS, MINUTE_MS};
use super::labels::Labels;
use super::random::{calls, extremes};

pub(super) fn actions(labels: &Labels) -> BoxedStrategy<Action> {
    prop_oneof![
        10 => (estimates(labels), ids(), ttls())
            .prop_map(|(estimate, id, ttl_ms)| Action::Reserve(Reserve { estimate, id, ttl_ms })),
        6 => totals(labels).prop_map(Action::Amend),
        7 => totals(labels).prop_map(Action::Settle),
        3 => (labels.called.clone(), ids()).prop_map(|(key, id)| Action::Cancel { key, id }),
        6 => (calls(labels), ids())
            .prop_map(|(call, id)| Action::Check(Call { request_id: Some(id), ..call })),
    ]
    .boxed()
}

/// Half of them are alike, so that a known id is often repeated with the same figures.
fn estimates(labels: &Labels) -> BoxedStrategy<Call> {
    let alike = calls(labels).prop_map(|call| Call {
        requests: 1,
        input: 1,
        output: 2,
        credits: 1,
        ..call
    });
    prop_oneof![alike, calls(labels)].boxed()
}

fn totals(labels: &Labels) -> BoxedStrategy<Totals> {
    let number = || prop_oneof![12 => 0_u64..=3, 6 => 4_u64..=9, 1 => extremes()];
    let total = move || option::weighted(0.7, number());
    let requests = option::weighted(0.2, 0_u64..=3);
    (labels.called.clone(), ids(), requests, total(), total(), total())
        .prop_map(|(key, id, requests, input, output, credits)| Totals {
            key,
            id,
            requests,
            input,
            output,
            credits,
        })
        .boxed()
}

/// Mostly the first, for the same reason as with keys; few are out of bounds.
fn ids() -> impl Strategy<Value = String> {
    prop_oneof![30 => Just("r1"), 12 => Just("r2"), 4 => Just("r3"), 1 => Just("")]
        .prop_map(str::to_owned)
}

/// A history seldom lasts longer than some days.
fn ttls() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => Just(DAY_MS),
        8 => Just(30 * DAY_MS),
        4 => Just(MINUTE_MS),
        2 => 1_u64..=1_000,
        2 => Just(LARGEST),
        1 => Just(0),
        1 => Just(LARGEST + 1),
    ]
}
