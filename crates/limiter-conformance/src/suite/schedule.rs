//! Reading a key shows its configuration, the limits in force, and the pending changes with their times.

use limiter_core::{
    Credits, KeyConfig, KeyRecord, Limits, Other, Scope, ScopeId, ScopeLimits, Thresholds,
    Timestamp, Window,
};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // The limits of a new key are in force at once.
    suite.story("a_change_is_pending_until_the_next_window_of_each_kind", |world| {
        let key = world.member(config());
        let record = key.read();
        assert_eq!((&record.config.global, &global(&record).in_force), (&old(), &old()));
        assert_eq!(global(&record).pending, []);
        let updated = change(&key, new());
        assert_eq!(key.read(), updated);
        assert_eq!((&updated.config.global, &global(&updated).in_force), (&new(), &old()));
        let pending = pending(global(&updated));
        let expected = [(Window::Minute, NEXT_MINUTE), (Window::Day, MIDNIGHT)];
        assert_eq!(pending, expected.map(|(window, at)| (window, new().of(window), at)));
    });

    // To the millisecond, for reads and for calls.
    suite.story("a_change_comes_into_force_when_it_was_said_to", |world| {
        let key = world.member(config());
        change(&key, new());
        for (instant, minute, day) in [
            (just_before(NEXT_MINUTE), old(), old()),
            (NEXT_MINUTE, new(), old()),
            (just_before(MIDNIGHT), new(), old()),
            (MIDNIGHT, new(), new()),
        ] {
            world.set_clock(instant);
            let limits = minute.of(Window::Minute);
            let expected: Limits = limits.iter().chain(day.of(Window::Day).iter()).collect();
            assert_eq!(global(&key.read()).in_force, expected, "at {instant}");
            let decision = key.peek(None, requests(1));
            let expected = expected.iter().map(|limit| limit.amount);
            assert!(decision.rules().map(|rule| rule.limit).eq(expected), "at {instant}");
        }
        assert_eq!(global(&key.read()).pending, []);
    });

    // Only the versions of the key show such a change.
    suite.story("a_change_back_drops_what_was_pending", |world| {
        let key = world.member(config());
        let mut expected = key.read();
        expected.version = 3;
        change(&key, new());
        assert_eq!(change(&key, old()), expected);
    });

    suite.story("a_second_change_replaces_the_pending_one", |world| {
        let key = world.member(config());
        change(&key, new());
        let updated = change(&key, requests_per_minute(3));
        let minute = (Window::Minute, requests_per_minute(3), NEXT_MINUTE);
        assert_eq!(pending(global(&updated)), [minute, (Window::Day, Limits::NONE, MIDNIGHT)]);
    });

    suite.story("a_first_limit_of_a_living_key_waits", |world| {
        let key = world.member(named("ci"));
        key.update(|config| config.assets = [(asset("m1"), requests_per_minute(1))].into());
        let record = key.admit("m1", 5).read();
        let m1 = of_asset(&record).expect("its limit is pending");
        assert_eq!(m1.in_force, Limits::NONE);
        assert_eq!(pending(m1), [(Window::Minute, requests_per_minute(1), NEXT_MINUTE)]);
        key.after(MINUTE).admit("m1", 1).denied("m1", requests(1));
    });

    // Its limits end with the window.
    suite.story("a_removed_asset_is_limited_to_the_end_of_its_window", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(1)));
        key.admit("m1", 1).update(|config| config.assets.clear());
        let record = key.denied("m1", requests(1)).read();
        assert!(record.config.assets.is_empty());
        let m1 = of_asset(&record).expect("the end is pending");
        assert_eq!(pending(m1), [(Window::Day, Limits::NONE, MIDNIGHT)]);
        world.set_clock(MIDNIGHT);
        assert_eq!(of_asset(&key.read()), None);
        key.admit("m1", 9);
    });

    // It does not depend on the limits in force.
    suite.story("the_configuration_reads_as_it_was_saved", |world| {
        let key = world.member(config().with_asset(asset("m1"), new()));
        let saved = named("renamed")
            .with_global(new())
            .with_asset(asset("m2"), old())
            .with_asset(asset("m3"), Limits::NONE)
            .with_other(requests_per_day(3))
            .with_budget(Credits::MAX)
            .with_time_zone("Europe/Berlin".parse().expect("a name of the database"))
            .with_expiry(NOON.after(7 * DAY))
            .with_thresholds(Thresholds::NONE)
            .with_shadow(true);
        key.update(|config| *config = saved.clone());
        for instant in [NOON, NEXT_MINUTE, MIDNIGHT, MIDNIGHT.after(DAY)] {
            world.set_clock(instant);
            assert_eq!(key.read().config, saved, "at {instant}");
        }
        let denied = key.update(|config| config.other = Other::Denied);
        assert_eq!(denied.config, KeyConfig { other: Other::Denied, ..saved });
    });

    // Each window of the usage shows it, too.
    suite.story("a_rule_shows_when_it_resets", |world| {
        let all = limits(|it| {
            let it = it.requests_per_minute(9).requests_per_hour(9).requests_per_day(9);
            it.requests_per_week(9).requests_per_month(9)
        });
        let key = world.member(named("ci").with_global(all).with_budget(Credits::MAX));
        let ends = ["2025-10-09T13:00:00Z", "2025-10-13T00:00:00Z", "2025-11-01T00:00:00Z"];
        let [hour, week, month] = ends.map(|end| Some(instant(end)));
        let expected = [Some(NEXT_MINUTE), hour, Some(MIDNIGHT), week, month, None];
        for rules in [key.peek(None, requests(1)).rules().collect(), key.global().rules] {
            assert!(rules.iter().all(|rule| rule.rule.scope == Scope::Global));
            assert!(rules.iter().map(|rule| rule.resets_at).eq(expected), "{rules:?}");
        }
    });
}

fn change(key: &Key<'_>, global: Limits) -> KeyRecord {
    key.update(|config| config.global = global)
}

fn global(record: &KeyRecord) -> &ScopeLimits {
    record.limits_of(&ScopeId::GLOBAL).expect("the key has limits over all calls")
}

fn of_asset(record: &KeyRecord) -> Option<&ScopeLimits> {
    record.limits_of(&ScopeId::asset(asset("m1")))
}

fn pending(limits: &ScopeLimits) -> Vec<(Window, Limits, Timestamp)> {
    let pending = limits.pending.iter();
    pending.map(|it| (it.window, it.limits.clone(), it.effective_at)).collect()
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
        let it = it.requests_per_minute(20).output_tokens_per_minute(1_000);
        it.output_tokens_per_day(9_000)
    })
}
