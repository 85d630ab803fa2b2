//! Numbers of the wire: credits come and go as decimal numbers, and limits may come as floats.

use limiter::{Credits, MAX_COUNT};
use serde_json::{Number, Value};

use crate::refusal::Refusal;

/// An amount of credits, exact to a millionth up to 2^33 credits. Beyond that, as far as the float goes that the SDK sends.
pub(crate) fn credits(what: &str, value: &Value) -> Result<Credits, Refusal> {
    let refused = || {
        Refusal::malformed(format!(
            "{what} is {value}, but must be a number of credits of at least 0, with at most six decimals"
        ))
    };
    let millionths = match value {
        Value::Number(number) => match number.as_u64() {
            Some(whole) => whole.checked_mul(MILLIONTHS),
            None => number.as_f64().and_then(millionths),
        },
        _ => None,
    };
    Ok(Credits::from_millionths(millionths.ok_or_else(refused)?)?)
}

/// The same as a number: whole if it is.
pub(crate) fn number(credits: Credits) -> Value {
    let millionths = credits.millionths();
    if millionths.is_multiple_of(MILLIONTHS) {
        return Value::from(millionths / MILLIONTHS);
    }
    // Both are exact, and their quotient is the float nearest to the decimal number.
    Number::from_f64(exact(millionths) / exact(MILLIONTHS)).map_or(Value::Null, Value::Number)
}

/// A limit: a whole number of at least 0, of which 0 and null mean that there is none.
pub(crate) fn limit(what: &str, value: Option<&Value>) -> Result<Option<u64>, Refusal> {
    let limit = match value {
        None | Some(Value::Null) => 0,
        Some(value) => whole(value).ok_or_else(|| {
            Refusal::malformed(format!("{what} is {value}, but must be a whole number of at least 0, where 0 means no limit"))
        })?,
    };
    Ok((limit > 0).then_some(limit))
}

fn whole(value: &Value) -> Option<u64> {
    let number = value.as_number()?;
    number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        (float >= 0.0 && float.fract() == 0.0 && float <= LARGEST).then_some(float as u64)
    })
}

/// Millionths, if the float is what a decimal number with six digits after the point reads as.
fn millionths(credits: f64) -> Option<u64> {
    let millionths = (credits * exact(MILLIONTHS)).round();
    let is_amount =
        (0.0..=LARGEST).contains(&millionths) && millionths / exact(MILLIONTHS) == credits;
    // The largest amount reads as 2^53, the float next to it.
    is_amount.then_some((millionths as u64).min(MAX_COUNT))
}

/// Exact up to 2^53.
const fn exact(number: u64) -> f64 {
    number as f64
}

const MILLIONTHS: u64 = 1_000_000;
/// 2^53, just above what can be counted: up to it, floats are exact.
const LARGEST: f64 = exact(1 << 53);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn credits_come_as_whole_numbers_and_as_floats() {
        for (value, expected) in [
            (json!(5), 5_000_000),
            (json!(5.0), 5_000_000),
            (json!(0.1), 100_000),
            (json!(0), 0),
            (json!(0.000125), 125),
        ] {
            assert_eq!(credits("budget", &value).unwrap().millionths(), expected, "{value}");
        }
    }

    #[test]
    fn what_would_have_to_be_rounded_is_refused() {
        for value in [
            json!(0.1234567),
            json!(-1),
            json!(-0.5),
            json!("5"),
            json!(1e300),
            json!(u64::MAX),
            json!(true),
        ] {
            assert!(credits("budget", &value).is_err(), "{value}");
        }
    }

    #[test]
    fn every_amount_comes_back_as_it_went() {
        for millionths in [
            0,
            1,
            100,
            125,
            999_999,
            1_000_000,
            1_000_001,
            123_456_789_012,
            8_589_934_591_999_999,
            MAX_COUNT,
        ] {
            let amount = Credits::from_millionths(millionths).unwrap();
            let text = number(amount).to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(credits("budget", &read).unwrap(), amount, "{text}");
        }
    }

    #[test]
    fn no_limit_is_written_in_three_ways() {
        for value in [None, Some(&Value::Null), Some(&json!(0))] {
            assert_eq!(limit("rpm", value).unwrap(), None);
        }
        assert_eq!(limit("rpm", Some(&json!(2.0))).unwrap(), Some(2));
        for value in [json!(-1), json!(1.5), json!("2")] {
            assert!(limit("rpm", Some(&value)).is_err(), "{value}");
        }
    }
}
