//! Levels in shadow mode: one that would deny a call is not charged, all others are decided and charged as ever.

use limiter_core::{Decision, DenialReason, Denied, KeyId, Other};

use super::groups::{groups_of, three_levels, violations};
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_group_in_shadow_denies_nothing_and_counts_up_to_its_limit", |world| {
        let acme = named("acme").with_global(requests_per_day(1)).with_shadow(true);
        let acme = world.group(acme);
        let ci = world.member_at(named("acme/ci").with_global(requests_per_day(9)));
        ci.admit(None, 1);
        for calls in 2..5 {
            let decision = ci.check(None, requests(1));
            let denial = shadowed(&decision);
            let exceeded = denial.exceeded().expect("a rule is the reason");
            let violated = exceeded.violations().map(|it| it.group).collect::<Vec<_>>();
            assert_eq!(violated, [Some(acme.id.clone())]);
            // The rules of all levels, as they stand.
            let rules = decision.rules().map(|rule| (rule.group, rule.used));
            assert!(rules.eq([(Some(acme.id.clone()), 1), (None, calls)]));
            assert_eq!([&acme, &ci].map(Key::calls), [1, calls]);
        }
    });

    // Its denial has the rules of its group alone.
    suite.story("a_key_in_shadow_is_denied_by_its_group", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(3)));
        let ci = named("acme/ci").with_global(requests_per_day(1)).with_shadow(true);
        let ci = world.member_at(ci);
        ci.admit(None, 3);
        let denied = ci.check(None, requests(1));
        assert_eq!(groups_of(&violations(&denied)), [Some("acme")]);
        assert_eq!([&acme, &ci].map(Key::calls), [3, 1]);
    });

    // The day of the group in shadow is full: it does not count.
    suite.story("a_retry_waits_for_levels_that_deny_and_for_none_in_shadow", |world| {
        let acme = named("acme").with_global(requests_per_day(1)).with_shadow(true);
        world.group(acme);
        let ci = world.member_at(named("acme/ci").with_global(requests_per_minute(1)));
        let denied = ci.admit(None, 1).check(None, requests(1));
        let denied = denied.denied().expect("the key is full");
        assert_eq!(denied.retry_at(), Some(NEXT_MINUTE));
        world.set_clock(NEXT_MINUTE);
        shadowed(&ci.check(None, requests(1)));
    });

    // As for a key without groups.
    suite.story(
        "where_all_levels_are_in_shadow_and_full_nothing_is_charged_or_remembered",
        |world| {
            let levels = three_levels(world);
            for level in &levels {
                level.update_now(|config| {
                    config.global = requests_per_minute(1);
                    config.shadow = true;
                });
            }
            let ci = &levels[2];
            ci.admit(None, 1);
            for _ in 0..2 {
                let decision = ci.check_once("q1", None, requests(1));
                assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
                assert_eq!(decision.shadowed().and_then(|it| it.retry_at()), Some(NEXT_MINUTE));
            }
            let reserved = ci.try_reserve("r1", None, requests(1), DAY).expect("it is new");
            assert!(reserved.is_allowed() && !reserved.is_charged());
            ci.knows_no("r1");
            assert_eq!(levels.map(|level| level.calls()), [1; 3]);
        },
    );

    // It is charged at the other.
    suite.story("a_call_that_one_level_lets_through_is_remembered", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(0)).with_shadow(true));
        let ci = world.member_at(named("acme/ci"));
        shadowed(&ci.check_once("q1", None, requests(1)));
        assert!(is_replayed(&ci.check_once("q1", None, requests(1))));
        assert_eq!([&acme, &ci].map(Key::calls), [0, 1]);
    });

    // "Which windows admitted it": those of the group did not count the call.
    suite.story("a_level_that_was_spared_gets_no_refund_and_the_overrun", |world| {
        let acme = named("acme").with_global(tokens_per_minute(10)).with_shadow(true);
        let acme = world.group(acme);
        let ci = world.member_at(named("acme/ci"));
        assert!(ci.check(None, tokens(0, 8)).is_allowed());
        for id in ["r1", "r2"] {
            shadowed(&ci.try_reserve(id, None, tokens(0, 5), DAY).expect("it is new"));
        }
        ci.settle("r1", output(3)).settle("r2", output(9));
        acme.uses([0, 12, 1, 12]);
        assert_eq!(ci.global().account, requests(3).with_tokens(0, 20).expect("few tokens"));
    });

    suite.story("a_cancellation_takes_nothing_from_a_level_that_was_spared", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(1)).with_shadow(true));
        let ci = world.member_at(named("acme/ci"));
        ci.admit(None, 1);
        shadowed(&ci.try_reserve("r1", None, requests(1), DAY).expect("it is new"));
        ci.cancel("r1");
        assert_eq!([&acme, &ci].map(Key::calls), [1, 1]);
    });

    // The stream goes on, and its settlement counts at every level.
    suite.story("an_amendment_that_does_not_fit_in_shadow_alone_changes_nothing", |world| {
        let acme = named("acme").with_global(tokens_per_minute(60)).with_shadow(true);
        let acme = world.group(acme);
        let ci = world.member_at(named("acme/ci"));
        ci.reserve("r1", tokens(0, 50));
        let decision = ci.try_amend("r1", output(70)).expect("the reservation is known");
        assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
        let denied = decision.shadowed().expect("it was let through");
        let exceeded = denied.exceeded().expect("a rule is the reason");
        assert!(exceeded.violations().all(|it| it.group == Some(acme.id.clone())));
        assert_eq!([&acme, &ci].map(|level| level.global().account), [tokens(0, 50); 2]);
        ci.amend("r1", output(60)).settle("r1", output(70));
        assert_eq!([&acme, &ci].map(|level| level.global().account), [tokens(0, 70); 2]);
    });

    suite.story("an_amendment_that_another_level_denies_is_denied", |world| {
        let acme = named("acme").with_global(tokens_per_minute(60)).with_shadow(true);
        world.group(acme);
        let ci = world.member_at(named("acme/ci").with_global(tokens_per_minute(65)));
        ci.reserve("r1", tokens(0, 50));
        let denied = ci.try_amend("r1", output(70)).expect("the reservation is known");
        assert_eq!(groups_of(&violations(&denied)), [None]);
    });

    suite.story("a_group_in_shadow_lets_assets_through_that_it_denies", |world| {
        let acme = world.group(named("acme").with_other(Other::Denied).with_shadow(true));
        let ci = world.member_at(named("acme/ci"));
        let decision = ci.check("m1", requests(1));
        let expected = DenialReason::AssetDenied { group: Some(acme.id.clone()) };
        assert_eq!(shadowed(&decision).reason(), &expected);
        assert_eq!([&acme, &ci].map(Key::calls), [0, 1]);
        ci.reserve("r1", tokens(0, 5));
        assert_eq!([&acme, &ci].map(Key::calls), [1, 2], "a call of no asset");
    });

    // It is not charged for the asset, so that what the stream adds is not charged either.
    suite.story(
        "an_amendment_of_an_asset_that_a_group_in_shadow_denies_changes_nothing",
        |world| {
            let acme = world.group(named("acme").with_shadow(true));
            let ci = world.member_at(named("acme/ci"));
            ci.reserve_for(DAY, "r1", Some("m1"), tokens(0, 5));
            acme.update(|config| config.other = Other::Denied);
            let decision = ci.try_amend("r1", output(9)).expect("the reservation is known");
            assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
            assert_eq!([&acme, &ci].map(|level| level.global().account), [tokens(0, 5); 2]);
            ci.settle("r1", output(9));
            assert_eq!([&acme, &ci].map(|level| level.global().account), [tokens(0, 9); 2]);
        },
    );

    suite.story("a_level_that_is_not_in_shadow_denies_the_asset", |world| {
        world.group(named("acme").with_other(Other::Denied).with_shadow(true));
        let ci = world.member_at(named("acme/ci").with_other(Other::Denied));
        let denied = ci.check("m1", requests(1));
        assert_eq!(reason(&denied), &DenialReason::AssetDenied { group: None });
    });

    suite.story("an_expired_group_in_shadow_denies_its_keys", |world| {
        let acme = world.group(named("acme").with_shadow(true).with_expiry(NOON));
        let ci = world.member_at(named("acme/ci").with_shadow(true));
        let group = Some(acme.id.clone());
        let denied = ci.check(None, requests(1));
        assert_eq!(reason(&denied), &DenialReason::KeyExpired { expired_at: NOON, group });
    });

    // The others fire.
    suite.story("a_level_that_is_spared_fires_no_threshold", |world| {
        let acme = named("acme").with_global(tokens_per_minute(100)).with_shadow(true);
        world.group(acme);
        let ci = world.member_at(named("acme/ci").with_global(limits(|it| it.tokens_per_day(200))));
        let first = ci.check(None, tokens(0, 79));
        assert!(fired(&first).is_empty());
        let through = ci.check(None, tokens(0, 90));
        shadowed(&through);
        assert_eq!(fired(&through), ["80 % of global/day/tokens"]);
        assert_eq!(fired(&ci.check(None, tokens(0, 1))), ["80 % of acme:global/minute/tokens"]);
    });

    // Its limits come into force, and its day closes.
    suite.story("the_windows_of_a_level_that_is_spared_move", |world| {
        let acme = named("acme").with_global(requests_per_day(1)).with_shadow(true);
        let acme = world.group(acme);
        let ci = world.member_at(named("acme/ci"));
        ci.admit(None, 1);
        acme.update(|config| config.global = requests_per_day(0));
        ci.after(DAY);
        shadowed(&ci.check(None, requests(1)));
        ci.at(0);
        // Had the day not moved, this one would fit.
        acme.update(|config| config.shadow = false);
        ci.denied(None, requests(1));
        assert_eq!([&acme, &ci].map(Key::calls), [0, 1]);
    });

    suite.story("shadow_mode_of_a_group_begins_and_ends_at_once", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(0)));
        let ci = world.member_at(named("acme/ci"));
        for (calls, shadow) in [(0, false), (1, true), (1, false), (2, true)] {
            acme.update(|config| config.shadow = shadow);
            assert_eq!(ci.check(None, requests(1)).is_allowed(), shadow);
            assert_eq!([&acme, &ci].map(Key::calls), [0, calls]);
        }
    });

    suite.story("a_peek_answers_what_levels_in_shadow_would_let_through", |world| {
        let levels = three_levels(world);
        levels[1].update_now(|config| {
            config.global = requests_per_minute(1);
            config.shadow = true;
        });
        levels[2].admit(None, 1);
        let before = levels.each_ref().map(Key::usage);
        let peeked = levels[2].peek(None, requests(1));
        assert_eq!(levels.each_ref().map(Key::usage), before);
        assert_eq!(levels[2].check(None, requests(1)), peeked);
        let named = shadowed(&peeked).exceeded().and_then(|it| it.binding()?.group);
        assert_eq!(named.as_ref().map(KeyId::as_str), Some("acme/search"));
    });
}

/// The denial of a call that some level in shadow mode let through, and others have charged.
#[track_caller]
fn shadowed(decision: &Decision) -> &Denied {
    assert!(decision.is_charged(), "{decision:?}");
    decision.shadowed().expect("it was let through")
}
