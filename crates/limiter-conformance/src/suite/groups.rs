//! Groups: a call of a key meets the rules of each group of its path and its own, in one step, and is charged at every level.

use limiter_core::{Decision, KeyId, Limits, Violation};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_call_is_charged_at_each_level_of_its_key", |world| {
        let levels = three_levels(world);
        let call = tokens(3, 4).with_credits(millionths(5));
        assert!(levels[2].check("m1", call).is_allowed());
        for level in levels {
            assert_eq!((level.global().account, level.spent()), (call, 5), "{}", level.id);
        }
    });

    // A key beneath `acme` does not meet `acme/search`.
    suite.story("a_call_meets_the_groups_of_its_own_path_alone", |world| {
        let [acme, search, nested] = three_levels(world);
        search.update_now(|config| config.global = requests_per_day(1));
        let ci = world.member_at(named("acme/ci"));
        ci.admit(None, 3);
        assert_eq!([&acme, &search, &nested, &ci].map(Key::calls), [3, 0, 0, 3]);
    });

    suite.story("the_limit_of_a_group_is_shared_by_its_keys", |world| {
        let acme = world.group(named("acme").with_global(requests_per_minute(3)));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        ci.admit(None, 2);
        chat.admit(None, 1);
        for key in [&ci, &chat] {
            key.denied(None, requests(1));
        }
        acme.after(MINUTE);
        chat.admit(None, 3).denied(None, requests(1));
        ci.denied(None, requests(1));
    });

    // Whichever level it is of.
    for (number, strictest) in [None, Some("acme"), Some("acme/search")].into_iter().enumerate() {
        let name = ["the_key", "the_outer_group", "the_inner_group"][number];
        suite.story(&format!("the_strictest_level_decides_and_is_named_{name}"), move |world| {
            let limit = |is_strictest| requests_per_minute(if is_strictest { 2 } else { 9 });
            world.group(named("acme").with_global(limit(strictest == Some("acme"))));
            let search = strictest == Some("acme/search");
            world.group(named("acme/search").with_global(limit(search)));
            let config = named("acme/search/ci").with_global(limit(strictest.is_none()));
            let ci = world.member_at(config);
            let denied = ci.admit(None, 2).check(None, requests(1));
            assert_eq!(groups_of(&violations(&denied)), [strictest]);
            let exceeded = denied.denied().and_then(|denied| denied.exceeded());
            let binding = exceeded.and_then(|exceeded| exceeded.binding()).expect("a rule denies");
            assert_eq!(binding.group, strictest.map(key_id));
        });
    }

    suite.story("a_denial_by_a_group_leaves_the_counts_of_all_levels_alone", |world| {
        let levels = three_levels(world);
        levels[0].update_now(|config| config.global = tokens_per_minute(5));
        let before = levels.each_ref().map(|level| (level.usage(), level.read()));
        for called in [None, Some("m1")] {
            levels[2].denied(called, tokens(0, 6));
        }
        assert_eq!(levels.map(|level| (level.usage(), level.read())), before);
    });

    suite.story("a_denial_by_the_key_leaves_the_counts_of_its_groups_alone", |world| {
        let levels = three_levels(world);
        levels[2].update_now(|config| config.global = tokens_per_minute(5));
        levels[2].denied(None, tokens(0, 6));
        assert_eq!(levels.each_ref().map(Key::calls), [0; 3]);
    });

    suite.story("a_denial_names_the_group_in_its_message", |world| {
        world.group(named("acme").with_global(requests_per_minute(1)));
        let ci = world.member_at(named("acme/ci"));
        let denied = ci.admit(None, 1).check(None, requests(1));
        let message = denied.denied().expect("the group is full").to_string();
        let expected = "1 of 1 requests per minute are used for group acme";
        assert!(message.contains(expected), "{message}");
    });

    // Of each level the global ones before those of the asset.
    suite.story("every_violated_rule_is_listed_outermost_level_first", |world| {
        let full = |name: &str| {
            let config = named(name).with_global(requests_per_minute(1));
            config.with_asset(asset("m1"), requests_per_day(1))
        };
        world.group(full("acme"));
        world.group(full("acme/search"));
        let ci = world.member_at(full("acme/search/ci"));
        let denied = ci.admit("m1", 1).check("m1", requests(1));
        let rules = ["global/minute/requests", "asset/day/requests"];
        let expected =
            ["acme:", "acme/search:", ""].map(|group| rules.map(|it| format!("{group}{it}")));
        assert_eq!(in_full(&violations(&denied)), expected.concat());
    });

    // Then the smaller limit, then the outermost level.
    suite.story("the_binding_rule_is_the_one_that_resets_last_of_all_levels", |world| {
        let limited = |name: &str, limits: Limits| named(name).with_global(limits);
        world.group(limited("acme", requests_per_minute(1)));
        world.group(limited("acme/search", requests_per_day(2)));
        let ci = world.member_at(limited("acme/search/ci", requests_per_minute(1)));
        let binding = |decision: &Decision| {
            let exceeded = decision.denied().and_then(|denied| denied.exceeded());
            exceeded.and_then(|it| it.binding()).expect("a rule denies").group
        };
        assert_eq!(binding(&ci.admit(None, 1).check(None, requests(1))), Some(key_id("acme")));
        ci.after(MINUTE).admit(None, 1);
        assert_eq!(binding(&ci.check(None, requests(1))), Some(key_id("acme/search")));
        let ci = world.member_at(limited("acme/ci", limits(|it| it.requests_per_minute(0))));
        assert_eq!(binding(&ci.check(None, requests(1))), None, "0 is less than 1");
    });

    suite.story("a_retry_waits_for_the_windows_of_all_levels", |world| {
        world.group(named("acme").with_global(requests_per_minute(1)));
        let hour = limits(|it| it.requests_per_hour(1));
        let ci = world.member_at(named("acme/ci").with_global(hour));
        let chat = world.member_at(named("acme/chat"));
        ci.admit(None, 1);
        let retry_at = |key: &Key<'_>| {
            let decision = key.check(None, requests(1));
            decision.denied().expect("a level is full").retry_at()
        };
        assert_eq!(retry_at(&chat), Some(NEXT_MINUTE));
        assert_eq!(retry_at(&ci), Some(instant("2025-10-09T13:00:00Z")));
        world.set_clock(instant("2025-10-09T13:00:00Z"));
        ci.admit(None, 1);
    });

    suite.story("no_retry_helps_if_a_group_has_expired_by_then", |world| {
        let config = named("acme").with_global(requests_per_minute(1));
        let acme = world.group(config.with_expiry(NEXT_MINUTE));
        let ci = world.member_at(named("acme/ci"));
        let denied = ci.admit(None, 1).check(None, requests(1));
        assert!(denied.denied().is_some_and(|denied| denied.never_fits()), "{denied:?}");
        acme.update(|config| config.expires_at = Some(NEXT_MINUTE.after(MINUTE)));
        let denied = ci.check(None, requests(1));
        assert_eq!(denied.denied().and_then(|it| it.retry_at()), Some(NEXT_MINUTE));
    });

    // Three groups and the key.
    suite.story("a_call_meets_up_to_four_levels", |world| {
        let paths = ["a", "a/b", "a/b/c"];
        let groups = paths.map(|path| world.group(named(path).with_global(requests_per_day(9))));
        let ci = world.member_at(named("a/b/c/d").with_global(requests_per_day(9)));
        assert_eq!(ci.id.depth(), KeyId::MAX_SEGMENTS);
        let allowed = ci.admit(None, 8).check(None, requests(1));
        let rules: Vec<_> = allowed.rules().map(|rule| (rule.group, rule.remaining)).collect();
        let expected = paths.map(|path| (Some(key_id(path)), 0)).into_iter().chain([(None, 0)]);
        assert!(rules.iter().cloned().eq(expected), "{rules:?}");
        assert_eq!(groups.map(|group| group.calls()), [9; 3]);
        let denied = ci.check(None, requests(1));
        assert_eq!(groups_of(&violations(&denied)), [Some("a"), Some("a/b"), Some("a/b/c"), None]);
    });

    // The rule with the smallest share left may be one of a group.
    suite.story("an_allowed_call_shows_the_rules_of_all_levels", |world| {
        world.group(named("acme").with_global(requests_per_minute(2)).with_budget(millionths(9)));
        let ci = world.member_at(named("acme/ci").with_global(requests_per_minute(10)));
        let decision = ci.check(None, spend(4));
        let rules = decision.rules().map(|rule| (rule.group, rule.used, rule.limit));
        let acme = || Some(key_id("acme"));
        assert!(rules.eq([(acme(), 1, 2), (acme(), 4, 9), (None, 1, 10)]));
        let allowed = decision.allowed().expect("it fits");
        assert_eq!(allowed.tightest().and_then(|rule| rule.group), acme());
        assert_eq!(allowed.credits().budget, None, "the credits are those of the key");
    });

    suite.story("a_peek_of_a_key_charges_no_level", |world| {
        let levels = three_levels(world);
        levels[0].update_now(|config| config.global = requests_per_minute(2));
        levels[2].admit(None, 1);
        let before = levels.each_ref().map(Key::usage);
        let peeked = levels[2].peek(None, requests(1));
        assert_eq!(levels.each_ref().map(Key::usage), before);
        assert_eq!(levels[2].check(None, requests(1)), peeked);
        assert!(levels[2].peek(None, requests(1)).denied().is_some());
    });

    // "An id … belongs to its key."
    suite.story("a_request_id_belongs_to_the_key_and_not_to_its_group", |world| {
        let acme = world.group(named("acme"));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        for key in [&ci, &chat] {
            assert!(is_new(&key.check_once("q1", None, requests(1))));
            assert!(is_replayed(&key.check_once("q1", None, requests(1))));
            key.reserve("r1", tokens(0, 5)).record("c1", requests(1));
        }
        ci.settle("r1", output(3));
        assert_eq!(acme.global().account, requests(6).with_tokens(0, 8).expect("few tokens"));
        assert_eq!([&ci, &chat].map(Key::calls), [3, 3]);
    });

    // It shows the current state of all levels, also when a group has expired since.
    suite.story("a_repeated_call_is_charged_at_no_level_again", |world| {
        let acme = world.group(named("acme").with_global(requests_per_day(5)));
        let ci = world.member_at(named("acme/ci"));
        assert!(is_new(&ci.check_once("q1", None, requests(1))));
        ci.admit(None, 2);
        acme.update(|config| config.expires_at = Some(NOON));
        let repeated = ci.check_once("q1", None, requests(1));
        assert!(is_replayed(&repeated));
        let rules = repeated.rules().map(|rule| (rule.group, rule.used));
        assert!(rules.eq([(Some(key_id("acme")), 3)]));
        assert_eq!(acme.calls(), 3);
    });

    // "Never refused for a limit, an expiry or the key's kind."
    suite.story("what_was_admitted_elsewhere_counts_at_every_level", |world| {
        let config = named("acme").with_global(requests_per_day(1)).with_expiry(NOON);
        let acme = world.group(config);
        let ci = world.member_at(named("acme/ci"));
        ci.record("c1", tokens(3, 4)).record("c2", tokens(1, 1)).record("c1", tokens(3, 4));
        let both = requests(2).with_tokens(4, 5).expect("few tokens");
        assert_eq!([&acme, &ci].map(|level| level.global().account), [both; 2]);
    });

    // Those of the group are carried over as well.
    suite.story("a_denial_rebases_the_windows_of_every_level", |world| {
        let acme = world.group(named("acme").with_global(requests_per_minute(1)));
        let ci = world.member_at(named("acme/ci").with_global(requests_per_minute(2)));
        ci.after(10 * DAY).admit(None, 1).at(0).denied(None, requests(1));
        world.at(60_000);
        ci.admit(None, 1).denied(None, requests(1));
        for level in [&acme, &ci] {
            level.uses([1, 0, 2, 0]);
        }
    });
}

/// `acme`, `acme/search` and its key `acme/search/ci`, without limits.
pub(super) fn three_levels(world: &World) -> [Key<'_>; 3] {
    let [acme, search] = ["acme", "acme/search"].map(|path| world.group(named(path)));
    [acme, search, world.member_at(named("acme/search/ci"))]
}

/// The rules that a denied call would have broken.
#[track_caller]
pub(super) fn violations(decision: &Decision) -> Vec<Violation> {
    let denied = decision.denied().expect("the call is denied");
    denied.exceeded().expect("a rule is the reason").violations().collect()
}

/// The groups whose rules they are; none for those of the key.
pub(super) fn groups_of(violations: &[Violation]) -> Vec<Option<&str>> {
    violations.iter().map(|it| it.group.as_ref().map(KeyId::as_str)).collect()
}

/// As in `acme:global/minute/requests`.
fn in_full(violations: &[Violation]) -> Vec<String> {
    let words = violations.iter().map(|Violation { group, rule, .. }| match group {
        Some(group) => format!("{group}:{rule}"),
        None => rule.to_string(),
    });
    words.collect()
}
