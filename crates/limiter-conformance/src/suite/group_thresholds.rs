//! Thresholds of groups: each fires once, by whichever key reaches it, and names its group.

use limiter_core::Thresholds;

use super::groups::three_levels;
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_threshold_of_a_group_fires_once_for_all_its_keys", |world| {
        world.group(named("acme").with_global(requests_per_minute(10)));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        ci.admit(None, 4);
        chat.admit(None, 3).fires(requests(1), ["80 % of acme:global/minute/requests"]);
        ci.fires(requests(1), []).fires(requests(1), ["100 % of acme:global/minute/requests"]);
        ci.denied(None, requests(1)).after(MINUTE).fires(requests(7), []);
        chat.fires(requests(1), ["80 % of acme:global/minute/requests"]);
    });

    suite.story("a_threshold_names_its_group_its_limit_and_the_count", |world| {
        let acme = world.group(named("acme").with_global(requests_per_minute(10)));
        let ci = world.member_at(named("acme/ci"));
        let crossed = crossed(&ci.check(None, requests(9)));
        let [crossing] = &crossed[..] else { panic!("{crossed:?}") };
        assert_eq!(crossing.group.as_ref(), Some(&acme.id));
        assert_eq!((crossing.used, crossing.limit, crossing.percent), (9, 10, 80));
        assert_eq!(crossing.resets_at, Some(NEXT_MINUTE));
        assert!(crossing.to_string().contains("for group acme"), "{crossing}");
    });

    // Then by the rules of each, rising.
    suite.story("one_call_fires_thresholds_of_the_outermost_level_first", |world| {
        let levels = three_levels(world);
        for (level, limit) in levels.iter().zip([10, 12, 10]) {
            level.update_now(|config| {
                config.global = requests_per_day(limit);
                config.assets = [(asset("m1"), requests_per_minute(limit))].into();
            });
        }
        let decision = levels[2].check("m1", requests(10));
        let percents = |group: &str, of: &[u64]| {
            let rules = ["global/day/requests", "m1/minute/requests"].into_iter();
            let words =
                rules.flat_map(|rule| of.iter().map(move |it| format!("{it} % of {group}{rule}")));
            words.collect::<Vec<_>>()
        };
        let expected = [
            percents("acme:", &[80, 100]),
            percents("acme/search:", &[80]),
            percents("", &[80, 100]),
        ];
        assert_eq!(fired(&decision), expected.concat());
    });

    suite.story("each_level_has_thresholds_of_its_own", |world| {
        let half = Thresholds::new([50]).expect("a percentage");
        let acme = named("acme").with_global(requests_per_minute(10)).with_thresholds(half);
        world.group(acme);
        let ci = world.member_at(named("acme/ci").with_global(requests_per_minute(10)));
        ci.fires(requests(5), ["50 % of acme:global/minute/requests"]);
        ci.fires(requests(3), ["80 % of global/minute/requests"]);
    });

    suite.story("a_reserved_call_fires_thresholds_of_its_group_at_each_of_its_steps", |world| {
        world.group(named("acme").with_global(tokens_per_minute(100)).with_budget(millionths(10)));
        let ci = world.member_at(named("acme/ci"));
        ci.reserving_fires("r1", tokens(0, 80), ["80 % of acme:global/minute/tokens"]);
        ci.amending_fires("r1", output(100), ["100 % of acme:global/minute/tokens"]);
        let spent = output(90).with_credits(millionths(8));
        ci.settling_fires("r1", spent, ["80 % of acme:the budget"]);
        ci.recording_fires("c1", spend(2), ["100 % of acme:the budget"]);
    });

    // It is the group itself that is updated.
    suite.story("an_update_of_a_group_fires_what_it_reaches", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(10)));
        let ci = world.member_at(named("acme/ci"));
        ci.admit(None, 7);
        acme.updating_now_fires(
            |config| config.global = requests_per_day(8),
            ["80 % of global/day/requests"],
        );
        ci.fires(requests(1), ["100 % of acme:global/day/requests"]);
    });

    suite.story("a_denied_call_fires_nothing_at_any_level", |world| {
        world.group(named("acme").with_global(tokens_per_minute(100)));
        let ci = world.member_at(named("acme/ci").with_global(limits(|it| it.tokens_per_day(50))));
        assert!(crossed(&ci.check(None, tokens(0, 80))).is_empty());
        ci.fires(tokens(0, 49), ["80 % of global/day/tokens"]);
    });
}
