//! The settings of each level: expiry, assets, budget, time zone and path.

use limiter_core::{DenialReason, Limits, Other, Timestamp};

use super::groups::{groups_of, three_levels, violations};
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("an_expired_group_denies_its_keys", |world| {
        let [acme, search, ci] = three_levels(world);
        let expire = |level: &Key<'_>, at| level.update(|config| config.expires_at = Some(at));
        let expired_by = |key: &Key<'_>| match reason(&key.check(None, requests(1))) {
            DenialReason::KeyExpired { expired_at, group } => (*expired_at, group.clone()),
            other => panic!("{other:?}"),
        };
        expire(&search, NEXT_MINUTE);
        world.at(59_999);
        ci.admit(None, 1);
        world.at(60_000);
        assert_eq!(expired_by(&ci), (NEXT_MINUTE, Some(search.id.clone())));
        expire(&ci, NOON);
        assert_eq!(expired_by(&ci), (NEXT_MINUTE, Some(search.id.clone())), "a group comes first");
        expire(&acme, Timestamp::START_OF_1970);
        assert_eq!(expired_by(&ci), (Timestamp::START_OF_1970, Some(acme.id.clone())));
        for level in [&acme, &search, &ci] {
            level.update(|config| config.expires_at = None);
        }
        ci.admit(None, 1);
        assert_eq!([&acme, &search, &ci].map(Key::calls), [2; 3], "a denial is free");
    });

    // "A group that has expired denies its keys, never an admin."
    suite.story("an_expired_group_is_managed_as_ever", |world| {
        let acme = world.group(named("acme").with_expiry(NOON));
        let ci = world.member_at(named("acme/ci"));
        acme.update(|config| config.global = requests_per_day(5));
        acme.reset().usage();
        ci.update(|config| config.global = requests_per_day(5));
        ci.denied(None, requests(1)).delete();
        acme.delete();
    });

    // "`AssetDenied`": the outermost level that denies it is named.
    suite.story("a_group_may_deny_assets_that_it_does_not_list", |world| {
        let denying = |name: &str| named(name).with_other(Other::Denied);
        let [m1, m2] = ["m1", "m2"].map(asset);
        let acme = denying("acme").with_asset(m1.clone(), Limits::NONE);
        let acme = world.group(acme.with_asset(m2, Limits::NONE));
        world.group(denying("acme/search").with_asset(m1.clone(), Limits::NONE));
        let ci = world.member_at(denying("acme/search/ci").with_asset(m1, Limits::NONE));
        ci.admit("m1", 1).admit(None, 1);
        for (called, group) in [("m2", "acme/search"), ("m3", "acme")] {
            let denied = ci.check(called, requests(1));
            let expected = DenialReason::AssetDenied { group: Some(key_id(group)) };
            assert_eq!(reason(&denied), &expected);
        }
        assert_eq!(acme.calls(), 2);
    });

    // An asset that one level lists is another asset to the next.
    suite.story("each_level_has_assets_of_its_own", |world| {
        let acme = named("acme").with_asset(asset("m1"), requests_per_day(3));
        let acme = world.group(acme.with_other(requests_per_day(2)));
        let ci = named("acme/ci").with_asset(asset("m2"), requests_per_day(9));
        let ci = world.member_at(ci.with_other(requests_per_day(4)));
        ci.admit("m1", 3).denied("m1", requests(1));
        ci.admit("m2", 2).denied("m2", requests(1)).denied("m3", requests(1));
        assert_eq!(acme.asset("m1").account.requests(), 3);
        assert_eq!(acme.other().account.requests(), 2);
        assert_eq!(ci.asset("m2").account.requests(), 2);
        assert_eq!(ci.other().account.requests(), 3);
    });

    suite.story("a_group_has_a_budget_for_all_its_keys", |world| {
        let acme = world.group(named("acme").with_budget(millionths(10)));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        assert!(ci.check(None, spend(6)).is_allowed());
        let denied = chat.check(None, spend(5));
        assert!(matches!(reason(&denied), DenialReason::BudgetExhausted(_)), "{denied:?}");
        assert_eq!(groups_of(&violations(&denied)), [Some("acme")]);
        assert!(chat.check(None, spend(4)).is_allowed());
        assert_eq!([&acme, &ci, &chat].map(Key::spent), [10, 6, 4]);
        ci.after(365 * DAY).denied(None, requests(1));
    });

    // The day of Kathmandu ends at 18:15 of UTC.
    suite.story("each_level_has_a_time_zone_of_its_own", |world| {
        let zone = "Asia/Kathmandu".parse().expect("a zone of the database");
        let config = named("acme").with_global(requests_per_day(1));
        world.group(config.with_time_zone(zone));
        let ci = world.member_at(named("acme/ci").with_global(requests_per_day(2)));
        let resets = ci.check(None, requests(1));
        let resets: Vec<_> = resets.rules().map(|rule| rule.resets_at).collect();
        let their_midnight = instant("2025-10-09T18:15:00Z");
        assert_eq!(resets, [Some(their_midnight), Some(MIDNIGHT)]);
        let denied = ci.check(None, requests(1));
        assert_eq!(denied.denied().and_then(|it| it.retry_at()), Some(their_midnight));
        world.set_clock(their_midnight);
        ci.admit(None, 1).denied(None, requests(1));
        world.set_clock(MIDNIGHT);
        ci.denied(None, requests(1));
    });

    // Neither a segment that begins alike nor one that is deeper in another path.
    suite.story("groups_whose_ids_begin_alike_are_separate", |world| {
        let limited = |name: &str| named(name).with_global(requests_per_day(1));
        for path in ["acme", "acmes", "acm", "acme/acme", "ACME", "acme "] {
            world.group(limited(path));
        }
        for path in ["acmes/ci", "acm/ci", "acme/acme/ci", "ACME/ci", "acme /ci"] {
            world.member_at(named(path)).admit(None, 1);
        }
        let ci = world.member_at(named("acme/ci"));
        ci.denied(None, requests(1));
        assert_eq!(world.key(key_id("acme")).calls(), 1, "that of acme/acme/ci");
        assert_eq!(world.key(key_id("acmes")).calls(), 1);
    });

    suite.story("a_key_outside_of_a_group_meets_none_of_it", |world| {
        world.group(named("acme").with_global(requests_per_day(0)));
        world.member_at(named("acme/ci")).denied(None, requests(1));
        world.member_at(named("other")).admit(None, 9);
        world.generous().admit(None, 9);
    });
}
