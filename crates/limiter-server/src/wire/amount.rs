//! Numbers of the wire: credits come and go as decimal numbers, and limits may come as floats.

use limiter::{Credits, MAX_COUNT};
use serde_json::{Number, Value};

use crate::refusal::Refusal;

/// An amount of credits, exact to a millionth up to 2^33 credits. Above that, to the precision of the float that the SDK sends.
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
    fn credits_are_read_unless_they_would_be_rounded() {
        for (value, millionths) in [
            (json!(5), Some(5_000_000)),
            (json!(5.0), Some(5_000_000)),
            (json!(0.1), Some(100_000)),
            (json!(0), Some(0)),
            (json!(0.000125), Some(125)),
            (json!(0.1234567), None),
            (json!(-1), None),
            (json!(-0.5), None),
            (json!("5"), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
            (json!(true), None),
        ] {
            let read = credits("budget", &value).ok().map(Credits::millionths);
            assert_eq!(read, millionths, "{value}");
        }
    }

    #[test]
    fn every_amount_comes_back_as_it_went() {
        let small = [0, 1, 100, 125, 999_999, 1_000_000, 1_000_001];
        let large = [123_456_789_012, 8_589_934_591_999_999, MAX_COUNT];
        for millionths in small.into_iter().chain(large) {
            let amount = Credits::from_millionths(millionths).unwrap();
            let text = number(amount).to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(credits("budget", &read).unwrap(), amount, "{text}");
        }
    }

    #[test]
    fn a_limit_is_a_whole_number_and_0_and_null_are_no_limit() {
        for (value, expected) in [
            (None, Some(None)),
            (Some(json!(null)), Some(None)),
            (Some(json!(0)), Some(None)),
            (Some(json!(2.0)), Some(Some(2))),
            (Some(json!(-1)), None),
            (Some(json!(1.5)), None),
            (Some(json!("2")), None),
        ] {
            assert_eq!(limit("rpm", value.as_ref()).ok(), expected, "{value:?}");
        }
    }
}
