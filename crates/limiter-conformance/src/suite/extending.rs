//! Extending: a running stream asks for more.

use limiter_core::{DenialReason, ReservationError, Totals};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // The new totals are given, and the difference is charged, without a request.
    suite.calls("an_extension_charges_what_is_missing", |key| {
        key.reserve("r1", tokens(10, 20)).extend("r1", output(50)).uses([1, 60, 1, 60]);
    });

    // Not even where another total is above the old one.
    suite.calls("an_extension_never_shrinks", |key| {
        key.reserve("r1", tokens(10, 20));
        assert_refused!(key.try_extend("r1", input_and_output(9, 30)), ReservationError::Shrinks);
        key.uses([1, 30, 1, 30]);
    });

    // So no limit of requests denies it.
    suite.story("an_extension_needs_no_request", |world| {
        let key = world.limited(requests_per_minute(1));
        key.reserve("r1", requests(1));
        assert!(!key.admits());
        key.extend("r1", output(50));
    });

    suite.calls("an_overrun_is_what_exceeds_the_extension", |key| {
        key.reserve("r1", tokens(0, 20)).extend("r1", output(70)).after(MINUTE);
        key.settle("r1", output(80)).uses([0, 10, 1, 80]);
    });

    suite.story("an_extension_asks_for_credits_too", |world| {
        let key = world.member(named("ci").with_budget(millionths(10)));
        let to = |amount| Totals::unchanged().with_credits(millionths(amount));
        key.reserve("r1", spend(4)).extend("r1", to(10));
        let denied = key.try_extend("r1", to(11)).expect("the reservation is known");
        assert!(matches!(reason(&denied), DenialReason::BudgetExhausted { .. }));
        assert_eq!(key.spent(), 10);
    });

    // Not even if nothing is missing.
    suite.calls("an_expired_key_extends_nothing", |key| {
        key.reserve("r1", tokens(0, 20)).update(|config| config.expires_at = Some(NOON));
        for to in [20, 30] {
            let denied = key.try_extend("r1", output(to)).expect("the reservation is known");
            assert!(matches!(reason(&denied), DenialReason::KeyExpired { .. }));
        }
        key.uses([1, 20, 1, 20]);
    });

    suite.calls("what_has_ended_is_not_extended", |key| {
        key.reserve("r1", tokens(0, 20)).reserve("r2", tokens(0, 20));
        key.settle("r1", output(10)).cancel("r2");
        for id in ["r1", "r2"] {
            assert_refused!(key.try_extend(id, output(30)), ReservationError::AlreadySettled(_));
        }
        key.uses([1, 10, 1, 10]);
    });
}
