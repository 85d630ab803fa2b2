//! Recording: what was admitted elsewhere is counted, whatever the limits say, and once.

use limiter_core::ReservationError;

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
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
        let usage = key.usage();
        let used: Vec<_> = usage.scopes().map(|(id, it)| (id, it.minute.requests.used)).collect();
        assert_eq!(used, [(None, 5), (Some(&asset("m1")), 3)]);
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
