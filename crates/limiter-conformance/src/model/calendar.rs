//! When windows start and end, found by walking through time.
//!
//! "Half-open calendar intervals": "`Minute` and `Hour` are those of UTC; `Day`, `Week` and `Month` those of the level's
//! time zone".

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jiff::Timestamp;
use jiff::tz;

use crate::replay::{TimeZone, Window};

/// Returns the start and the end of the window that contains `now`; none for [`Window::Ever`].
pub(super) fn window(kind: Window, now: i64, zone: &TimeZone) -> Option<(i64, i64)> {
    let of_length = |ms: i64| {
        let start = now - now.rem_euclid(ms);
        Some((start, start + ms))
    };
    match kind {
        Window::Minute => of_length(MINUTE_MS),
        Window::Hour => of_length(60 * MINUTE_MS),
        Window::Ever => None,
        Window::Day | Window::Week | Window::Month => {
            let starts = starts_around(kind, now.div_euclid(DAY_MS), zone);
            let next = starts.iter().position(|start| *start > now)?;
            Some((starts[next - 1], starts[next]))
        }
    }
}

/// Returns the start of the window before the one that starts here.
pub(super) fn start_before(kind: Window, start: i64, zone: &TimeZone) -> i64 {
    window(kind, start - 1, zone).map_or(start, |(before, _)| before)
}

/// Returns the starts of the windows that begin some weeks before and after a day of UTC.
fn starts_around(kind: Window, day: i64, zone: &TimeZone) -> Rc<[i64]> {
    STARTS.with_borrow_mut(|known| {
        if known.len() > MOST_KNOWN {
            known.clear();
        }
        let known = known.entry((zone.name().to_owned(), kind, day));
        let now = day * DAY_MS;
        known.or_insert_with(|| walk(kind, now - WEEKS_MS, now + WEEKS_MS, zone)).clone()
    })
}

/// Walks from one instant to another, and notes each at which a date of a later window is shown for the first time.
///
/// So a window starts at midnight, or at the first instant of the day if the zone has no midnight on that day. Where a
/// zone shows the evening before once more, the new window goes on.
fn walk(kind: Window, from: i64, to: i64, zone: &TimeZone) -> Rc<[i64]> {
    let zone = Zone::named(zone.name());
    let number_at =
        |instant: i64| number(kind, (instant + zone.offset(instant)).div_euclid(DAY_MS));
    let (mut instant, mut latest, mut starts) = (from, number_at(from), Vec::new());
    while instant < to {
        // The date changes at midnight, or where the zone puts its clocks forth or back.
        let into_the_day = (instant + zone.offset(instant)).rem_euclid(DAY_MS);
        let midnight = instant + DAY_MS - into_the_day;
        instant = zone.next_change(instant).map_or(midnight, |change| change.min(midnight));
        if number_at(instant) > latest {
            latest = number_at(instant);
            starts.push(instant);
        }
    }
    starts.into()
}

/// Returns the number of the window that contains a date, in days since 1970-01-01, of all windows of this kind.
fn number(kind: Window, date: i64) -> i64 {
    match kind {
        // 1970-01-01 was a Thursday: the Monday of its week was three days before.
        Window::Week => (date + 3).div_euclid(7),
        Window::Month => month(date),
        _ => date,
    }
}

/// Returns the number of months from January 1970 to a date, counted year by year and month by month.
fn month(date: i64) -> i64 {
    // The calendar repeats itself after 400 years.
    let mut days = date.rem_euclid(DAYS_IN_400_YEARS);
    let mut months = date.div_euclid(DAYS_IN_400_YEARS) * 400 * 12;
    for year in 1970.. {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if days < length {
                return months;
            }
            days -= length;
            months += 1;
        }
    }
    months
}

/// The zone itself, or none for UTC.
struct Zone(Option<tz::TimeZone>);

impl Zone {
    fn named(name: &str) -> Self {
        let is_utc = name == "UTC";
        Self((!is_utc).then(|| tz::TimeZone::get(name).expect("the name was read as a zone")))
    }

    /// Returns the difference of its clocks from UTC; none beyond the years that jiff knows.
    fn offset(&self, instant: i64) -> i64 {
        let instant = Timestamp::from_millisecond(instant);
        let seconds = self.0.iter().zip(instant).map(|(zone, at)| zone.to_offset(at).seconds());
        seconds.map(i64::from).sum::<i64>() * 1_000
    }

    /// Returns when its clocks are next put forth or back.
    fn next_change(&self, instant: i64) -> Option<i64> {
        let instant = Timestamp::from_millisecond(instant).ok()?;
        let next = self.0.as_ref()?.following(instant).next()?;
        Some(next.timestamp().as_millisecond())
    }
}

/// The starts of windows, by zone, window and period.
type Starts = HashMap<(String, Window, i64), Rc<[i64]>>;

thread_local! {
    static STARTS: RefCell<Starts> = RefCell::default();
}

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const DAYS_IN_400_YEARS: i64 = 146_097;
/// More than a month, and the day that zones are apart.
const WEEKS_MS: i64 = 70 * DAY_MS;
/// A bound on the memory of a long test.
const MOST_KNOWN: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Window, now: &str, zone: &str) -> [String; 2] {
        let now: Timestamp = now.parse().unwrap();
        let (start, end) = window(kind, now.as_millisecond(), &zone.parse().unwrap()).unwrap();
        [start, end].map(|it| Timestamp::from_millisecond(it).unwrap().to_string())
    }

    #[test]
    fn windows_are_those_of_a_printed_calendar() {
        for (kind, now, zone, start, end) in [
            (
                Window::Day,
                "2025-10-09T12:00:00Z",
                "UTC",
                "2025-10-09T00:00:00Z",
                "2025-10-10T00:00:00Z",
            ),
            // 23 and 25 hours.
            (
                Window::Day,
                "2025-03-30T12:00:00Z",
                "Europe/Berlin",
                "2025-03-29T23:00:00Z",
                "2025-03-30T22:00:00Z",
            ),
            (
                Window::Day,
                "2025-10-26T12:00:00Z",
                "Europe/Berlin",
                "2025-10-25T22:00:00Z",
                "2025-10-26T23:00:00Z",
            ),
            // No midnight.
            (
                Window::Day,
                "2018-11-04T12:00:00Z",
                "America/Sao_Paulo",
                "2018-11-04T03:00:00Z",
                "2018-11-05T02:00:00Z",
            ),
            // The evening before once more, from a minute after midnight on.
            (
                Window::Day,
                "2006-10-29T02:45:00Z",
                "America/St_Johns",
                "2006-10-29T02:30:00Z",
                "2006-10-30T03:30:00Z",
            ),
            // No 30th of December.
            (
                Window::Day,
                "2011-12-30T12:00:00Z",
                "Pacific/Apia",
                "2011-12-30T10:00:00Z",
                "2011-12-31T10:00:00Z",
            ),
            (
                Window::Day,
                "2025-01-01T12:00:00Z",
                "Asia/Kathmandu",
                "2024-12-31T18:15:00Z",
                "2025-01-01T18:15:00Z",
            ),
            (
                Window::Week,
                "2025-03-30T12:00:00Z",
                "Europe/Berlin",
                "2025-03-23T23:00:00Z",
                "2025-03-30T22:00:00Z",
            ),
            (
                Window::Week,
                "2025-01-01T12:00:00Z",
                "UTC",
                "2024-12-30T00:00:00Z",
                "2025-01-06T00:00:00Z",
            ),
            (
                Window::Month,
                "2024-02-29T12:00:00Z",
                "UTC",
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                Window::Month,
                "2025-12-31T23:30:00Z",
                "Europe/Berlin",
                "2025-12-31T23:00:00Z",
                "2026-01-31T23:00:00Z",
            ),
            (
                Window::Hour,
                "2025-10-09T12:34:00Z",
                "Asia/Kathmandu",
                "2025-10-09T12:00:00Z",
                "2025-10-09T13:00:00Z",
            ),
        ] {
            assert_eq!(shown(kind, now, zone), [start, end], "{kind} at {now} in {zone}");
        }
    }

    #[test]
    fn months_are_those_of_jiff() {
        for days in (-800_000..2_000_000).step_by(13) {
            let Ok(instant) = Timestamp::from_millisecond(days * DAY_MS) else { continue };
            let date = instant.to_zoned(tz::TimeZone::UTC).date();
            let expected = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
            assert_eq!(month(days), expected, "{date}");
        }
    }
}
