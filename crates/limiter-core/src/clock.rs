//! Instants, and the clock that tests and replays set by hand.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::InvalidValue;
use crate::window::LAST_END;

/// An instant: whole milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// It converts to and from chrono's `DateTime<Utc>` and from `SystemTime`. It reads and prints as RFC 3339, and is a
/// plain number of milliseconds in serde. Its range is ±[`Timestamp::MAX`] (2^53 − 1 ms, about 285,000 years), so that
/// every clock fits; instants outside it become the nearest end. Input must lie in the years 1970 to 9999: [`FromStr`]
/// and [`KeyConfig::check`](crate::KeyConfig::check) refuse any other instant.
///
/// ```
/// use limiter_core::Timestamp;
///
/// let noon = Timestamp::from_unix_ms(1_760_011_200_000);
/// assert_eq!(noon.to_string(), "2025-10-09T12:00:00Z");
/// assert_eq!(noon.to_datetime().map(Timestamp::from), Some(noon));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(into = "i64")]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last instant, 2^53 − 1 milliseconds after 1970: exact in every JSON reader and in Lua.
    pub const MAX: Self = Self((1 << 53) - 1);
    /// The first instant, as far before 1970.
    pub const MIN: Self = Self(-((1 << 53) - 1));

    /// The first instant that input may have.
    pub const START_OF_1970: Self = Self(0);
    /// The last instant that input may have, a millisecond before the year 10,000: every date has a year of four
    /// digits.
    pub const END_OF_9999: Self = Self(253_402_300_799_999);

    /// The instant `unix_ms` milliseconds after the start of 1970 (before it, if negative).
    #[must_use]
    pub const fn from_unix_ms(unix_ms: i64) -> Self {
        if unix_ms > Self::MAX.0 {
            Self::MAX
        } else if unix_ms < Self::MIN.0 {
            Self::MIN
        } else {
            Self(unix_ms)
        }
    }

    /// The end of a window, which may lie just after [`Timestamp::MAX`].
    pub(crate) const fn from_window_end(unix_ms: i64) -> Self {
        Self(unix_ms)
    }

    /// Milliseconds since the start of 1970.
    #[must_use]
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Checks that the instant is valid as input: in the years 1970 to 9999.
    ///
    /// # Errors
    /// [`InvalidValue::Instant`] before 1970 and after 9999; `what` names the instant in the error.
    pub fn check(self, what: &'static str) -> Result<(), InvalidValue> {
        if (Self::START_OF_1970..=Self::END_OF_9999).contains(&self) {
            Ok(())
        } else {
            Err(InvalidValue::Instant { what, instant: self })
        }
    }

    /// As a date, or `None` beyond the years that chrono knows (about ±262,000).
    #[must_use]
    pub fn to_datetime(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    /// How long from `earlier` to this instant; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let elapsed_ms = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(elapsed_ms).unwrap_or(0))
    }

    /// The instant that much later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let added_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_ms(self.0.saturating_add(added_ms))
    }
}

impl From<i64> for Timestamp {
    fn from(unix_ms: i64) -> Self {
        Self::from_unix_ms(unix_ms)
    }
}

/// An end of a window, which may lie just after [`Timestamp::MAX`], comes back as it was.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unix_ms = i64::deserialize(deserializer)?;
        Ok(Self(unix_ms.clamp(Self::MIN.0, LAST_END.0)))
    }
}

impl From<Timestamp> for i64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(date: DateTime<Utc>) -> Self {
        Self::from_unix_ms(date.timestamp_millis())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(0).after(after),
            Err(before) => {
                let before_ms = before.duration().as_millis();
                Self::from_unix_ms(i64::try_from(before_ms).unwrap_or(i64::MAX).saturating_neg())
            }
        }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let expected = "a date and time by RFC 3339, such as 2030-01-01T00:00:00Z";
        let date = DateTime::parse_from_rfc3339(text);
        let date = date.map_err(|_| InvalidValue::unknown_word("date", text, expected))?;
        let timestamp = Self::from(date.with_timezone(&Utc));
        timestamp.check("a date").map(|()| timestamp)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_datetime() {
            Some(date) => f.pad(&date.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => f.pad(&format!("{} ms after 1970", self.0)),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A clock that stands until it is set: the time of tests, examples and replays.
///
/// Clones share the same time, so that a test keeps one and hands the other to the store.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.0)))
    }

    /// What the clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::Release);
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        let later = |now| Some(Timestamp(now).after(duration).0);
        // It cannot fail: `later` always answers.
        let _before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_chrono_are_instants() {
        for edge in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            let timestamp = Timestamp::from(edge);
            assert_eq!(timestamp.unix_ms(), edge.timestamp_millis());
        }
    }

    #[test]
    fn beyond_chrono_an_instant_still_prints() {
        assert_eq!(Timestamp::MAX.to_datetime(), None);
        assert_eq!(Timestamp::MAX.to_string(), "9007199254740991 ms after 1970");
    }

    #[test]
    fn a_date_is_read_in_any_zone_and_printed_in_utc() {
        let noon: Timestamp = "2025-10-09T14:00:00.250+02:00".parse().unwrap();
        assert_eq!(noon.to_string(), "2025-10-09T12:00:00.250Z");
        assert!("2025-10-09".parse::<Timestamp>().is_err());
        assert_eq!("9999-12-31T23:59:59.999Z".parse(), Ok(Timestamp::END_OF_9999));
        for outside in
            ["1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999-00:01", "0000-01-01T00:00:00Z"]
        {
            let refused = outside.parse::<Timestamp>();
            assert!(matches!(refused, Err(InvalidValue::Instant { .. })), "{outside}");
        }
    }

    #[test]
    fn a_system_time_before_1970_is_an_instant_too() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(5);
        assert_eq!(Timestamp::from(before).unix_ms(), -5);
    }

    #[test]
    fn out_of_range_becomes_the_nearest_end() {
        assert_eq!(Timestamp::from_unix_ms(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix_ms(i64::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn an_end_after_the_last_instant_survives_serde() {
        let end = crate::Window::Day.end(Timestamp::MAX);
        let json = serde_json::to_string(&end).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), end);
    }

    #[test]
    fn threads_that_advance_a_clock_together_lose_nothing() {
        let clock = ManualClock::at(Timestamp::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| clock.advance(Duration::from_millis(1))));
            }
        });
        assert_eq!(clock.now().unix_ms(), 40_000);
    }

    #[test]
    fn clones_of_a_manual_clock_share_the_time() {
        let clock = ManualClock::at(Timestamp::from_unix_ms(5));
        clock.clone().advance(Duration::from_millis(7));
        assert_eq!(clock.now().unix_ms(), 12);
    }
}
