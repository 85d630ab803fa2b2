//! `Minute` and `Day`: the end of a window, and the effect of a clock that steps.
//!
//! Only this file contains the length of a window. A counted window is identified by the instant at which it ends; all
//! other code uses instants.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::words::words;

/// A fixed, half-open window, aligned to UTC: it includes its start and ends just before the next.
///
/// A limit holds within each window; across the boundary of two, up to twice as much may pass in a short
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Window {
    /// A minute of the UTC clock.
    Minute,
    /// A day, from midnight to midnight UTC.
    Day,
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
    pub const ALL: [Self; 2] = [Self::Minute, Self::Day];

    /// Returns the end of the window that contains `now`: the first instant after it.
    #[must_use]
    pub const fn end(self, now: Timestamp) -> Timestamp {
        let length_ms = self.length_ms();
        let into_ms = now.unix_ms().rem_euclid(length_ms);
        // Not through `Timestamp::from_unix_ms`: the last window ends after the last instant.
        Timestamp::from_window_end(now.unix_ms().saturating_sub(into_ms).saturating_add(length_ms))
    }

    /// Returns the start of the window that ends at `end`.
    #[must_use]
    pub const fn start(self, end: Timestamp) -> Timestamp {
        Timestamp::from_unix_ms(end.unix_ms().saturating_sub(self.length_ms()))
    }

    /// Returns the number of windows of this kind that have passed since 1970 when one ends at `end`; negative before.
    /// A store may keep this number.
    #[must_use]
    pub const fn number_of_end(self, end: Timestamp) -> i64 {
        end.unix_ms().div_euclid(self.length_ms())
    }

    /// Returns the end of a window, from its [number](Self::number_of_end), if there can be such a window.
    #[must_use]
    pub fn end_of_number(self, number: i64) -> Option<Timestamp> {
        let end = Timestamp::from_window_end(number.checked_mul(self.length_ms())?);
        (Timestamp::MIN < end && end <= LAST_END).then_some(end)
    }

    /// Returns the effect of `now` on a counted window that ends at `end`.
    #[must_use]
    pub const fn step(self, end: Timestamp, now: Timestamp) -> Step {
        if self.stays(end, now) {
            Step::Stays
        } else if end.unix_ms() <= now.unix_ms() {
            Step::Rolls(self.end(now))
        } else {
            Step::Rebased(self.end(now))
        }
    }

    /// Returns whether a window that ends at `end` goes on at `now`: it contains it, or follows the one that
    /// does. A small step back never re-opens a window.
    #[must_use]
    #[inline]
    pub(crate) const fn stays(self, end: Timestamp, now: Timestamp) -> bool {
        let left_ms = end.unix_ms().wrapping_sub(now.unix_ms());
        0 < left_ms && left_ms <= self.length_ms().saturating_mul(2)
    }

    /// Returns the position among the windows of a record.
    pub(crate) const fn place(self) -> usize {
        self as usize
    }

    /// Returns the range of time in which a window that ends at `end` goes on: it contains the time, or follows the one
    /// that does.
    pub(crate) const fn stay(self, end: Timestamp) -> (Timestamp, Timestamp) {
        (self.start(self.start(end)), end)
    }

    const fn length_ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Day => 86_400_000,
        }
    }
}

words!(Window { Minute: "minute", Day: "day" }, "window", "minute, day");

/// The end of the last window that contains an instant.
pub(crate) const LAST_END: Timestamp = Window::Day.end(Timestamp::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms)
    }

    #[test]
    fn a_window_includes_its_start_and_excludes_its_end_which_utc_aligns() {
        for (story, window, now, end) in [
            ("the start", Window::Minute, at(0), at(MINUTE_MS)),
            ("just before the end", Window::Minute, at(MINUTE_MS - 1), at(MINUTE_MS)),
            ("the end", Window::Minute, at(MINUTE_MS), at(2 * MINUTE_MS)),
            ("before 1970", Window::Minute, at(-1), at(0)),
            ("noon", Window::Day, at(1_760_011_200_000), "2025-10-10T00:00:00Z".parse().unwrap()),
        ] {
            assert_eq!(window.end(now), end, "{story}");
        }
        assert_eq!(Window::Minute.start(at(MINUTE_MS)), at(0));
        assert!(Window::Day.end(Timestamp::MAX) > Timestamp::MAX, "after the last instant");
    }

    #[test]
    fn an_end_is_found_again_by_its_number() {
        for window in Window::ALL {
            for now in [Timestamp::MIN, at(-1), at(0), at(1_760_011_200_000), Timestamp::MAX] {
                let end = window.end(now);
                let found = window.end_of_number(window.number_of_end(end));
                assert_eq!(found, Some(end), "{window} {now}");
            }
            assert_eq!(window.end_of_number(i64::MAX), None);
            assert_eq!(window.end_of_number(i64::MIN / 60_000), None);
        }
    }

    #[test]
    fn one_window_back_stays_further_is_rebased_and_the_end_itself_rolls() {
        let end = at(10 * MINUTE_MS);
        for (now, step) in [
            (at(8 * MINUTE_MS - 1), Step::Rebased(at(8 * MINUTE_MS))),
            (at(8 * MINUTE_MS), Step::Stays),
            (at(10 * MINUTE_MS - 1), Step::Stays),
            (end, Step::Rolls(at(11 * MINUTE_MS))),
        ] {
            assert_eq!(Window::Minute.step(end, now), step, "{now}");
        }
    }
}
