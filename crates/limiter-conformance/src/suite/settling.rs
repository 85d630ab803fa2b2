//! Settling and amending: the estimate is corrected to the actual cost, in the windows that admitted the call, and a running
//! stream asks for more or gives back.

use limiter_core::{DenialReason, MAX_COUNT, ReservationError, ScopeId, Totals, Unit, Window};

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

    // These limits were set after the call. Those of the day start at the account, which has counted it.
    suite.story("a_limit_that_did_not_count_the_call_counts_the_overrun", |world| {
        for (actual, counted) in [(10, 0), (50, 0), (70, 20)] {
            let key = world.member(named(&format!("key {actual}")));
            key.reserve("r1", tokens(0, 50)).update_now(|config| config.global = generous());
            key.settle("r1", output(actual)).uses([0, counted, 1, actual]);
            assert_eq!(used_of(&key.global(), Window::Day, Unit::Tokens), actual);
        }
    });

    suite.story("a_scope_whose_limits_are_gone_is_skipped", |world| {
        let key = world.member(generous_config().with_asset(asset("m1"), requests_per_day(5)));
        key.reserve_for(3 * DAY, "r1", Some("m1"), tokens(0, 50));
        key.update(|config| config.assets.clear());
        key.after(DAY).settle("r1", output(60)).uses([0, 10, 0, 10]);
        assert_eq!(key.scope(&ScopeId::asset(asset("m1"))), None);
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

    // Neither an amendment nor a repetition prolongs it.
    suite.calls("a_ttl_runs_from_the_reservation", |key| {
        for id in ["amended", "repeated"] {
            key.reserve_for(2 * MINUTE, id, None, tokens(0, 5));
        }
        key.at(119_999).amend("amended", output(6));
        key.reserve_for(DAY, "repeated", None, tokens(0, 5)).at(120_000);
        key.knows_no("amended").knows_no("repeated");
    });

    // Absent totals count towards the sum. Nothing is settled.
    suite.calls("a_sum_above_the_largest_number_is_refused", |key| {
        key.reserve("r1", tokens(2, 0));
        let too_much = key.try_settle("r1", output(MAX_COUNT - 1));
        assert_refused!(too_much, ReservationError::Invalid(_));
        key.settle("r1", output(MAX_COUNT - 2)).uses([1, MAX_COUNT, 1, MAX_COUNT]);
    });

    // A batch that made fewer calls than it reserved, or more.
    suite.calls("a_settlement_may_correct_the_requests", |key| {
        let requests = |count| Totals::unchanged().with_requests(count).expect("within bounds");
        key.reserve("r1", tokens(0, 5).with_requests(4).expect("within bounds"));
        key.reserve("r2", tokens(0, 5)).settle("r1", requests(1)).uses([2, 10, 2, 10]);
        key.after(MINUTE).settle("r2", requests(3)).uses([2, 0, 4, 10]);
        let settled = key.try_settle("r2", requests(3)).expect("it is known");
        assert_eq!(settled.charge.map(|charge| charge.requests()), Some(3));
    });

    // The caller gives the new totals; the difference is charged, without a request.
    suite.calls("an_amendment_charges_what_it_adds", |key| {
        key.reserve("r1", tokens(10, 20)).amend("r1", output(50)).uses([1, 60, 1, 60]);
        key.settle("r1", input_and_output(3, 50)).uses([1, 53, 1, 53]);
    });

    suite.calls("an_amendment_hands_back_at_once_what_it_takes_away", |key| {
        key.reserve("r1", tokens(30, 60)).amend("r1", output(10)).uses([1, 40, 1, 40]);
        key.amend("r1", input_and_output(0, 70)).uses([1, 70, 1, 70]);
        key.settle("r1", output(20)).uses([1, 20, 1, 20]);
    });

    // What it takes away is not there for others, and what it adds does not fit: nothing changes.
    suite.calls("an_amendment_is_made_as_a_whole_or_not_at_all", |key| {
        key.reserve("r1", tokens(50, 0)).reserve("r2", tokens(0, 40));
        let denied = key.try_amend("r1", input_and_output(0, 61)).expect("it is known");
        assert!(denied.denied().is_some(), "{denied:?}");
        key.uses([2, 90, 2, 90]).amend("r1", input_and_output(0, 60)).uses([2, 100, 2, 100]);
    });

    suite.calls("what_an_amendment_takes_away_never_lands_in_a_later_minute", |key| {
        key.reserve("r1", tokens(0, 50)).after(MINUTE).reserve("r2", tokens(0, 5));
        key.amend("r1", output(10)).uses([1, 5, 2, 15]);
    });

    suite.calls("an_amendment_that_is_repeated_changes_nothing_more", |key| {
        key.reserve("r1", tokens(0, 50));
        for _ in 0..3 {
            key.amend("r1", output(60)).uses([1, 60, 1, 60]);
        }
    });

    // A limit of requests never denies an amendment.
    suite.story("an_amendment_needs_no_request", |world| {
        let key = world.limited(requests_per_minute(1));
        key.reserve("r1", requests(1));
        assert!(!key.admits());
        key.amend("r1", output(50));
    });

    suite.calls("an_overrun_is_what_exceeds_the_amendment", |key| {
        key.reserve("r1", tokens(0, 20)).amend("r1", output(70)).after(MINUTE);
        key.settle("r1", output(80)).uses([0, 10, 1, 80]);
    });

    suite.story("an_amendment_asks_for_credits_too", |world| {
        let key = world.member(named("ci").with_budget(millionths(10)));
        key.reserve("r1", spend(4)).amend("r1", credits(10));
        let denied = key.try_amend("r1", credits(11)).expect("the reservation is known");
        assert!(matches!(reason(&denied), DenialReason::BudgetExhausted(_)));
        assert_eq!(key.spent(), 10);
    });

    // It may hand back.
    suite.calls("an_amendment_that_adds_is_denied_on_an_expired_key", |key| {
        key.reserve("r1", tokens(0, 20)).update(|config| config.expires_at = Some(NOON));
        let denied = key.try_amend("r1", output(30)).expect("the reservation is known");
        assert!(matches!(reason(&denied), DenialReason::KeyExpired { .. }));
        key.amend("r1", output(20)).uses([1, 20, 1, 20]).amend("r1", output(5)).uses([1, 5, 1, 5]);
    });

    suite.calls("what_has_ended_is_not_amended", |key| {
        key.reserve("r1", tokens(0, 20)).reserve("r2", tokens(0, 20));
        key.settle("r1", output(10)).cancel("r2");
        for id in ["r1", "r2"] {
            assert_refused!(key.try_amend(id, output(30)), ReservationError::AlreadySettled(_));
        }
        key.uses([1, 10, 1, 10]);
    });
}

fn credits(amount: u64) -> Totals {
    Totals::unchanged().with_credits(millionths(amount))
}
