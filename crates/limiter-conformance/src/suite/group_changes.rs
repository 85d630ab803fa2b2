//! Changes of a group: they hold for its keys as those of a key do, and change no other level.

use limiter_core::{DenialReason, KeysError, Limits, Unit, Window};

use super::groups::{groups_of, three_levels, violations};
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("changed_limits_of_a_group_hold_from_the_next_window", |world| {
        let acme = world.group(named("acme").with_global(requests_per_minute(2)));
        let ci = world.member_at(named("acme/ci"));
        ci.admit(None, 2);
        acme.update(|config| config.global = requests_per_minute(5));
        ci.denied(None, requests(1));
        let pending = acme.global().pending;
        assert_eq!(pending.len(), 1);
        assert_eq!((pending[0].window, pending[0].effective_at), (Window::Minute, NEXT_MINUTE));
        ci.after(MINUTE).admit(None, 5).denied(None, requests(1));
        assert!(acme.global().pending.is_empty());
    });

    // The first call of any key moves the windows of its groups.
    suite.story("limits_of_a_group_end_with_their_window", |world| {
        let acme = named("acme").with_global(requests_per_minute(1));
        let acme = world.group(acme.with_asset(asset("m1"), requests_per_minute(1)));
        let ci = world.member_at(named("acme/ci"));
        ci.admit("m1", 1);
        acme.update(|config| (config.global, config.assets) = Default::default());
        ci.denied("m1", requests(1)).denied(None, requests(1));
        ci.after(MINUTE).admit("m1", 5).admit(None, 5);
    });

    suite.story("limits_of_a_group_may_change_at_once", |world| {
        let acme = world.group(named("acme").with_global(requests_per_minute(5)));
        let ci = world.member_at(named("acme/ci"));
        ci.admit(None, 3);
        acme.update_now(|config| config.global = requests_per_minute(2));
        let denied = ci.check(None, requests(1));
        assert_eq!(groups_of(&violations(&denied)), [Some("acme")]);
        // A limit that is new begins with what the day has counted.
        acme.update_now(|config| config.global = requests_per_day(4));
        ci.admit(None, 1).denied(None, requests(1));
    });

    suite.story("a_budget_and_an_expiry_of_a_group_hold_at_once", |world| {
        let acme = world.group(named("acme"));
        let ci = world.member_at(named("acme/ci"));
        assert!(ci.check(None, spend(5)).is_allowed());
        acme.update(|config| set_budget(config, Some(millionths(5))));
        let denied = ci.check(None, requests(1));
        assert!(matches!(reason(&denied), DenialReason::BudgetExhausted(_)), "{denied:?}");
        acme.update(|config| set_budget(config, None));
        ci.admit(None, 1);
        acme.update(|config| config.expires_at = Some(NOON));
        let denied = ci.check(None, requests(1));
        assert!(matches!(reason(&denied), DenialReason::KeyExpired { .. }), "{denied:?}");
    });

    suite.story("a_change_of_one_level_changes_no_other", |world| {
        let levels = three_levels(world);
        levels[2].admit("m1", 3);
        for (changed, level) in levels.iter().enumerate() {
            let others = || {
                let others = levels.iter().enumerate().filter(|(other, _)| *other != changed);
                others.map(|(_, other)| (other.read(), other.usage())).collect::<Vec<_>>()
            };
            let before = others();
            let version = level.read().version;
            level.update_now(|config| {
                config.global = generous();
                config.assets = [(asset("m1"), requests_per_day(9))].into();
                config.shadow = true;
            });
            assert_eq!((level.read().version, others()), (version + 1, before));
        }
    });

    suite.story("an_update_of_a_group_from_an_old_version_is_a_conflict", |world| {
        let acme = world.group(named("acme"));
        let version = acme.update(|config| config.global = requests_per_day(1)).version;
        let config = named("acme").with_global(requests_per_day(2));
        let stale = world.keys().update(&acme.id, version - 1, &config).wait();
        assert_refused!(stale, KeysError::Conflict { .. });
        assert_eq!(acme.read().config.global, requests_per_day(1));
    });

    // The counts of its keys stay.
    suite.story("a_reset_of_a_group_leaves_its_keys_alone", |world| {
        let [acme, search, ci] = three_levels(world);
        acme.update_now(|config| config.global = requests_per_minute(2));
        ci.update_now(|config| config.global = requests_per_minute(3));
        ci.admit(None, 2).denied(None, requests(1));
        let before = [&search, &ci].map(|level| (level.usage(), level.read()));
        acme.reset();
        assert_eq!([&search, &ci].map(|level| (level.usage(), level.read())), before);
        let denied = ci.admit(None, 1).check(None, requests(1));
        assert_eq!(groups_of(&violations(&denied)), [None], "the key has used its own");
        assert_eq!([&acme, &search, &ci].map(Key::calls), [1, 3, 3]);
    });

    suite.story("a_reset_of_a_key_leaves_its_group_alone", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(3)));
        let ci = world.member_at(named("acme/ci").with_global(requests_per_day(2)));
        ci.admit(None, 2).denied(None, requests(1)).reset();
        let denied = ci.admit(None, 1).check(None, requests(1));
        assert_eq!(groups_of(&violations(&denied)), [Some("acme")]);
        assert_eq!([&acme, &ci].map(Key::calls), [3, 1]);
    });

    // Of all its keys, in scopes of its own.
    suite.story("the_usage_of_a_group_is_that_of_its_keys_together", |world| {
        let config = named("acme").with_global(generous()).with_budget(millionths(9));
        let acme = world.group(config.with_asset(asset("m1"), Limits::NONE));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        assert!(ci.check("m1", tokens(1, 2).with_credits(millionths(3))).is_allowed());
        assert!(chat.check(None, tokens(10, 20).with_credits(millionths(4))).is_allowed());
        assert_eq!((acme.uses([2, 33, 2, 33]).spent(), acme.calls()), (7, 2));
        assert_eq!(acme.asset("m1").account, tokens(1, 2).with_credits(millionths(3)));
        let minute = used_of(&acme.global(), Window::Minute, Unit::Requests);
        assert_eq!((minute, acme.usage().credits.budget), (2, Some(millionths(9))));
    });

    suite.story("the_history_of_a_group_has_the_days_of_its_keys", |world| {
        let acme = world.group(named("acme"));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        ci.admit(None, 2).after(DAY);
        chat.admit(None, 1).after(2 * DAY);
        let days = |key: &Key<'_>| {
            let rows = key.history(7).into_iter();
            rows.map(|day| day.scopes[0].account.requests()).collect::<Vec<_>>()
        };
        assert_eq!([&acme, &ci, &chat].map(days), [vec![2, 1], vec![2], vec![1]]);
        ci.admit(None, 5).delete();
        assert_eq!([&acme, &chat].map(days), [vec![2, 1, 5], vec![1]]);
    });
}
