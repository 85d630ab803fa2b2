//! Windows: where each ends, and the effect of a clock that steps.
//!
//! Only this file knows how long a window is. All other code uses the instants at which windows end.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::words::words;
use crate::zone::TimeZone;

/// A calendar interval in which a limit holds: it includes its start and ends just before the next.
///
/// Minutes and hours are those of UTC. Days, weeks and months are those of the level's [time zone](TimeZone), so a day may
/// have 23 or 25 hours. A limit holds within each window; across the boundary of two, up to twice as much may pass in a
/// short time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Window {
    /// A minute of the UTC clock.
    Minute,
    /// An hour of the UTC clock.
    Hour,
    /// A day, from midnight to midnight.
    Day,
    /// A week, from Monday.
    Week,
    /// A calendar month.
    Month,
    /// The whole life of the key: it does not end.
    Ever,
}

/// The effect of the clock on a window that was counted earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the current one, or the clock has stepped back by less than a window: it goes on.
    Stays,
    /// It has passed: counting starts from zero in the window that ends here.
    Rolls(Timestamp),
    /// A clock that had been far ahead was set right: the counts are carried into the window that ends here.
    Rebased(Timestamp),
}

impl Window {
    /// Every window, the shorter first.
    pub const ALL: [Self; 6] =
        [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Ever];

    /// The windows that end.
    pub const ENDING: [Self; 5] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];

    /// Returns the end of the window that contains `now`: the first instant after it.
    ///
    /// [`Ever`](Self::Ever) ends after every instant.
    #[must_use]
    pub fn end(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        match self {
            Self::Minute => clock_end(now, MINUTE_MS),
            Self::Hour => clock_end(now, HOUR_MS),
            Self::Ever => NEVER,
            Self::Day | Self::Week | Self::Month => {
                let number = self.number(zone.date(now));
                // A zone may have put its clocks back over midnight: then the next window has begun already.
                let starts = (0..3).map(|later| self.start_of(number.saturating_add(later), zone));
                starts.into_iter().find(|start| *start > now).unwrap_or(NEVER)
            }
        }
    }

    /// Returns the start of the window that ends at `end`. If the zone has changed since, this is the start of the window
    /// that contains the last instant before `end`.
    #[must_use]
    pub fn start(self, end: Timestamp, zone: &TimeZone) -> Timestamp {
        let last = Timestamp::from_window_end(end.unix_ms().saturating_sub(1));
        match self {
            Self::Minute => clock_start(last, MINUTE_MS),
            Self::Hour => clock_start(last, HOUR_MS),
            Self::Ever => Timestamp::MIN,
            Self::Day | Self::Week | Self::Month => {
                let number = self.number(zone.date(last)).saturating_add(1);
                let starts =
                    (0..4).map(|sooner| self.start_of(number.saturating_sub(sooner), zone));
                starts.into_iter().find(|start| *start <= last).unwrap_or(Timestamp::MIN)
            }
        }
    }

    /// Returns the effect of `now` on a counted window that ends at `end`.
    #[must_use]
    pub fn step(self, end: Timestamp, now: Timestamp, zone: &TimeZone) -> Step {
        if end <= now {
            Step::Rolls(self.end(now, zone))
        } else if now < self.stay(end, zone).0 {
            Step::Rebased(self.end(now, zone))
        } else {
            Step::Stays
        }
    }

    /// Returns the range of time in which a window that ends at `end` goes on: it contains the time, or follows the one
    /// that does. A small step back never re-opens a window.
    pub(crate) fn stay(self, end: Timestamp, zone: &TimeZone) -> (Timestamp, Timestamp) {
        (self.start(self.start(end, zone), zone), end)
    }

    /// Returns whether a window of this kind may end at this instant, in some zone.
    pub(crate) const fn may_end(self, end: Timestamp) -> bool {
        let aligned_to_ms = match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
            // A zone may differ from UTC by any number of seconds.
            Self::Day | Self::Week | Self::Month | Self::Ever => 1_000,
        };
        end.unix_ms().rem_euclid(aligned_to_ms) == 0
    }

    /// Returns whether it ends.
    #[must_use]
    pub const fn ends(self) -> bool {
        !matches!(self, Self::Ever)
    }

    /// Returns the number of the window that contains a date, of all windows of its kind; days, weeks or months.
    fn number(self, date: i64) -> i64 {
        match self {
            Self::Week => date.saturating_add(FROM_MONDAY).div_euclid(7),
            Self::Month => month_of(date),
            _ => date,
        }
    }

    /// Returns the start of the window with this number.
    fn start_of(self, number: i64, zone: &TimeZone) -> Timestamp {
        zone.start_of(match self {
            Self::Week => number.saturating_mul(7).saturating_sub(FROM_MONDAY),
            Self::Month => first_day_of(number),
            _ => number,
        })
    }
}

words!(
    Window {
        Minute: "minute",
        Hour: "hour",
        Day: "day",
        Week: "week",
        Month: "month",
        Ever: "ever"
    },
    "window",
    "minute, hour, day, week, month or ever"
);

const fn clock_end(now: Timestamp, length_ms: i64) -> Timestamp {
    // Not through `Timestamp::from_unix_ms`: the last window ends after the last instant.
    Timestamp::from_window_end(clock_start(now, length_ms).unix_ms().saturating_add(length_ms))
}

const fn clock_start(now: Timestamp, length_ms: i64) -> Timestamp {
    let into_ms = now.unix_ms().rem_euclid(length_ms);
    Timestamp::from_window_end(now.unix_ms().saturating_sub(into_ms))
}

/// Returns the number of the month that contains a date, 0 for January of 1970.
fn month_of(date: i64) -> i64 {
    // 400 years have 4,800 months and 146,097 days: this is at most one month late, so that the search starts one earlier.
    let mut month = date.saturating_mul(4_800).div_euclid(146_097).saturating_sub(1);
    while first_day_of(month.saturating_add(1)) <= date {
        month = month.saturating_add(1);
    }
    month
}

/// Returns the first day of a month, in days since 1970-01-01.
///
/// Years begin with March here, so that the leap day is the last of a year: `(153 m + 2) / 5` days lie before the
/// month `m` of such a year. After Howard Hinnant, "chrono-compatible low-level date algorithms".
fn first_day_of(month: i64) -> i64 {
    let since_march_of_0 = month.saturating_add(MONTHS_FROM_MARCH_OF_0);
    let (year, month) = (since_march_of_0.div_euclid(12), since_march_of_0.rem_euclid(12));
    let leap_days = [(4, 1), (100, -1), (400, 1)]
        .map(|(years, sign)| year.div_euclid(years).saturating_mul(sign))
        .into_iter()
        .fold(0_i64, i64::saturating_add);
    let days_of_months = month.saturating_mul(153).saturating_add(2) / 5;
    let days = year.saturating_mul(365).saturating_add(leap_days);
    days.saturating_add(days_of_months).saturating_sub(DAYS_FROM_MARCH_OF_0)
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
/// 1970-01-01 was a Thursday, three days after a Monday.
const FROM_MONDAY: i64 = 3;
const MONTHS_FROM_MARCH_OF_0: i64 = 1_970 * 12 - 2;
/// From 0000-03-01 to 1970-01-01.
const DAYS_FROM_MARCH_OF_0: i64 = 719_468;
/// The end of [`Window::Ever`]: later than every instant and every other end.
pub(crate) const NEVER: Timestamp = Timestamp::from_window_end(i64::MAX);
/// No window that contains an instant ends later than this.
pub(crate) const LAST_END: Timestamp =
    Timestamp::from_window_end(Timestamp::MAX.unix_ms().saturating_add(32 * 24 * HOUR_MS));

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: TimeZone = TimeZone::UTC;

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms)
    }

    fn date(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_includes_its_start_and_excludes_its_end() {
        for (story, window, now, start, end) in [
            (
                "the start",
                Window::Minute,
                "2025-10-09T12:00:00Z",
                "2025-10-09T12:00:00Z",
                "2025-10-09T12:01:00Z",
            ),
            (
                "before the end",
                Window::Minute,
                "2025-10-09T12:00:59.999Z",
                "2025-10-09T12:00:00Z",
                "2025-10-09T12:01:00Z",
            ),
            (
                "an hour",
                Window::Hour,
                "2025-10-09T12:34:00Z",
                "2025-10-09T12:00:00Z",
                "2025-10-09T13:00:00Z",
            ),
            (
                "a day",
                Window::Day,
                "2025-10-09T12:34:00Z",
                "2025-10-09T00:00:00Z",
                "2025-10-10T00:00:00Z",
            ),
            (
                "a week",
                Window::Week,
                "2025-10-09T12:34:00Z",
                "2025-10-06T00:00:00Z",
                "2025-10-13T00:00:00Z",
            ),
            (
                "a Monday",
                Window::Week,
                "2025-10-13T00:00:00Z",
                "2025-10-13T00:00:00Z",
                "2025-10-20T00:00:00Z",
            ),
            (
                "a month",
                Window::Month,
                "2025-10-31T23:59:59Z",
                "2025-10-01T00:00:00Z",
                "2025-11-01T00:00:00Z",
            ),
            (
                "a leap day",
                Window::Month,
                "2024-02-29T12:00:00Z",
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                "no leap day",
                Window::Month,
                "2100-02-28T12:00:00Z",
                "2100-02-01T00:00:00Z",
                "2100-03-01T00:00:00Z",
            ),
            (
                "a year's end",
                Window::Month,
                "2025-12-31T00:00:00Z",
                "2025-12-01T00:00:00Z",
                "2026-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(window.end(date(now), &UTC), date(end), "{story}");
            assert_eq!(window.start(date(end), &UTC), date(start), "{story}");
        }
        assert_eq!(Window::Ever.step(NEVER, Timestamp::MAX, &UTC), Step::Stays);
        assert_eq!(Window::Ever.step(NEVER, Timestamp::MIN, &UTC), Step::Stays);
    }

    #[test]
    fn windows_follow_each_other_at_every_time_that_a_clock_can_show() {
        for window in Window::ENDING {
            for now in [
                Timestamp::MIN,
                at(-1),
                at(0),
                at(1_760_011_200_000),
                Timestamp::END_OF_9999,
                Timestamp::MAX,
            ] {
                let end = window.end(now, &UTC);
                assert!(now < end && end <= LAST_END, "{window} {now}");
                assert!(window.start(end, &UTC) <= now, "{window} {now}");
                assert_eq!(window.start(window.end(end, &UTC), &UTC), end, "{window} {now}");
            }
        }
    }

    #[test]
    fn every_month_has_its_days() {
        let mut day = 0;
        for year in 1970..2_500 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, days) in
                [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
                    .into_iter()
                    .enumerate()
            {
                let number = (year - 1970) * 12 + month as i64;
                assert_eq!(first_day_of(number), day, "{year} {month}");
                assert_eq!(month_of(day + days - 1), number);
                day += days;
            }
        }
    }

    #[test]
    fn one_window_back_stays_further_is_rebased_and_the_end_itself_rolls() {
        for (window, end) in
            [(Window::Minute, "2025-10-09T12:10:00Z"), (Window::Month, "2024-04-01T00:00:00Z")]
        {
            let end = date(end);
            let before = window.start(window.start(end, &UTC), &UTC);
            let just_before = at(before.unix_ms() - 1);
            for (now, step) in [
                (just_before, Step::Rebased(before)),
                (before, Step::Stays),
                (at(end.unix_ms() - 1), Step::Stays),
                (end, Step::Rolls(window.end(end, &UTC))),
            ] {
                assert_eq!(window.step(end, now, &UTC), step, "{window} {now}");
            }
        }
        let march = Window::Month.stay(date("2024-04-01T00:00:00Z"), &UTC);
        assert_eq!(march.0, date("2024-02-01T00:00:00Z"), "the month before has 29 days");
    }

    #[cfg(feature = "time-zones")]
    #[test]
    fn days_follow_the_clocks_of_their_zone() {
        for (story, zone, now, start, end) in [
            (
                "23 hours",
                "Europe/Berlin",
                "2025-03-30T12:00:00Z",
                "2025-03-29T23:00:00Z",
                "2025-03-30T22:00:00Z",
            ),
            (
                "25 hours",
                "Europe/Berlin",
                "2025-10-26T12:00:00Z",
                "2025-10-25T22:00:00Z",
                "2025-10-26T23:00:00Z",
            ),
            (
                "half an hour",
                "Asia/Kolkata",
                "2025-10-09T18:29:59Z",
                "2025-10-08T18:30:00Z",
                "2025-10-09T18:30:00Z",
            ),
            (
                "half an hour of summer",
                "Australia/Lord_Howe",
                "2025-04-05T14:00:00Z",
                "2025-04-05T13:00:00Z",
                "2025-04-06T13:30:00Z",
            ),
            (
                "a day that was skipped",
                "Pacific/Apia",
                "2011-12-30T09:00:00Z",
                "2011-12-29T10:00:00Z",
                "2011-12-30T10:00:00Z",
            ),
            (
                "the day after it",
                "Pacific/Apia",
                "2011-12-30T10:00:00Z",
                "2011-12-30T10:00:00Z",
                "2011-12-31T10:00:00Z",
            ),
            (
                "summer begins at midnight",
                "America/Sao_Paulo",
                "2018-11-04T12:00:00Z",
                "2018-11-04T03:00:00Z",
                "2018-11-05T02:00:00Z",
            ),
        ] {
            let zone: TimeZone = zone.parse().unwrap();
            assert_eq!(Window::Day.end(date(now), &zone), date(end), "{story}");
            assert_eq!(Window::Day.start(date(end), &zone), date(start), "{story}");
        }
        let berlin = "Europe/Berlin".parse().unwrap();
        assert_eq!(
            Window::Month.end(date("2025-10-09T12:00:00Z"), &berlin),
            date("2025-10-31T23:00:00Z")
        );
        assert_eq!(
            Window::Week.end(date("2025-10-09T12:00:00Z"), &berlin),
            date("2025-10-12T22:00:00Z")
        );
        assert_eq!(
            Window::Minute.end(date("2025-10-09T12:00:00Z"), &berlin),
            date("2025-10-09T12:01:00Z")
        );
    }

    #[cfg(feature = "time-zones")]
    #[test]
    fn windows_follow_each_other_in_every_zone() {
        for name in [
            "Europe/Berlin",
            "Pacific/Apia",
            "America/Sao_Paulo",
            "Africa/Monrovia",
            "America/Havana",
            "America/Scoresbysund",
        ] {
            let zone: TimeZone = name.parse().unwrap();
            for window in [Window::Day, Window::Week, Window::Month] {
                let (mut now, last) = (date("1970-01-01T00:00:00Z"), date("2035-01-01T00:00:00Z"));
                while now < last {
                    let end = window.end(now, &zone);
                    assert!(now < end, "{name} {window} {now}");
                    let start = window.start(end, &zone);
                    assert!(start <= now, "{name} {window} {now}: {start}");
                    assert_eq!(window.end(start, &zone), end, "{name} {window} {now}");
                    assert_eq!(
                        window.end(at(end.unix_ms() - 1), &zone),
                        end,
                        "{name} {window} {now}"
                    );
                    now = end;
                }
            }
        }
    }
}
