//! Dates of the wire: read in every form that clients send, written in the one that the SDK writes.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use limiter::Timestamp;

use crate::refusal::{Refusal, shortened};

/// When a key expires. A date without a zone is one in UTC, as the SDK formats all of its own.
pub(crate) fn read(text: &str) -> Result<Timestamp, Refusal> {
    let with_zone = DateTime::parse_from_rfc3339(text).map(|date| date.with_timezone(&Utc));
    let without_zone = || text.parse::<NaiveDateTime>().map(|date| date.and_utc());
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let date = with_zone.or_else(|_| without_zone()).or_else(|_| day());
    let expires_at = date.map(Timestamp::from).map_err(|_| {
        let shown = shortened(text);
        Refusal::malformed(format!(
            "expiresAt is {shown:?}, but must be a date and time such as 2030-01-01T00:00:00Z"
        ))
    })?;
    expires_at.check("expiresAt")?;
    Ok(expires_at)
}

/// Formats an instant, such as `2030-01-01T00:00:00.000000Z`. An instant outside the years of this form is shown as the
/// nearest one inside, so that past stays past and future stays future.
pub(crate) fn write(expires_at: Timestamp) -> String {
    let shown = expires_at.clamp(Timestamp::START_OF_1970, Timestamp::END_OF_9999);
    let date = shown.to_datetime().unwrap_or_default();
    date.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_in_every_form_and_comes_back_in_one() {
        let new_year = Ok("2030-01-01T00:00:00.000000Z");
        for (text, expected) in [
            ("2030-01-01T00:00:00Z", new_year),
            ("2030-01-01T00:00:00.000000Z", new_year),
            ("2030-01-01T01:00:00+01:00", new_year),
            ("2030-01-01T00:00:00", new_year),
            ("2030-01-01T00:00:00.000", new_year),
            ("2030-01-01", new_year),
            // The engine keeps milliseconds.
            ("2026-11-25T10:20:37.123456Z", Ok("2026-11-25T10:20:37.123000Z")),
            ("2026-11-25T10:20:37.123000Z", Ok("2026-11-25T10:20:37.123000Z")),
            ("", Err("must be a date")),
            ("tomorrow", Err("must be a date")),
            ("2030-13-01T00:00:00Z", Err("must be a date")),
            ("1893456000", Err("must be a date")),
            ("+12000-01-01T00:00:00", Err("1970 to 9999")),
            ("-0001-01-01T00:00:00", Err("1970 to 9999")),
            ("1969-12-31T23:59:59.999Z", Err("1970 to 9999")),
            ("9999-12-31T23:59:59-01:00", Err("1970 to 9999")),
            ("+12000-01-01", Err("1970 to 9999")),
        ] {
            match (read(text), expected) {
                (Ok(at), Ok(expected)) => assert_eq!(write(at), expected, "{text}"),
                (Err(refused), Err(why)) => assert!(refused.message.contains(why), "{refused:?}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
        assert_eq!(write(Timestamp::MAX), "9999-12-31T23:59:59.999000Z");
        assert_eq!(write(Timestamp::MIN), "1970-01-01T00:00:00.000000Z");
    }
}
