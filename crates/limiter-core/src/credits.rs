//! Credits: what calls cost, in fixed point.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, counted};

/// An amount of credits: whole millionths of a credit, at most 2^53 − 1 of them. Never a float.
///
/// It reads and prints as a decimal number, and is a whole number of millionths in serde.
///
/// ```
/// use limiter_core::Credits;
///
/// let price: Credits = "0.000125".parse()?;
/// assert_eq!(price.millionths(), 125);
/// assert_eq!(Credits::whole(5)?.to_string(), "5");
/// # Ok::<(), limiter_core::InvalidValue>(())
/// ```
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Credits(u64);

impl Credits {
    /// No credits.
    pub const ZERO: Self = Self(0);
    /// The largest amount, about nine billion credits.
    pub const MAX: Self = Self(MAX_COUNT);

    /// An amount in millionths of a credit.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above 2^53 − 1.
    pub fn from_millionths(millionths: u64) -> Result<Self, InvalidValue> {
        counted("an amount of credits in millionths", millionths).map(Self)
    }

    /// An amount in whole credits.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above 2^53 − 1 millionths.
    pub fn whole(credits: u64) -> Result<Self, InvalidValue> {
        Self::from_millionths(credits.saturating_mul(MILLIONTHS))
    }

    /// The amount in millionths of a credit.
    #[must_use]
    pub const fn millionths(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Credits {
    type Error = InvalidValue;

    fn try_from(millionths: u64) -> Result<Self, InvalidValue> {
        Self::from_millionths(millionths)
    }
}

impl From<Credits> for u64 {
    fn from(credits: Credits) -> Self {
        credits.0
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
        // Only digits are left, so that a failure means more of them than a u64 holds.
        let millionths = millionths.parse().unwrap_or(u64::MAX);
        Self::from_millionths(millionths)
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.div_euclid(MILLIONTHS);
        match self.0.rem_euclid(MILLIONTHS) {
            0 => f.pad(&whole.to_string()),
            fraction => {
                let fraction = format!("{fraction:0>DECIMALS$}");
                f.pad(&format!("{whole}.{}", fraction.trim_end_matches('0')))
            }
        }
    }
}

const MILLIONTHS: u64 = 1_000_000;
const DECIMALS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_number_is_read_exactly() {
        for (text, millionths) in [
            ("0", 0),
            ("5", 5_000_000),
            ("0.000001", 1),
            ("4.999", 4_999_000),
            ("9007199254.740991", MAX_COUNT),
        ] {
            let credits: Credits = text.parse().unwrap();
            assert_eq!(credits.millionths(), millionths);
            assert_eq!(credits.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_exact_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000001", "1,5", " 1", "NaN", "٣"]
        {
            assert_eq!(text.parse::<Credits>(), Err(InvalidValue::credits(text)), "{text:?}");
        }
        for text in ["9007199254.740992", "99999999999999999999999999"] {
            assert!(
                matches!(text.parse::<Credits>(), Err(InvalidValue::TooLarge { .. })),
                "{text:?}"
            );
        }
        assert!(Credits::whole(u64::MAX).is_err());
    }
}
