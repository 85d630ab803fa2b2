//! The time zone of a level's days, weeks and months.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::error::InvalidValue;

/// A time zone by its name in the [IANA database](https://www.iana.org/time-zones), such as `Europe/Berlin`; UTC by
/// default. It decides when days, weeks and months end.
///
/// Names other than `UTC` need the feature `time-zones`, which brings the database along.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::TimeZone;
///
/// assert_eq!(TimeZone::UTC.to_string(), "UTC");
/// # #[cfg(feature = "time-zones")]
/// assert_eq!("Europe/Berlin".parse::<TimeZone>()?.name(), "Europe/Berlin");
/// assert!("Europe/Brelin".parse::<TimeZone>().is_err());
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TimeZone(Zone);

#[derive(Clone, PartialEq, Eq, Default)]
enum Zone {
    #[default]
    Utc,
    #[cfg(feature = "time-zones")]
    Named(jiff::tz::TimeZone),
}

impl TimeZone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(Zone::Utc);

    /// The most bytes of a name.
    pub const MAX_BYTES: usize = 64;

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Zone::Utc => UTC,
            #[cfg(feature = "time-zones")]
            Zone::Named(zone) => zone.iana_name().unwrap_or(UTC),
        }
    }

    /// Returns whether this is UTC.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        *self == Self::UTC
    }

    /// Returns the local date of an instant, in days since 1970-01-01.
    #[must_use]
    pub fn date(&self, now: Timestamp) -> i64 {
        match &self.0 {
            Zone::Utc => now.unix_ms().div_euclid(DAY_MS),
            #[cfg(feature = "time-zones")]
            Zone::Named(zone) => local::date(zone, now),
        }
    }

    /// Returns the first instant of a local date. A date that the zone has skipped starts with the next one.
    pub(crate) fn start_of(&self, date: i64) -> Timestamp {
        match &self.0 {
            Zone::Utc => Timestamp::from_window_end(date.saturating_mul(DAY_MS)),
            #[cfg(feature = "time-zones")]
            Zone::Named(zone) => local::start_of(zone, date),
        }
    }

    #[cfg(feature = "time-zones")]
    fn find(name: &str) -> Option<Self> {
        let zone = jiff::tz::TimeZone::get(name).ok()?;
        (zone.iana_name() == Some(name)).then_some(Self(Zone::Named(zone)))
    }

    #[cfg(not(feature = "time-zones"))]
    const fn find(_: &str) -> Option<Self> {
        None
    }
}

impl FromStr for TimeZone {
    type Err = InvalidValue;

    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        if name == UTC {
            return Ok(Self::UTC);
        }
        let found = if name.len() <= Self::MAX_BYTES { Self::find(name) } else { None };
        found.ok_or_else(|| InvalidValue::unknown_word("time zone", name, EXPECTED))
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

/// Local dates, by jiff. Beyond the years that jiff knows (±9999), the offset from UTC is none.
#[cfg(feature = "time-zones")]
mod local {
    use jiff::civil::Date;
    use jiff::tz::TimeZone;

    use super::DAY_MS;
    use crate::clock::Timestamp;

    pub(super) fn date(zone: &TimeZone, now: Timestamp) -> i64 {
        let utc = now.unix_ms().div_euclid(DAY_MS);
        let Ok(instant) = jiff::Timestamp::from_millisecond(now.unix_ms()) else { return utc };
        days(zone.to_datetime(instant).date()).unwrap_or(utc)
    }

    pub(super) fn start_of(zone: &TimeZone, days: i64) -> Timestamp {
        let start = civil(days).and_then(|date| date.to_zoned(zone.clone()).ok());
        let ms = start.map_or_else(
            || days.saturating_mul(DAY_MS),
            |start| start.timestamp().as_millisecond(),
        );
        Timestamp::from_window_end(ms)
    }

    fn days(date: Date) -> Option<i64> {
        let since = date.since((jiff::Unit::Day, EPOCH)).ok()?;
        Some(since.get_days().into())
    }

    fn civil(days: i64) -> Option<Date> {
        let span = jiff::Span::new().try_days(days).ok()?;
        EPOCH.checked_add(span).ok()
    }

    const EPOCH: Date = jiff::civil::date(1970, 1, 1);
}

const UTC: &str = "UTC";
const DAY_MS: i64 = 86_400_000;
#[cfg(feature = "time-zones")]
const EXPECTED: &str = "a name of the IANA database, such as UTC or Europe/Berlin";
#[cfg(not(feature = "time-zones"))]
const EXPECTED: &str = "UTC; other zones need the feature time-zones";

#[cfg(all(test, feature = "time-zones"))]
mod tests {
    use super::*;

    /// Two hours before the midnight of UTC, which is the midnight of Berlin in summer.
    const MIDNIGHT_OF_BERLIN: Timestamp = Timestamp::from_unix_ms(1_760_047_200_000);

    #[test]
    fn a_zone_is_known_by_its_name_in_the_database_alone() {
        let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
        assert_eq!(
            (berlin.to_string(), format!("{berlin:?}")),
            (berlin.name().to_owned(), "Europe/Berlin".to_owned())
        );
        assert!(!berlin.is_utc());
        assert!("UTC".parse::<TimeZone>().unwrap().is_utc());
        for name in ["", "europe/berlin", "Europe/Nowhere", "+02:00"] {
            let error = name.parse::<TimeZone>().unwrap_err();
            assert!(error.to_string().contains("time zone"), "{error}");
        }
    }

    #[test]
    fn a_date_begins_at_the_midnight_of_its_zone() {
        let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
        let before = Timestamp::from_unix_ms(MIDNIGHT_OF_BERLIN.unix_ms() - 1);
        let of_utc = TimeZone::UTC.date(MIDNIGHT_OF_BERLIN);
        assert_eq!(of_utc, 20_370);
        assert_eq!((berlin.date(before), berlin.date(MIDNIGHT_OF_BERLIN)), (of_utc, of_utc + 1));
        assert_eq!(berlin.start_of(of_utc + 1), MIDNIGHT_OF_BERLIN);
    }
}
