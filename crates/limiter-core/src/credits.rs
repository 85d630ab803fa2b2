//! Credits: what calls cost, in fixed point.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, counted};

/// An amount of credits: whole millionths of a credit, at most 2^53 − 1 of them. Never a float.
///
/// It prints as a decimal number with two to six decimals, as in `1.50` or `0.000125`, and reads any number with up to
/// six. Sums and differences saturate at [`Credits::MAX`] and [`Credits::ZERO`]; [`checked_add`](Self::checked_add) and
/// [`checked_sub`](Self::checked_sub) do not.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::Credits;
///
/// let price: Credits = "0.000125".parse()?;
/// assert_eq!(price.millionths(), 125);
/// assert_eq!((price + Credits::whole(5)?).to_string(), "5.000125");
/// assert_eq!([price, price].iter().sum::<Credits>(), "0.00025".parse()?);
/// assert_eq!(price - Credits::whole(5)?, Credits::ZERO);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
///
/// # In JSON and in files
/// It is a decimal number in quotes, as it prints. A whole number without quotes is read too, as whole credits. A float
/// is an error, because it is not exact.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::Credits;
///
/// let amount: Credits = serde_json::from_str("\"1.5\"")?;
/// assert_eq!(serde_json::to_string(&amount)?, "\"1.50\"");
/// assert!(serde_json::from_str::<Credits>("1.5").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Credits(u64);

impl Credits {
    /// No credits.
    pub const ZERO: Self = Self(0);
    /// The largest amount, about nine billion credits.
    pub const MAX: Self = Self(MAX_COUNT);

    /// Creates an amount in millionths of a credit.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above 2^53 − 1.
    pub fn from_millionths(millionths: u64) -> Result<Self, InvalidValue> {
        counted("an amount of credits in millionths", millionths).map(Self)
    }

    /// Creates an amount in whole credits.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above 2^53 − 1 millionths.
    pub fn whole(credits: u64) -> Result<Self, InvalidValue> {
        Self::from_millionths(credits.saturating_mul(MILLIONTHS))
    }

    /// Returns the amount in millionths of a credit.
    #[must_use]
    pub const fn millionths(self) -> u64 {
        self.0
    }

    /// Returns the sum, or `None` above [`Credits::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_millionths(self.0.saturating_add(other.0)).ok()
    }

    /// Returns the difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

/// The sum, at most [`Credits::MAX`].
impl From<Credits> for u64 {
    /// Returns the millionths.
    fn from(credits: Credits) -> Self {
        credits.0
    }
}

impl Credits {
    /// Returns the credits of a count, which is within the same bounds.
    pub(crate) const fn of_count(millionths: u64) -> Self {
        Self(if millionths > MAX_COUNT { MAX_COUNT } else { millionths })
    }
}

impl Add for Credits {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.checked_add(other).unwrap_or(Self::MAX)
    }
}

/// The difference, at least [`Credits::ZERO`].
impl Sub for Credits {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.checked_sub(other).unwrap_or(Self::ZERO)
    }
}

impl AddAssign for Credits {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Credits {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Credits {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl<'a> Sum<&'a Self> for Credits {
    fn sum<I: Iterator<Item = &'a Self>>(amounts: I) -> Self {
        amounts.copied().sum()
    }
}

impl FromStr for Credits {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let well_formed = !whole.is_empty()
            && (1..=DECIMALS).contains(&fraction.len())
            && digits_only(whole)
            && digits_only(fraction);
        if !well_formed {
            return Err(InvalidValue::credits(text));
        }
        let millionths = format!("{whole}{fraction:0<DECIMALS$}");
        // Only digits are left, so parsing fails only if they exceed a u64.
        let millionths = millionths.parse().unwrap_or(u64::MAX);
        Self::from_millionths(millionths)
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.div_euclid(MILLIONTHS);
        let fraction = format!("{:0>DECIMALS$}", self.0.rem_euclid(MILLIONTHS));
        let fraction = fraction.trim_end_matches('0');
        f.pad(&format!("{whole}.{fraction:0<SHOWN_DECIMALS$}"))
    }
}

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Amount)
        } else {
            deserializer.deserialize_str(Amount)
        }
    }
}

struct Amount;

impl Visitor<'_> for Amount {
    type Value = Credits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an amount of credits: a decimal number in quotes such as \"1.25\", or a whole number",
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Credits, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, credits: u64) -> Result<Credits, E> {
        Credits::whole(credits).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, credits: i64) -> Result<Credits, E> {
        let credits = u64::try_from(credits)
            .map_err(|_| E::invalid_value(Unexpected::Signed(credits), &self))?;
        self.visit_u64(credits)
    }
}

const MILLIONTHS: u64 = 1_000_000;
const DECIMALS: usize = 6;
/// Prices are usually written with two decimals.
const SHOWN_DECIMALS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_number_is_read_exactly_and_printed_with_two_to_six_decimals() {
        for (text, millionths, printed) in [
            ("0", 0, "0.00"),
            ("5", 5_000_000, "5.00"),
            ("05.5", 5_500_000, "5.50"),
            ("0.000001", 1, "0.000001"),
            ("4.9990", 4_999_000, "4.999"),
            ("9007199254.740991", MAX_COUNT, "9007199254.740991"),
        ] {
            let credits: Credits = text.parse().unwrap();
            assert_eq!(credits.millionths(), millionths);
            assert_eq!(credits.to_string(), printed);
            assert_eq!(printed.parse(), Ok(credits));
            assert_eq!(serde_json::to_value(credits).unwrap(), printed);
            assert_eq!(serde_json::from_value::<Credits>(printed.into()).unwrap(), credits);
        }
    }

    #[test]
    fn json_is_read_exactly_or_refused() {
        let read = serde_json::from_str::<Credits>;
        assert_eq!(read("5").unwrap(), Credits::whole(5).unwrap());
        for (json, message) in [
            (
                "1.5",
                "invalid type: floating point `1.5`, expected an amount of credits: a decimal number in quotes",
            ),
            ("-1", "invalid value: integer `-1`, expected an amount of credits"),
            ("9007199255", "at most 9007199254740991"),
            ("\"1e3\"", "\"1e3\" is not an amount of credits"),
            ("true", "invalid type: boolean `true`, expected an amount of credits"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(message), "{json}: {error}");
        }
    }

    #[test]
    fn sums_and_differences_stay_amounts() {
        let [one, two] = [1, 2].map(|credits| Credits::whole(credits).unwrap());
        let mut amount = one;
        amount += one;
        assert_eq!(amount, two);
        amount -= one;
        assert_eq!(amount, one);
        assert_eq!((Credits::MAX + one, one - two), (Credits::MAX, Credits::ZERO));
        assert_eq!((Credits::MAX.checked_add(one), one.checked_sub(two)), (None, None));
        assert_eq!((one.checked_add(one), two.checked_sub(one)), (Some(two), Some(one)));
        assert_eq!([Credits::MAX, one].into_iter().sum::<Credits>(), Credits::MAX);
        assert_eq!([one, one].iter().sum::<Credits>(), two);
    }

    #[test]
    fn what_is_no_exact_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000001", "1,5", " 1", "NaN", "٣"]
        {
            assert_eq!(text.parse::<Credits>(), Err(InvalidValue::credits(text)), "{text:?}");
        }
        for text in ["9007199254.740992", "99999999999999999999999999"] {
            let read = text.parse::<Credits>();
            assert!(matches!(read, Err(InvalidValue::TooLarge { .. })), "{text:?}");
        }
        assert!(Credits::whole(u64::MAX).is_err());
    }
}
