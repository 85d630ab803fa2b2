//! Shadow mode: a call that would be denied for a limit or the budget is let through, marked, and charged nothing.

use limiter_core::{Decision, DenialReason, Denied, Limits};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // An enforced key and one in shadow make the same calls. What denies the one marks the call of the other, word for word;
    // their other answers and their counts are the same.
    suite.exact_story("a_key_in_shadow_is_decided_and_counted_like_any_other", |world| {
        let [enforced, shadow] = [("enforced", false), ("shadow", true)].map(|(name, shadow)| {
            let config = named(name).with_global(generous()).with_budget(millionths(45));
            let config = config.with_asset(asset("m1"), requests_per_day(30));
            world.member(config.with_shadow(shadow))
        });
        let (mut denied, mut exhausted) = (0, 0);
        for call in 0..150 {
            let called = (call % 3 > 0).then_some("m1");
            let charge = tokens(call % 7, call % 11 * 3).with_credits(millionths(call % 5));
            let expected = enforced.check(called, charge);
            let answer = shadow.check(called, charge);
            match (&expected, &answer) {
                (Decision::Denied(denial), Decision::Allowed(allowed)) => {
                    let shadowed = allowed.shadowed().expect("the call is marked");
                    assert_eq!(
                        (denial.key(), shadowed.key()),
                        (Some(&enforced.id), Some(&shadow.id))
                    );
                    assert_eq!(shadowed.reason(), denial.reason());
                    assert_eq!(shadowed.asset(), denial.asset());
                    assert_eq!(shadowed.decided_at(), denial.decided_at());
                    assert!(!answer.is_charged() && allowed.crossed().is_empty());
                    let budget = matches!(denial.reason(), DenialReason::BudgetExhausted(_));
                    *(if budget { &mut exhausted } else { &mut denied }) += 1;
                }
                _ => assert_eq!(expected, answer),
            }
            assert_eq!(shadow.usage(), enforced.usage());
            if call % 20 == 19 {
                world.advance(MINUTE);
            }
        }
        assert!(denied > 10 && exhausted > 10, "{denied} for a limit, {exhausted} for the budget");
    });

    // Nothing is left of the rule that would have denied. A peek answers the same.
    suite.story("what_is_let_through_shows_the_rules_as_they_stand", |world| {
        let key = in_shadow(world, requests_per_minute(2));
        let decision = key.admit(None, 2).check(None, requests(1));
        let denial = shadowed(&decision).exceeded().expect("a rule is the reason");
        assert_eq!(denial.violations().count(), 1);
        assert!(decision.rules().map(|rule| (rule.used, rule.remaining)).eq([(2, 0)]));
        assert_eq!(key.peek(None, requests(1)), decision);
        key.uses([2, 0, 2, 0]);
    });

    // The same id is decided again, and charged when it fits.
    suite.story("the_id_of_a_call_that_is_let_through_is_not_remembered", |world| {
        let key = in_shadow(world, requests_per_minute(1));
        key.admit(None, 1);
        for _ in 0..2 {
            shadowed(&key.check_once("q1", None, requests(1)));
        }
        key.after(MINUTE);
        for replayed in [false, true] {
            let decision = key.check_once("q1", None, requests(1));
            assert_eq!((decision.is_charged(), is_replayed(&decision)), (true, replayed));
        }
        key.uses([1, 0, 2, 0]);
    });

    // There is nothing to amend, settle or cancel, and the id is free.
    suite.story("a_reservation_that_is_let_through_is_not_made", |world| {
        let key = in_shadow(world, generous());
        shadowed(&key.try_reserve("r1", None, tokens(0, 101), DAY).expect("it is new"));
        key.knows_no("r1").uses([0, 0, 0, 0]).reserve("r1", tokens(0, 50)).uses([1, 50, 1, 50]);
    });

    // The stream goes on, and its actual cost is counted in the end.
    suite.story("an_amendment_that_is_let_through_charges_nothing", |world| {
        let key = in_shadow(world, generous());
        key.reserve("r1", tokens(0, 50));
        shadowed(&key.try_amend("r1", output(150)).expect("the reservation is known"));
        key.uses([1, 50, 1, 50]).settling_fires("r1", output(140), [MOST_TOKENS, ALL_TOKENS]);
        key.uses([1, 140, 1, 140]);
    });

    // A call that is let through fires none: the last threshold shows that the limit is reached.
    suite.story("thresholds_fire_in_shadow_as_always", |world| {
        let key = in_shadow(world, requests_per_day(5));
        key.admit(None, 3).fires(requests(1), ["80 % of global/day/requests"]);
        key.fires(requests(1), ["100 % of global/day/requests"]);
        let through = key.check(None, requests(1));
        shadowed(&through);
        assert_eq!(crossed(&through), []);
        assert!(fired(&key.check(None, requests(0))).is_empty());
    });

    // An expired key, an admin key and one that is not known: shadow mode is about limits.
    suite.story("a_key_that_may_not_call_may_not_in_shadow", |world| {
        let config = |name| named(name).with_shadow(true);
        let expired = world.member(config("expired").with_expiry(NOON));
        let admin = world.another_admin(config("admin"));
        let deleted = world.member(config("deleted"));
        deleted.delete();
        for key in [expired, admin, deleted, world.key(key_id("nobody"))] {
            assert!(!key.denied(None, requests(1)).peek(None, requests(1)).is_allowed());
        }
    });

    suite.story("shadow_mode_begins_and_ends_at_once", |world| {
        let key = world.limited(requests_per_day(1));
        assert!(!key.admit(None, 1).read().config.shadow);
        for shadow in [true, false, true] {
            let updated = key.update(|config| config.shadow = shadow);
            let read = key.read();
            assert_eq!([updated.config.shadow, read.config.shadow], [shadow; 2]);
            let decision = key.check(None, requests(1));
            assert_eq!((decision.is_allowed(), decision.is_charged()), (shadow, false));
        }
        key.uses([0, 0, 1, 0]);
    });
}

/// A key with these limits over all its calls.
fn in_shadow(world: &World, limits: Limits) -> Key<'_> {
    world.member(named("ci").with_global(limits).with_shadow(true))
}

/// The denial of a call that was let through.
#[track_caller]
fn shadowed(decision: &Decision) -> &Denied {
    assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
    decision.shadowed().expect("it was let through")
}
