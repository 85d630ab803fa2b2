//! Instants, and the clock that tests and replays set by hand.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::InvalidValue;
use crate::window::LAST_END;

/// An instant: whole milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
///
/// It converts to and from chrono's `DateTime<Utc>` and from `SystemTime`. It reads and prints as RFC 3339, in UTC and
/// with milliseconds if there are any, and has the same form in serde.
///
/// Its range is ±[`Timestamp::MAX`] (2^53 − 1 ms, about 285,000 years), so that every clock fits; instants outside it
/// become the nearest end. Input must lie in the years 1970 to 9999: [`FromStr`] and
/// [`KeyConfig::check`](crate::KeyConfig::check) refuse any other instant. RFC 3339 ends with the year 9999: beyond it, an
/// instant prints as a number of milliseconds after 1970.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::Timestamp;
///
/// let noon = Timestamp::from_unix_ms(1_760_011_200_000);
/// assert_eq!(noon.to_string(), "2025-10-09T12:00:00Z");
/// assert_eq!(noon, "2025-10-09T14:00:00+02:00".parse()?);
/// assert_eq!(noon.to_datetime().map(Timestamp::from), Some(noon));
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
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

    /// Returns the instant `unix_ms` milliseconds after the start of 1970, or before it if negative.
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

    /// Returns the end of a window, which may lie just after [`Timestamp::MAX`].
    pub(crate) const fn from_window_end(unix_ms: i64) -> Self {
        Self(unix_ms)
    }

    /// Returns the stored end of a window, which may lie just after [`Timestamp::MAX`]; `None` if no window ends then.
    #[must_use]
    pub fn from_stored_end(unix_ms: i64) -> Option<Self> {
        (Self::MIN.0..=LAST_END.0).contains(&unix_ms).then_some(Self(unix_ms))
    }

    /// Returns the milliseconds since the start of 1970.
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

    fn from_rfc3339(text: &str) -> Result<Self, InvalidValue> {
        let date = DateTime::parse_from_rfc3339(text);
        let date = date.map_err(|_| InvalidValue::unknown_word("date", text, RFC3339))?;
        Ok(Self::from(date.with_timezone(&Utc)))
    }

    /// Converts to a date; `None` beyond the years that chrono supports (about ±262,000).
    #[must_use]
    pub fn to_datetime(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    /// Returns the time since `earlier`; zero if that is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let elapsed_ms = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(elapsed_ms).unwrap_or(0))
    }

    /// Returns the instant that much later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let added_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_ms(self.0.saturating_add(added_ms))
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
        let timestamp = Self::from_rfc3339(text)?;
        timestamp.check("a date").map(|()| timestamp)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let years_of_rfc3339 = START_OF_YEAR_0..=Self::END_OF_9999.0;
        match self.to_datetime().filter(|_| years_of_rfc3339.contains(&self.0)) {
            Some(date) => f.pad(&date.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => f.pad(&format!("{}{MS_AFTER_1970}", self.0)),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads every printed instant, also outside the years of valid input: a saved window may end there.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Instant)
    }
}

struct Instant;

impl Visitor<'_> for Instant {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RFC3339)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        let unix_ms = text.strip_suffix(MS_AFTER_1970).and_then(|number| number.parse().ok());
        match unix_ms {
            // The end of a window may lie just after `Timestamp::MAX`.
            Some(unix_ms) => Ok(Timestamp(i64::clamp(unix_ms, Timestamp::MIN.0, LAST_END.0))),
            None => Timestamp::from_rfc3339(text).map_err(E::custom),
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
    /// Creates a clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.0)))
    }

    /// Returns the time that the clock shows.
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
        // This cannot fail: `later` always returns a value.
        let _before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }
}

const RFC3339: &str = "a date and time by RFC 3339, such as 2030-01-01T00:00:00Z";
const START_OF_YEAR_0: i64 = -62_167_219_200_000;
/// Follows the number of an instant that RFC 3339 cannot express.
const MS_AFTER_1970: &str = " ms after 1970";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clock_fits_and_what_is_out_of_range_becomes_the_nearest_end() {
        for edge in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert_eq!(Timestamp::from(edge).unix_ms(), edge.timestamp_millis());
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(5);
        assert_eq!(Timestamp::from(before).unix_ms(), -5);
        assert_eq!(Timestamp::from_unix_ms(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix_ms(i64::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
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
    fn every_instant_survives_serde() {
        let at = Timestamp::from_unix_ms;
        for (instant, json) in [
            (at(1_760_011_200_000), r#""2025-10-09T12:00:00Z""#),
            (at(1_760_011_200_050), r#""2025-10-09T12:00:00.050Z""#),
            (at(0), r#""1970-01-01T00:00:00Z""#),
            (at(-1), r#""1969-12-31T23:59:59.999Z""#),
            (at(START_OF_YEAR_0), r#""0000-01-01T00:00:00Z""#),
            (at(START_OF_YEAR_0 - 1), r#""-62167219200001 ms after 1970""#),
            (Timestamp::END_OF_9999, r#""9999-12-31T23:59:59.999Z""#),
            (
                Timestamp::END_OF_9999.after(Duration::from_millis(1)),
                r#""253402300800000 ms after 1970""#,
            ),
            (Timestamp::MIN, r#""-9007199254740991 ms after 1970""#),
            (
                crate::Window::Day.end(Timestamp::MAX, &crate::TimeZone::UTC),
                r#""9007199308800000 ms after 1970""#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&instant).unwrap(), json);
            assert_eq!(serde_json::from_str::<Timestamp>(json).unwrap(), instant, "{json}");
        }
    }

    #[test]
    fn a_date_that_cannot_be_read_is_refused_with_an_example() {
        for json in ["1760011200000", "null", r#""2025-10-09""#, r#""soon ms after 1970""#, r#""""#]
        {
            let error = serde_json::from_str::<Timestamp>(json).unwrap_err().to_string();
            assert!(error.contains(&format!("expected {RFC3339}")), "{error}");
        }
    }

    #[test]
    fn threads_that_advance_clones_of_a_clock_together_lose_nothing() {
        let clock = ManualClock::at(Timestamp::from_unix_ms(5));
        std::thread::scope(|scope| {
            for clock in [clock.clone(), clock.clone(), clock.clone(), clock.clone()] {
                let advance = move || clock.advance(Duration::from_millis(1));
                scope.spawn(move || (0..10_000).for_each(|_| advance()));
            }
        });
        assert_eq!(clock.now().unix_ms(), 40_005);
    }
}
