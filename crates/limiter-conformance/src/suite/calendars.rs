//! Windows of all lengths, and days, weeks and months of a time zone.

use limiter_core::{KeyConfig, Limits, Timestamp, Unit, Window};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // Once before each end, and once at it. Minutes and hours are those of UTC.
    for (name, zone, window, ends) in [
        (
            "minutes",
            "Asia/Kathmandu",
            Window::Minute,
            ["2025-10-09T12:01:00Z", "2025-10-09T12:02:00Z"],
        ),
        ("hours", "Asia/Kathmandu", Window::Hour, ["2025-10-09T13:00:00Z", "2025-10-09T14:00:00Z"]),
        ("days", "UTC", Window::Day, ["2025-10-10T00:00:00Z", "2025-10-11T00:00:00Z"]),
        ("weeks", "UTC", Window::Week, ["2025-10-13T00:00:00Z", "2025-10-20T00:00:00Z"]),
        ("months", "UTC", Window::Month, ["2025-11-01T00:00:00Z", "2025-12-01T00:00:00Z"]),
        (
            "months_of_berlin",
            "Europe/Berlin",
            Window::Month,
            ["2025-10-31T23:00:00Z", "2025-11-30T23:00:00Z"],
        ),
        (
            "weeks_of_berlin",
            "Europe/Berlin",
            Window::Week,
            ["2025-10-12T22:00:00Z", "2025-10-19T22:00:00Z"],
        ),
        (
            "days_of_a_quarter_of_an_hour",
            "Asia/Kathmandu",
            Window::Day,
            ["2025-10-09T18:15:00Z", "2025-10-10T18:15:00Z"],
        ),
    ] {
        suite.story(&format!("a_limit_begins_again_at_the_end_of_{name}"), move |world| {
            let key = world.member(zoned(zone).with_global(one(window)));
            for end in ends.map(instant) {
                assert_eq!(
                    key.peek(None, requests(1)).rules().next().and_then(|it| it.resets_at),
                    Some(end)
                );
                key.admit(None, 1).world.set_clock(Timestamp::from_unix_ms(end.unix_ms() - 1));
                let denied = key.check(None, requests(1));
                assert_eq!(denied.denied().and_then(|it| it.retry_at()), Some(end));
                world.set_clock(end);
            }
            key.admit(None, 1);
        });
    }

    // 23 hours, 25 hours, no midnight, and a date that the zone went without.
    for (name, zone, start, end) in [
        ("of_23_hours", "Europe/Berlin", "2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z"),
        ("of_25_hours", "Europe/Berlin", "2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z"),
        ("without_a_midnight", "America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
        ("that_is_skipped", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        ("that_is_a_leap_day", "UTC", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
    ] {
        suite.story(&format!("a_limit_holds_for_a_day_{name}"), move |world| {
            world.set_clock(instant(start));
            let key = world.member(zoned(zone).with_global(one(Window::Day)));
            key.admit(None, 1);
            world.set_clock(Timestamp::from_unix_ms(instant(end).unix_ms() - 1));
            key.denied(None, requests(1));
            world.set_clock(instant(end));
            key.admit(None, 1);
        });
    }

    // The stored windows end as they were, and the next ones are those of the new zone.
    suite.story("another_zone_holds_from_the_end_of_each_window_on", |world| {
        let key = world.limited(one(Window::Day));
        let zone = "Europe/Berlin".parse().expect("a name of the database");
        key.admit(None, 1).update(|config| config.time_zone = zone);
        let ends = ["2025-10-10T00:00:00Z", "2025-10-10T22:00:00Z", "2025-10-11T22:00:00Z"];
        for end in ends.map(instant) {
            let denied = key.check(None, requests(1));
            assert_eq!(denied.denied().and_then(|it| it.retry_at()), Some(end));
            world.set_clock(end);
            key.admit(None, 1);
        }
    });

    // A small step back never opens one again; a clock that was far ahead carries its counts back.
    for window in Window::ENDING {
        suite.story(&format!("a_step_back_gives_nothing_away_by_the_{window}"), move |world| {
            let key = world.limited(one(window));
            let start = key.peek(None, requests(1)).rules().next().and_then(|it| it.resets_at);
            let end = start.expect("the window ends");
            world.set_clock(end);
            key.admit(None, 1);
            world.set_clock(Timestamp::from_unix_ms(end.unix_ms() - 1));
            key.denied(None, requests(1));
            key.after(400 * DAY).admit(None, 1).at(0).denied(None, requests(1));
            assert_eq!(key.global().rules[0].resets_at, Some(end));
            world.set_clock(end);
            key.admit(None, 1);
        });
    }

    // As many as a scope may have.
    suite.story("twelve_limits_hold_together", |world| {
        let limits = (0..12_usize).fold(Limits::builder(), |limits, number| {
            let (window, unit) = (Window::ALL[number % 6], Unit::ALL[number % 5]);
            limits.limit(window, unit, 100 - number as u64)
        });
        let key = world.limited(limits.build().expect("twelve limits"));
        let charge = tokens(10, 10).with_credits(millionths(10));
        let decision = key.check(None, charge);
        assert_eq!(decision.rules().count(), 12);
        for rule in decision.rules() {
            let unit = rule.rule.unit().unwrap();
            assert_eq!(rule.used, charge.amount(unit), "{}", rule.rule);
        }
    });

    suite.story("input_and_output_tokens_are_limited_each", |world| {
        let key = world.limited(limits(|it| it.input_tokens_per_day(10).output_tokens_per_day(5)));
        assert!(key.check(None, tokens(10, 4)).is_allowed());
        key.denied(None, tokens(1, 0)).denied(None, tokens(0, 2));
        key.denied(None, tokens(0, 1)).after(DAY);
        assert!(key.check(None, tokens(0, 5)).is_allowed());
    });
}

fn zoned(zone: &str) -> KeyConfig {
    named("ci").with_time_zone(zone.parse().expect("a name of the database"))
}

/// A limit of one request.
fn one(window: Window) -> Limits {
    limits(|it| it.limit(window, Unit::Requests, 1))
}
