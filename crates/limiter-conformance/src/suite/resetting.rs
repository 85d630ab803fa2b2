//! A reset sets what is used to zero, in all windows that end.

use limiter_core::{KeysError, Unit, Window};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_reset_frees_a_customer_who_is_stuck", |world| {
        let all = limits(|it| {
            let it = it.requests_per_minute(1).requests_per_hour(1).requests_per_day(1);
            it.requests_per_week(1).requests_per_month(1)
        });
        let config = named("ci").with_global(all).with_asset(asset("m1"), requests_per_day(1));
        let key = world.member(config.with_other(requests_per_day(1)));
        key.admit("m1", 1).denied("m1", requests(1)).reset();
        key.admit("a", 1).denied("a", requests(1)).reset().admit("m1", 1);
    });

    suite.story("a_reset_keeps_what_was_spent_for_ever", |world| {
        let key = world.member(generous_config().with_budget(millionths(5)));
        assert!(key.check(None, spend(5)).is_allowed());
        key.reset().uses([0, 0, 0, 0]).denied(None, spend(1));
        assert_eq!(key.spent(), 5);
    });

    // "What the day's account had counted is kept in the day's row of history."
    suite.calls("a_reset_keeps_the_history_of_the_day", |key| {
        assert!(key.check(None, tokens(3, 4)).is_allowed());
        assert!(key.reset().check(None, tokens(10, 20)).is_allowed());
        assert_eq!(key.global().account, tokens(10, 20));
        let today = &key.history(1)[0];
        let both = requests(2).with_tokens(13, 24).expect("within bounds");
        assert_eq!(today.scopes[0].account, both);
    });

    suite.calls("open_reservations_find_the_windows_of_a_reset_closed", |key| {
        key.reserve("r1", tokens(0, 50)).reserve("r2", tokens(0, 30)).reset();
        key.reserve("r3", tokens(0, 5)).settle("r1", output(10)).uses([1, 5, 1, 5]);
        key.settle("r2", output(40)).uses([1, 15, 1, 15]).settle("r3", output(1));
        key.uses([1, 11, 1, 11]);
    });

    suite.calls("after_a_reset_thresholds_fire_again", |key| {
        key.fires(tokens(0, 80), [MOST_TOKENS]).reset().fires(tokens(0, 80), [MOST_TOKENS]);
    });

    suite.story("a_reset_leaves_pending_limits_pending", |world| {
        let key = world.limited(requests_per_minute(2));
        key.update(|config| config.global = requests_per_minute(5));
        key.admit(None, 2).reset().admit(None, 2).denied(None, requests(1));
        key.after(MINUTE).admit(None, 5);
    });

    // It is no change of the configuration.
    suite.story("a_reset_counts_no_version", |world| {
        let key = world.limited(requests_per_minute(2));
        let before = key.read();
        assert_eq!(key.reset().read(), before);
        assert_eq!(used_of(&key.global(), Window::Minute, Unit::Requests), 0);
    });

    suite.story("a_key_that_does_not_exist_is_not_reset", |world| {
        let refused = world.keys().reset(&key_id("nobody")).wait();
        assert_refused!(refused, KeysError::NotFound(_));
    });
}
