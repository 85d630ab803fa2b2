//! Settling and extending: the estimate is corrected to the actual cost, in the windows that admitted the call, and a running
//! stream asks for more.

use limiter_core::{DenialReason, MAX_COUNT, ReservationError, Totals};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // A surplus goes back to the minute and the day that the call was charged to. Requests stay, and absent totals are as
    // estimated. The same totals, all given, are the same settlement.
    suite.calls("a_settled_call_counts_its_actual_cost", |key| {
        let estimate = tokens(10, 50).with_requests(3).expect("within bounds");
        key.reserve("r1", estimate.with_credits(millionths(7))).uses([3, 60, 3, 60]);
        key.settle("r1", output(20)).settle("r1", input_and_output(10, 20)).uses([3, 30, 3, 30]);
        assert_eq!(key.spent(), 7);
        key.reserve("r2", estimate.with_credits(millionths(9))).cancel("r2").uses([3, 30, 3, 30]);
        assert_eq!(key.spent(), 7);
    });

    suite.calls("an_overrun_is_a_debt_until_the_window_ends", |key| {
        key.reserve("r1", tokens(0, 50)).settle("r1", output(150)).uses([1, 150, 1, 150]);
        assert!(!key.admits());
        key.after(MINUTE).uses([0, 0, 1, 150]);
        assert!(key.admits());
    });

    suite.calls("a_call_cancelled_late_gives_back_to_the_day", |key| {
        key.reserve("r1", tokens(10, 50)).after(MINUTE).reserve("r2", tokens(0, 5));
        key.cancel("r1").uses([1, 5, 1, 5]);
    });

    // A surplus is refunded at any time, and an overrun may pass the budget.
    suite.story("credits_are_settled_without_windows", |world| {
        let key = world.member(named("ci").with_budget(millionths(10)));
        key.reserve("r1", spend(6)).after(3 * DAY).settle("r1", credits(2));
        assert_eq!(key.spent(), 2);
        key.reserve("r2", spend(6)).settle("r2", credits(20));
        assert_eq!(key.spent(), 22);
        assert!(!key.admits());
    });

    // These limits were set after the call.
    suite.story("a_scope_that_did_not_count_the_call_counts_the_overrun", |world| {
        for (actual, counted) in [(10, 0), (50, 0), (70, 20)] {
            let key = world.member(named(&format!("key {actual}")));
            key.reserve("r1", tokens(0, 50)).update(|config| config.global = generous());
            key.settle("r1", output(actual)).uses([0, counted, 0, counted]);
        }
    });

    suite.story("a_scope_whose_limits_are_gone_is_skipped", |world| {
        let key = world.member(generous_config().with_asset(asset("m1"), requests_per_day(5)));
        key.reserve_for(3 * DAY, "r1", Some("m1"), tokens(0, 50));
        key.update(|config| config.assets.clear());
        key.after(DAY).settle("r1", output(60)).uses([0, 10, 0, 10]);
        assert!(key.usage().assets.is_empty());
    });

    // A step back of two minutes: the counts are carried over, but it is another minute. The day is the same.
    suite.calls("after_a_rebase_every_earlier_window_is_closed", |key| {
        key.reserve("r1", tokens(0, 50)).at(-120_000);
        key.reserve("r2", tokens(0, 5)).uses([2, 55, 2, 55]);
        key.settle("r1", output(10)).uses([2, 55, 2, 15]);
    });

    suite.calls("other_limits_do_not_change_what_is_given_back", |key| {
        let lower = limits(|it| it.requests_per_minute(1).tokens_per_day(1));
        key.reserve("r1", tokens(0, 50)).update(|config| config.global = lower);
        key.settle("r1", output(10)).uses([1, 10, 1, 10]);
    });

    // Its calls ran before it expired.
    suite.calls("an_expired_key_is_settled", |key| {
        key.reserve("r1", tokens(0, 50)).reserve("r2", tokens(0, 50));
        key.update(|config| config.expires_at = Some(NOON));
        key.settle("r1", output(10)).cancel("r2").uses([1, 10, 1, 10]);
    });

    // The caller has died. After the ttl the reservation is unknown.
    suite.calls("what_is_never_settled_stands_as_estimated", |key| {
        key.reserve_for(MINUTE, "r1", None, tokens(0, 50)).after(MINUTE);
        key.knows_no("r1").uses([0, 0, 1, 50]);
    });

    // Neither an extension nor a repetition prolongs it.
    suite.calls("a_ttl_runs_from_the_reservation", |key| {
        for id in ["extended", "repeated"] {
            key.reserve_for(2 * MINUTE, id, None, tokens(0, 5));
        }
        key.at(119_999).extend("extended", output(6));
        key.reserve_for(DAY, "repeated", None, tokens(0, 5)).at(120_000);
        key.knows_no("extended").knows_no("repeated");
    });

    // Absent totals count towards the sum. Nothing is settled.
    suite.calls("a_sum_above_the_largest_number_is_refused", |key| {
        key.reserve("r1", tokens(2, 0));
        let too_much = key.try_settle("r1", output(MAX_COUNT - 1));
        assert_refused!(too_much, ReservationError::Invalid(_));
        key.settle("r1", output(MAX_COUNT - 2)).uses([1, MAX_COUNT, 1, MAX_COUNT]);
    });

    // The caller gives the new totals; the difference is charged, without a request. No total may be below the old one.
    suite.calls("an_extension_charges_what_is_missing", |key| {
        key.reserve("r1", tokens(10, 20)).extend("r1", output(50)).uses([1, 60, 1, 60]);
        assert_refused!(key.try_extend("r1", input_and_output(9, 60)), ReservationError::Shrinks);
        key.settle("r1", input_and_output(3, 50)).uses([1, 53, 1, 53]);
    });

    // A limit of requests never denies an extension.
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
        key.reserve("r1", spend(4)).extend("r1", credits(10));
        let denied = key.try_extend("r1", credits(11)).expect("the reservation is known");
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

fn credits(amount: u64) -> Totals {
    Totals::unchanged().with_credits(millionths(amount))
}
