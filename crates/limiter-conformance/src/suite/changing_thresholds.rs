//! Changes of a key's thresholds, and of what they are a share of.

use limiter_core::{KeyConfig, Thresholds};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("the_thresholds_of_a_key_replace_those_of_the_limiter", |world| {
        let world = with_default_thresholds(world, percents([25]));
        let key = world.member(hundred_tokens("ci"));
        key.fires(tokens(0, 12), []).fires(tokens(0, 12), []);
        key.fires(tokens(0, 1), ["25 % of global/minute/tokens"]);
        let own = world.member(hundred_tokens("own").with_thresholds(percents([50])));
        own.fires(tokens(0, 100), ["50 % of global/minute/tokens"]);
    });

    suite.story("each_of_four_thresholds_fires", |world| {
        let thresholds = percents([100, 1, 75, 50]);
        let key = world.member(hundred_tokens("ci").with_thresholds(thresholds));
        let fired_by = |amount| fired(&key.check(None, tokens(0, amount))).len();
        assert_eq!([1, 48, 1, 25, 24, 1].map(fired_by), [1, 0, 1, 1, 0, 1]);
        let all = [1, 50, 75, 100].map(|it| format!("{it} % of global/minute/tokens"));
        key.after(MINUTE).fires(tokens(0, 100), all.each_ref().map(String::as_str));
    });

    suite.story("a_key_without_thresholds_fires_none", |world| {
        let config = generous_config().with_budget(millionths(1));
        let key = world.member(config.with_thresholds(Thresholds::NONE));
        let all = tokens(0, 100).with_credits(millionths(1));
        key.fires(all, []).recording_fires("r1", all, []);
    });

    // Its own, or none: then those of the limiter count.
    suite.story("a_key_shows_the_thresholds_that_it_has", |world| {
        let world = with_default_thresholds(world, percents([25]));
        let key = world.member(hundred_tokens("ci"));
        assert_eq!(key.read().config.thresholds, None);
        for thresholds in [Some(percents([50])), Some(Thresholds::NONE), None] {
            let updated = key.update(|config| config.thresholds = thresholds);
            assert_eq!(updated.config.thresholds, thresholds);
            assert_eq!(key.read(), updated);
        }
        key.fires(tokens(0, 25), ["25 % of global/minute/tokens"]);
    });

    // Unlike limits, they do not wait for the next window.
    suite.calls("changed_thresholds_are_in_force_at_once", |key| {
        key.fires(tokens(0, 49), []);
        set(&key, percents([50, 90]));
        key.fires(tokens(0, 1), ["50 % of global/minute/tokens"]);
        key.fires(tokens(0, 39), []).fires(tokens(0, 1), ["90 % of global/minute/tokens"]);
    });

    // "A change fires those that it reaches itself."
    suite.story("a_threshold_that_is_passed_when_it_is_set_fires_with_the_change", |world| {
        let key = world.member(with_budget_of_100());
        key.fires(both(60), []);
        let reached = [
            "50 % of global/minute/tokens",
            "60 % of global/minute/tokens",
            "50 % of the budget",
            "60 % of the budget",
        ];
        key.updating_fires(|config| config.thresholds = Some(percents([50, 60, 70])), reached);
        key.fires(both(9), []);
        key.fires(both(1), ["70 % of global/minute/tokens", "70 % of the budget"]);
        key.after(MINUTE)
            .fires(tokens(0, 60), ["50 % of global/minute/tokens", "60 % of global/minute/tokens"]);
    });

    // "Marks are derived anew from what is used: thresholds above fire when they are reached", also one that had fired
    // before.
    suite.story(
        "after_a_change_thresholds_above_what_is_used_fire_when_they_are_reached",
        |world| {
            let key = world.member(with_budget_of_100());
            key.reserve("r1", both(80)).settling_fires("r1", nothing(), []);
            key.updating_fires(|config| config.thresholds = Some(percents([50, 80, 90])), []);
            key.fires(both(79), ["50 % of global/minute/tokens", "50 % of the budget"]);
            key.fires(both(1), [MOST_TOKENS, "80 % of the budget"]);
            key.fires(both(10), ["90 % of global/minute/tokens", "90 % of the budget"]);
        },
    );

    // They had fired before, and the change does not reach them by itself.
    suite.story("a_threshold_that_stays_does_not_fire_with_the_change", |world| {
        let key = world.member(with_budget_of_100());
        key.fires(both(80), [MOST_TOKENS, "80 % of the budget"]);
        key.updating_fires(
            |config| config.thresholds = Some(percents([70, 80])),
            ["70 % of global/minute/tokens", "70 % of the budget"],
        );
    });

    suite.story("thresholds_of_a_window_that_has_passed_do_not_fire_with_a_change", |world| {
        let key = world.member(with_budget_of_100());
        key.fires(both(60), []).after(MINUTE);
        let reached = ["50 % of the budget"];
        key.updating_fires(|config| config.thresholds = Some(percents([50])), reached);
        key.fires(tokens(0, 50), ["50 % of global/minute/tokens"]);
    });

    // Its stop is where that of another one was.
    suite.story("another_threshold_of_a_small_limit_fires_when_it_is_reached", |world| {
        let key = world.member(hundred_tokens("ci").with_global(requests_per_minute(1)));
        set(&key, percents([50]));
        key.reserving_fires("r1", requests(1), ["50 % of global/minute/requests"]).cancel("r1");
        key.updating_fires(|config| config.thresholds = Some(percents([70])), []);
        key.fires(requests(1), ["70 % of global/minute/requests"]);
    });

    // A threshold that is removed and set again is another one: it fires with the change, or when it is reached.
    suite.story("a_threshold_that_comes_back_is_another_one", |world| {
        let back = |config: &mut KeyConfig| config.thresholds = None;
        let key = world.member(hundred_tokens("passed"));
        key.reserve("r1", tokens(0, 80)).settling_fires("r1", output(80), []);
        set(&key, Thresholds::NONE);
        key.updating_fires(back, [MOST_TOKENS]).fires(tokens(0, 1), []);
        let key = world.member(hundred_tokens("not passed"));
        key.reserve("r1", tokens(0, 80)).settling_fires("r1", output(79), []);
        set(&key, Thresholds::NONE);
        key.updating_fires(back, []).fires(tokens(0, 1), [MOST_TOKENS]);
    });

    suite.story("a_key_that_is_saved_again_fires_nothing_again", |world| {
        let key = world.member(with_budget_of_100());
        key.reserve("r1", both(80)).settling_fires("r1", nothing(), []);
        for name in ["ci", "renamed"] {
            key.update(|config| config.name = named(name).name);
        }
        key.fires(both(80), []);
    });

    // A larger or smaller one, also where the same share of the budget before it has fired.
    suite.story("another_budget_fires_its_own_thresholds", |world| {
        let key = world.member(named("ci").with_budget(millionths(10)));
        key.fires(spend(9), ["80 % of the budget"]);
        change_budget(&key, Some(20));
        key.fires(spend(6), []).fires(spend(1), ["80 % of the budget"]);
        change_budget(&key, None);
        key.fires(spend(83), []);
        change_budget(&key, Some(125));
        key.fires(spend(1), ["80 % of the budget"]);
    });

    suite.story("what_is_spent_already_fires_with_the_change_of_the_budget", |world| {
        let key = world.member(named("ci").with_budget(millionths(100)));
        key.fires(spend(17), []);
        let budget = |budget| move |it: &mut KeyConfig| set_budget(it, Some(millionths(budget)));
        key.updating_fires(budget(20), ["80 % of the budget"]);
        key.fires(spend(2), []).fires(spend(1), ["100 % of the budget"]);
        key.updating_fires(budget(15), []).recording_fires("r1", spend(5), []);
    });

    suite.story("a_first_budget_fires_what_it_reaches", |world| {
        let key = world.member(named("ci"));
        let budget = |it: &mut KeyConfig| set_budget(it, Some(millionths(10)));
        key.fires(spend(8), []).updating_fires(budget, ["80 % of the budget"]);
    });

    // In the window before, shares are those of the old limit.
    suite.story("another_limit_fires_from_its_window_on", |world| {
        let key = world.member(hundred_tokens("ci"));
        key.update(|config| config.global = tokens_per_minute(1_000));
        key.fires(tokens(0, 80), [MOST_TOKENS]).after(MINUTE);
        key.fires(tokens(0, 799), []).fires(tokens(0, 1), [MOST_TOKENS]);
    });

    // The current windows are those of the old limits.
    suite.story("a_change_for_the_next_window_fires_nothing_by_itself", |world| {
        let key = world.limited(requests_per_day(100));
        key.admit(None, 9).updating_fires(|config| config.global = requests_per_day(10), []);
        key.fires(requests(1), []).after(DAY).admit(None, 7);
        key.fires(requests(1), ["80 % of global/day/requests"]);
    });
}

/// A world whose keys have these thresholds unless they set their own.
fn with_default_thresholds(world: &World, thresholds: Thresholds) -> World {
    let world = World::at_noon(&world.source);
    World { store: world.store.with_thresholds(thresholds), ..world }
}

fn set(key: &Key<'_>, thresholds: Thresholds) {
    key.update(|config| config.thresholds = Some(thresholds));
}

fn change_budget(key: &Key<'_>, budget: Option<u64>) {
    key.update(|config| set_budget(config, budget.map(millionths)));
}

fn hundred_tokens(name: &str) -> KeyConfig {
    named(name).with_global(tokens_per_minute(100))
}

fn with_budget_of_100() -> KeyConfig {
    generous_config().with_budget(millionths(100))
}

fn percents<const COUNT: usize>(percents: [u8; COUNT]) -> Thresholds {
    Thresholds::new(percents).expect("at most four, from 1 to 100")
}
