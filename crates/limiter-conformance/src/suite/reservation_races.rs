//! The same operation, repeated by many callers at once, counts once; and totals do not depend on the order of answers.

use limiter_core::{Decision, ReservationError};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.calls("a_reservation_is_charged_once", |key| {
        for id in ids() {
            let reserve = |_| key.try_reserve(&id, None, tokens(0, 3), DAY);
            assert_eq!(charged(at_once(CALLERS, reserve)), 1);
            key.cancel(&id);
        }
        key.uses([0, 0, 0, 0]);
    });

    // All calls succeed, exactly one of them as the first.
    suite.calls("a_settlement_counts_once", |key| {
        for id in ids() {
            key.reserve(&id, tokens(0, 20));
            let settled = at_once(CALLERS, |_| key.try_settle(&id, output(1)));
            let firsts = settled.iter().flatten().filter(|settled| settled.is_first()).count();
            assert_eq!((settled.iter().all(Result::is_ok), firsts), (true, 1), "{settled:?}");
        }
        key.uses([ROUNDS; 4]);
    });

    // Half settle and half cancel.
    suite.calls("a_settlement_and_a_cancel_do_not_both_count", |key| {
        for id in ids() {
            let before = key.used();
            key.reserve(&id, tokens(0, 20));
            let ended = at_once(CALLERS, |caller| match caller % 2 {
                0 => key.try_settle(&id, output(1)),
                _ => key.try_cancel(&id),
            });
            let refused = ended.iter().filter_map(|ended| ended.as_ref().err());
            let refused = refused.filter(|it| matches!(it, ReservationError::AlreadySettled(_)));
            assert_eq!(refused.count(), CALLERS / 2);
            let added = u64::from(key.try_settle(&id, output(1)).is_ok());
            key.uses(before.map(|count| count + added));
        }
    });

    suite.calls("an_amendment_is_charged_once", |key| {
        key.reserve("r1", tokens(0, 2));
        for to in 3..3 + ROUNDS {
            let decisions = at_once(CALLERS, |_| key.try_amend("r1", output(to)));
            assert_eq!(charged(decisions), CALLERS, "an amendment is never flagged");
            key.uses([1, to, 1, to]);
        }
    });

    // A retry may overtake the call that it repeats.
    suite.calls("a_check_with_an_id_is_charged_once", |key| {
        for id in ids() {
            let check = |_| key.try_check_once(&id, None, tokens(0, 3));
            assert_eq!(charged(at_once(CALLERS, check)), 1);
        }
        key.uses([ROUNDS, 3 * ROUNDS, ROUNDS, 3 * ROUNDS]);
    });

    // Each caller reserves, amends and settles a call, and repeats each step.
    suite.calls("totals_are_exact_however_answers_are_repeated", |key| {
        at_once(CALLERS, |caller| {
            let id = format!("r{caller}");
            for _ in 0..3 {
                key.reserve_for(DAY, &id, None, tokens(1, 2));
            }
            for _ in 0..3 {
                key.amend(&id, output(4));
            }
            for _ in 0..3 {
                key.settle(&id, output(3));
            }
        });
        let calls = CALLERS as u64;
        key.uses([calls, 4 * calls, calls, 4 * calls]);
    });

    // Within the windows that admitted them.
    suite.story("totals_do_not_depend_on_the_order", |world| {
        let actual = [0, 3, 9, 20];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let world = world.with_bounds(limiter_core::LedgerBounds::default());
            let key = world.generous();
            for call in order {
                key.reserve(&format!("r{call}"), tokens(0, 9));
            }
            for call in order.into_iter().rev().chain(order) {
                key.settle(&format!("r{call}"), output(actual[call]));
            }
            key.uses([4, 32, 4, 32]);
        }
    });
}

/// How many were allowed and not marked as repetitions.
fn charged(decisions: Vec<Result<Decision, ReservationError>>) -> usize {
    let decisions = decisions.into_iter().map(|decision| decision.expect("the store answers"));
    decisions.filter(is_new).count()
}

fn ids() -> impl Iterator<Item = String> {
    (0..ROUNDS).map(|round| format!("r{round}"))
}

/// As many as the limit of requests has room for.
const ROUNDS: u64 = 9;
