//! Repeating: a call whose answer was lost is sent again and counts once. Recording: a call that was admitted elsewhere
//! is counted once, also above the limits.

use std::time::Duration;

use limiter_core::{Charge, DenialReason, ReservationError, SettledAs, Totals, Unit, Window};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // "Settle and cancel answer `actual` and what was charged by it, so that a caller can bill."
    suite.calls("the_final_charge_is_answered_and_once_as_the_first", |key| {
        let estimate = tokens(3, 5).with_requests(2).expect("within bounds");
        key.reserve_for(DAY, "r1", Some("m1"), estimate).reserve("r2", estimate);
        let actual = output(7).with_credits(millionths(9));
        let charge = estimate.with_tokens(3, 7).expect("within bounds").with_credits(millionths(9));
        key.amend("r1", output(6));
        for outcome in [SettledAs::First, SettledAs::Repeated, SettledAs::Repeated] {
            let settled = key.try_settle("r1", actual).expect("the reservation is known");
            assert_eq!((settled.asset, settled.charge), (Some(asset("m1")), Some(charge)));
            assert_eq!((settled.outcome, settled.at), (outcome, Some(NOON)));
        }
        for outcome in [SettledAs::First, SettledAs::Repeated] {
            let cancelled = key.try_cancel("r2").expect("the reservation is known");
            assert_eq!((cancelled.asset, cancelled.charge), (None, Some(Charge::NOTHING)));
            assert_eq!((cancelled.outcome, cancelled.crossed), (outcome, Vec::new()));
        }
    });

    // A later settlement is refused, also one at zero, which would count the request.
    suite.calls("a_cancel_is_final", |key| {
        key.reserve("r1", tokens(0, 50)).cancel("r1").cancel("r1").cancel("r1");
        assert_refused!(key.try_settle("r1", output(0)), ReservationError::AlreadySettled(_));
        key.uses([0, 0, 0, 0]);
    });

    // Also with another ttl, after an amendment or the settlement, or when the key has expired.
    suite.calls("a_repeated_reservation_is_replayed", |key| {
        key.reserve("r1", tokens(0, 50));
        for step in 0..4 {
            match step {
                1 => drop(key.amend("r1", output(60))),
                2 => drop(key.settle("r1", output(40))),
                3 => drop(key.update(|config| config.expires_at = Some(NOON))),
                _ => {}
            }
            let before = key.used();
            let again = key.try_reserve("r1", None, tokens(0, 50), MINUTE);
            assert!(is_replayed(&again.expect("the figures are the same")), "step {step}");
            key.uses(before);
        }
    });

    suite.calls("a_replay_answers_the_current_state", |key| {
        let reserve = || key.try_reserve("r1", None, tokens(0, 50), DAY).expect("as before");
        assert!(is_new(&reserve()));
        key.reserve("r2", tokens(0, 30));
        assert!(reserve().rules().map(|rule| rule.remaining).eq([8, 20, 920]));
    });

    // The caller has made a mistake.
    suite.calls("a_known_id_with_another_call_is_refused", |key| {
        key.reserve("r1", tokens(1, 50));
        let refused = |called, estimate| {
            let other = key.try_reserve("r1", called, estimate, DAY);
            assert_refused!(other, ReservationError::OtherExists(_));
        };
        refused(Some("m1"), tokens(1, 50));
        for estimate in [tokens(1, 51), tokens(51, 0), requests(1)] {
            refused(None, estimate);
        }
        key.amend("r1", output(60));
        refused(None, tokens(1, 60));
    });

    suite.calls("an_id_is_free_after_its_ttl", |key| {
        let ttl = Duration::from_secs(1);
        key.reserve_for(ttl, "r1", None, tokens(0, 50)).after(ttl);
        let again = key.try_reserve("r1", None, tokens(0, 7), ttl).expect("the id is free");
        assert!(is_new(&again));
        // The second reservation is settled.
        key.settle("r1", output(1)).uses([2, 51, 2, 51]);
    });

    // The dedupe time runs from the end of the reservation, also if its ttl is longer.
    suite.calls("an_id_is_free_after_the_dedupe_time", |key| {
        key.reserve("r1", tokens(0, 50)).settle("r1", output(20)).after(2 * MINUTE);
        let again = key.try_reserve("r1", None, tokens(0, 7), DAY).expect("the id is free");
        assert!(is_new(&again));
        key.uses([1, 7, 2, 27]);
    });

    // "Only admitted calls are remembered."
    suite.calls("a_denied_call_is_not_remembered", |key| {
        let denied = key.try_reserve("r1", None, tokens(0, 101), DAY);
        assert!(denied.is_ok_and(|decision| !decision.is_allowed()));
        key.knows_no("r1").reserve("r1", tokens(0, 100));
        assert!(!key.check_once("q1", None, tokens(0, 5)).is_allowed());
        key.settle("r1", output(50));
        assert!(is_new(&key.check_once("q1", None, tokens(0, 5))));
    });

    // Each key has its own ids, too.
    suite.calls("ids_of_checks_and_reservations_are_separate", |key| {
        assert!(is_new(&key.check_once("same", None, tokens(0, 5))));
        key.knows_no("same").reserve("same", tokens(0, 50)).uses([2, 55, 2, 55]);
        let other = key.world.member(named("other").with_global(generous()));
        other.knows_no("same");
        assert!(is_new(&other.check_once("same", None, tokens(0, 5))));
        key.uses([2, 55, 2, 55]).cancel("same");
        assert!(is_replayed(&key.check_once("same", None, tokens(0, 5))));
    });

    // Operations that decide answer a denial, the others an error.
    suite.calls("a_deleted_key_is_unknown_to_all", |key| {
        key.reserve("r1", tokens(0, 50));
        assert!(is_new(&key.check_once("q1", None, tokens(0, 5))));
        key.delete();
        for decision in [
            key.try_reserve("r1", None, tokens(0, 50), DAY),
            key.try_amend("r1", output(60)),
            key.try_check_once("q1", None, tokens(0, 5)),
        ] {
            let decision = decision.expect("it is a denial");
            assert_eq!(reason(&decision), &DenialReason::KeyUnknown);
        }
        let settled = key.try_settle("r1", Totals::unchanged());
        assert_refused!(settled, ReservationError::KeyUnknown);
        assert_refused!(key.try_cancel("r1"), ReservationError::KeyUnknown);
    });

    // The excess over the limits stands as debt until the window ends.
    suite.calls("what_was_admitted_elsewhere_counts_past_the_limits", |key| {
        let charge = requests(12).with_tokens(100, 50).expect("within bounds");
        key.record("r1", charge).uses([12, 150, 12, 150]);
        assert!(!key.admits());
        key.after(MINUTE).uses([0, 0, 12, 150]);
        assert!(key.admits());
    });

    // Only the id identifies a record, for as long as the caller asked, which may exceed the dedupe time. Ids of checks are
    // separate.
    suite.calls("what_is_recorded_again_counts_once", |key| {
        for charge in [tokens(0, 5), tokens(0, 5), requests(7)] {
            key.record("r1", charge);
        }
        key.uses([1, 5, 1, 5]);
        assert!(is_new(&key.check_once("r1", None, tokens(0, 9))));
        key.uses([2, 14, 2, 14]);
        let day = 86_400_000;
        for (ms, tokens_of_the_day) in [(120_001, 14), (day - 1, 0), (day, 5)] {
            let used = key.at(ms).record("r1", tokens(0, 5)).used();
            assert_eq!(used[3], tokens_of_the_day, "{ms} ms after noon");
        }
    });

    // A caller that records often does not fill the bound, and a late repetition is still recognised.
    suite.calls("what_a_later_record_confirms_is_forgotten_after_the_dedupe_time", |key| {
        key.record("r1", requests(1));
        for (id, confirms) in [("r2", "r1"), ("r3", "never recorded")] {
            key.try_record(id, None, requests(1), Some(confirms)).expect("it is never refused");
        }
        for (ms, requests_of_the_day) in [(119_999, 3), (120_000, 4)] {
            key.at(ms);
            for id in ["r1", "r2", "r3"] {
                key.record(id, requests(1));
            }
            assert_eq!(key.used()[2], requests_of_the_day, "{ms} ms after noon");
        }
    });

    suite.story("what_was_admitted_elsewhere_counts_in_each_scope", |world| {
        let config = generous_config().with_asset(asset("m1"), requests_per_minute(1));
        let key = world.member(config);
        for (id, called, charge) in [("r1", "m1", requests(3)), ("r2", "made up", requests(2))] {
            key.try_record(id, Some(called), charge, None).expect("the key is known");
        }
        let used = [key.global(), key.asset("m1")];
        let used = used.map(|scope| used_of(&scope, Window::Minute, Unit::Requests));
        assert_eq!(used, [5, 3]);
    });

    suite.story("what_was_admitted_elsewhere_counts_on_an_expired_key_without_budget", |world| {
        let config = generous_config().with_budget(millionths(10));
        let key = world.member(config.with_expiry(NOON));
        key.record("r1", requests(1).with_credits(millionths(25))).uses([1, 0, 1, 0]);
        assert_eq!(key.spent(), 25);
    });

    suite.story("what_was_admitted_elsewhere_of_an_unknown_key_is_refused", |world| {
        let recorded = world.key(key_id("nobody")).try_record("r1", None, requests(1), None);
        assert_refused!(recorded, ReservationError::KeyUnknown);
    });
}
