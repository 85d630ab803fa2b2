//! Limits that change at once: what was used stays used, and a limit that was not counted starts where the account is.

use limiter_core::{Credits, Limits, Totals, Unit, Window};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_limit_that_changes_now_keeps_what_was_used", |world| {
        let key = world.limited(requests_per_minute(10));
        key.admit(None, 5).update_now(|config| config.global = requests_per_minute(6));
        key.admit(None, 1).denied(None, requests(1));
        key.update_now(|config| config.global = requests_per_minute(8));
        key.admit(None, 2).denied(None, requests(1)).after(MINUTE).admit(None, 8);
    });

    suite.story("a_limit_below_what_is_used_denies_until_its_window_ends", |world| {
        let key = world.limited(requests_per_minute(10));
        key.admit(None, 5).updating_now_fires(
            |config| config.global = requests_per_minute(3),
            ["80 % of global/minute/requests", "100 % of global/minute/requests"],
        );
        key.denied(None, requests(1)).after(MINUTE).admit(None, 3);
    });

    // Units of the day, and tokens as the sum of both.
    suite.story("a_first_limit_of_the_day_starts_at_the_account", |world| {
        let key = world.member(named("ci"));
        let charge = tokens(3, 4).with_requests(2).expect("within bounds");
        assert!(key.check(None, charge.with_credits(millionths(5))).is_allowed());
        let all = Unit::ALL.into_iter().fold(Limits::builder(), |limits, unit| {
            limits.limit(Window::Day, unit, 100).limit(Window::Hour, unit, 100)
        });
        key.update_now(|config| config.global = all.build().expect("ten limits"));
        let used = |window| Unit::ALL.map(|unit| used_of(&key.global(), window, unit));
        assert_eq!((used(Window::Day), used(Window::Hour)), ([2, 7, 3, 4, 5], [0; 5]));
        key.admit(None, 1);
        assert_eq!((used(Window::Day), used(Window::Hour)), ([3, 7, 3, 4, 5], [1, 0, 0, 0, 0]));
    });

    // A count that had not counted the call gets no surplus back.
    suite.story("a_first_limit_of_an_hour_knows_nothing_of_earlier_calls", |world| {
        let key = world.member(named("ci"));
        let limits = limits(|it| it.tokens_per_hour(100).tokens_per_day(100));
        key.reserve("r1", tokens(0, 50)).update_now(|config| config.global = limits);
        key.reserve("r2", tokens(0, 20)).settle("r1", output(10)).settle("r2", output(5));
        let used = [Window::Hour, Window::Day].map(|it| used_of(&key.global(), it, Unit::Tokens));
        assert_eq!(used, [5, 15]);
    });

    suite.story("a_change_now_drops_what_was_pending", |world| {
        let key = world.limited(requests_per_minute(5));
        key.update(|config| config.global = requests_per_minute(1));
        key.update_now(|config| config.global = requests_per_minute(4));
        assert_eq!(key.global().pending, []);
        key.after(MINUTE).admit(None, 4).denied(None, requests(1));
    });

    // The change is for the scopes that it names.
    suite.story("saving_now_what_is_pending_puts_it_in_force", |world| {
        let key = world.limited(requests_per_minute(5));
        let pending = key.update(|config| config.global = requests_per_minute(1));
        let updated = key.update_now(|_| {}).record;
        assert_eq!((pending.version, updated.version), (2, 3));
        key.admit(None, 1).denied(None, requests(1));
    });

    suite.story("saving_now_what_is_in_force_changes_nothing", |world| {
        let key = world.limited(requests_per_minute(5));
        let before = key.admit(None, 1).read();
        assert_eq!(key.update_now(|_| {}).record, before);
        let before = key.after(MINUTE).read();
        assert_eq!(key.update_now(|_| {}).record, before);
    });

    // The count of the new window is empty, whatever the difference of the limits.
    suite.story("a_change_at_the_end_of_a_window_counts_from_zero", |world| {
        let key = world.limited(requests_per_minute(6));
        key.admit(None, 2).after(MINUTE);
        key.update_now(|config| config.global = requests_per_minute(5));
        assert_eq!(used_of(&key.global(), Window::Minute, Unit::Requests), 0);
        key.admit(None, 5).denied(None, requests(1));
    });

    suite.story("limits_for_ever_change_at_once", |world| {
        let ever = |limit| Limits::builder().limit(Window::Ever, Unit::Requests, limit).build();
        let ever = move |limit: u64| ever(limit).expect("within bounds");
        let key = world.member(named("ci").with_asset(asset("m1"), ever(3)));
        key.admit("m1", 3).denied("m1", requests(1)).after(40 * DAY).denied("m1", requests(1));
        key.update(|config| config.assets = [(asset("m1"), ever(5))].into());
        key.admit("m1", 2).denied("m1", requests(1));
        key.update(|config| config.assets = [(asset("m1"), Limits::NONE)].into());
        key.admit("m1", 1);
    });

    // Credits for ever are counted always: also a call from before the budget gives back.
    suite.story("a_first_budget_starts_at_what_was_spent", |world| {
        let key = world.member(named("ci"));
        key.reserve("r1", spend(4)).update(|config| set_budget(config, Some(millionths(5))));
        key.denied(None, spend(2)).settle("r1", Totals::unchanged().with_credits(Credits::ZERO));
        assert_eq!(key.spent(), 0);
        assert!(key.check(None, spend(5)).is_allowed());
    });

    suite.story("an_asset_is_removed_at_once", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(1)));
        key.admit("m1", 1).denied("m1", requests(1));
        key.update_now(|config| config.assets.clear());
        key.admit("m1", 5);
    });
}
