//! Reading a key shows its configuration, the limits in force, and the pending changes with their times.

use limiter_core::{
    Credits, KeyConfig, Limits, Scope, ScopeLimits, Thresholds, Timestamp, TokenType, Window,
    WindowLimits,
};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    let minute_and_day = |limits: Limits| [limits.of(Window::Minute), limits.of(Window::Day)];

    // The limits of a new key are in force at once.
    suite.story("a_change_is_pending_until_the_next_window_of_each_kind", move |world| {
        let key = world.member(config());
        let global = key.read().global;
        assert_eq!((global.configured, in_force(&global)), (old(), minute_and_day(old())));
        assert_eq!((global.minute.pending, global.day.pending), (None, None));
        let updated = change(&key, new());
        assert_eq!(key.read(), updated);
        let global = updated.global;
        assert_eq!((global.configured, in_force(&global)), (new(), minute_and_day(old())));
        let pending = [global.minute.pending, global.day.pending];
        let pending = pending.map(|pending| pending.expect("each part is pending"));
        assert_eq!(pending.map(|pending| pending.limits), minute_and_day(new()));
        assert_eq!(pending.map(|pending| pending.effective_at), [NEXT_MINUTE, MIDNIGHT]);
    });

    // To the millisecond, for reads and for calls.
    suite.story("a_change_comes_into_force_when_it_was_said_to", move |world| {
        let key = world.member(config());
        change(&key, new());
        let [old_minute, old_day] = minute_and_day(old());
        let [new_minute, new_day] = minute_and_day(new());
        for (instant, expected) in [
            (just_before(NEXT_MINUTE), [old_minute, old_day]),
            (NEXT_MINUTE, [new_minute, old_day]),
            (just_before(MIDNIGHT), [new_minute, old_day]),
            (MIDNIGHT, [new_minute, new_day]),
        ] {
            world.clock.set(instant);
            assert_eq!(in_force(&key.read().global), expected, "at {instant}");
            let decision = key.peek(None, requests(1));
            let expected = expected.iter().flat_map(|it| [it.requests(), it.tokens()]).flatten();
            assert!(decision.rules().map(|rule| rule.limit).eq(expected), "at {instant}");
        }
        assert_eq!(key.read().global.day.pending, None);
    });

    // Only the versions of the key show such a change.
    suite.story("a_change_back_drops_what_was_pending", |world| {
        let key = world.member(config());
        let mut expected = key.read();
        expected.version = 3;
        change(&key, new());
        assert_eq!(change(&key, old()), expected);
    });

    suite.story("a_first_limit_of_a_living_key_waits", |world| {
        let key = world.member(named("ci"));
        key.update(|config| config.assets = [(asset("m1"), requests_per_minute(1))].into());
        let m1 = key.admit("m1", 5).read().assets[&asset("m1")];
        assert_eq!(in_force(&m1), [WindowLimits::NONE, WindowLimits::NONE]);
        assert_eq!(m1.minute.pending.map(|pending| pending.effective_at), Some(NEXT_MINUTE));
        assert_eq!(m1.day.pending, None);
        key.after(MINUTE).admit("m1", 1).denied("m1", requests(1));
    });

    // Its limits end with the window.
    suite.story("a_removed_asset_is_limited_to_the_end_of_its_window", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(1)));
        key.admit("m1", 1).update(|config| config.assets.clear());
        let m1 = key.denied("m1", requests(1)).read().assets[&asset("m1")];
        assert!(m1.configured.is_none());
        let pending = m1.day.pending.expect("the end is pending");
        assert_eq!((pending.limits, pending.effective_at), (WindowLimits::NONE, MIDNIGHT));
        world.clock.set(MIDNIGHT);
        assert!(key.read().assets.is_empty());
        key.admit("m1", 9);
    });

    // It does not depend on the limits in force.
    suite.story("the_configuration_reads_as_it_was_saved", |world| {
        let key = world.member(config().with_asset(asset("m1"), new()));
        let saved = named("renamed")
            .with_global(new())
            .with_asset(asset("m2"), old())
            .with_budget(Credits::MAX)
            .with_expiry(NOON.after(7 * DAY))
            .with_thresholds(Thresholds::NONE)
            .with_shadow(true);
        key.update(|config| *config = saved.clone());
        for instant in [NOON, NEXT_MINUTE, MIDNIGHT, MIDNIGHT.after(DAY)] {
            world.clock.set(instant);
            assert_eq!(key.read().config(), saved, "at {instant}");
        }
    });

    // Counts of the current window stay as they are.
    suite.story("a_token_type_changes_with_the_next_window", |world| {
        let of_type = |kind| limits(|it| it.tokens_per_minute(100).token_type(kind));
        let key = world.limited(of_type(TokenType::Output));
        change(&key, of_type(TokenType::Input));
        for (token_type, used) in [(TokenType::Output, 7), (TokenType::Input, 5)] {
            let decision = key.check(None, tokens(5, 7));
            let rule = decision.rules().next().expect("one rule is met");
            assert_eq!((rule.token_type, rule.used), (token_type, used));
            world.advance(MINUTE);
        }
    });

    // Each window of the usage shows it, too.
    suite.story("a_rule_shows_when_it_resets", |world| {
        let key = world.member(config());
        for rule in key.peek(None, requests(1)).rules() {
            let expected = if rule.rule.window == Window::Minute { NEXT_MINUTE } else { MIDNIGHT };
            assert_eq!((rule.rule.scope, rule.resets_at), (Scope::Global, expected));
        }
        let global = key.global();
        assert_eq!((global.minute.resets_at, global.day.resets_at), (NEXT_MINUTE, MIDNIGHT));
    });
}

fn change(key: &Key<'_>, global: Limits) -> limiter_core::KeyRecord {
    key.update(|config| config.global = global)
}

fn in_force(scope: &ScopeLimits) -> [WindowLimits; 2] {
    [scope.minute.limits, scope.day.limits]
}

fn config() -> KeyConfig {
    named("ci").with_global(old())
}

fn just_before(instant: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(instant.unix_ms() - 1)
}

fn old() -> Limits {
    limits(|it| {
        let it = it.requests_per_minute(10).requests_per_day(100);
        it.tokens_per_minute(1_000).tokens_per_day(10_000)
    })
}

fn new() -> Limits {
    limits(|it| {
        let it = it.requests_per_minute(20).tokens_per_minute(1_000);
        it.tokens_per_day(9_000).token_type(TokenType::Output)
    })
}
