//! The cost of a call.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::limits::{MAX_COUNT, counted};
use crate::object::checked_object;
use crate::rule::Unit;

/// The cost of a call: requests, input and output tokens, credits.
///
/// Each number is at most 2^53 − 1, and so is the sum of the tokens. A charge without a request is a top-up of a
/// running call. A charge is all or nothing: if it does not fit, it is denied and not counted. So charge the most that
/// a call may cost before it starts.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{Charge, Credits};
///
/// let charge = Charge::request().with_tokens(1_200, 350)?.with_credits("0.0042".parse()?);
/// assert_eq!(charge.requests(), 1);
/// assert_eq!(charge.output_tokens(), 350);
/// assert_eq!(
///     charge.to_string(),
///     "requests: 1, input tokens: 1200, output tokens: 350, credits: 0.0042"
/// );
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Charge {
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    credits: Credits,
}

impl Charge {
    /// Creates a charge of one request, without tokens and credits.
    #[must_use]
    pub const fn request() -> Self {
        Self { requests: 1, input_tokens: 0, output_tokens: 0, credits: Credits::ZERO }
    }

    /// No request, no tokens, no credits.
    pub const NOTHING: Self =
        Self { requests: 0, input_tokens: 0, output_tokens: 0, credits: Credits::ZERO };

    /// Sets the number of requests.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above [`MAX_COUNT`].
    pub fn with_requests(self, requests: u64) -> Result<Self, InvalidValue> {
        Ok(Self { requests: counted("the number of requests", requests)?, ..self })
    }

    /// Sets the input and output tokens.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] if they are more than [`MAX_COUNT`] together.
    pub fn with_tokens(self, input_tokens: u64, output_tokens: u64) -> Result<Self, InvalidValue> {
        let sum = u128::from(input_tokens).saturating_add(u128::from(output_tokens));
        if sum > u128::from(MAX_COUNT) {
            return Err(InvalidValue::TooLarge {
                what: "the sum of input and output tokens",
                value: sum,
            });
        }
        Ok(Self { input_tokens, output_tokens, ..self })
    }

    /// Sets the credits.
    #[must_use]
    pub const fn with_credits(self, credits: Credits) -> Self {
        Self { credits, ..self }
    }

    /// Creates a charge of counts, which are within its bounds but for the sum of the tokens.
    pub(crate) const fn counted(
        requests: u64,
        input_tokens: u64,
        output_tokens: u64,
        credits: Credits,
    ) -> Self {
        Self { requests, input_tokens, output_tokens, credits }
    }

    /// Returns the sum of both; each amount is at most [`MAX_COUNT`].
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let sum = |one: u64, other: u64| one.saturating_add(other).min(MAX_COUNT);
        Self {
            requests: sum(self.requests, other.requests),
            input_tokens: sum(self.input_tokens, other.input_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
            credits: self.credits + other.credits,
        }
    }

    /// Returns what this charge has more than another, each amount by itself.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            input_tokens: self.input_tokens.saturating_sub(other.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(other.output_tokens),
            credits: self.credits - other.credits,
        }
    }

    /// Returns whether each amount of this charge is at least that of another.
    #[must_use]
    #[inline]
    pub const fn covers(&self, other: &Self) -> bool {
        self.requests >= other.requests
            && self.input_tokens >= other.input_tokens
            && self.output_tokens >= other.output_tokens
            && self.credits.millionths() >= other.credits.millionths()
    }

    /// Returns the smaller of both, each amount by itself.
    #[must_use]
    pub fn at_most(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.min(other.requests),
            input_tokens: self.input_tokens.min(other.input_tokens),
            output_tokens: self.output_tokens.min(other.output_tokens),
            credits: self.credits.min(other.credits),
        }
    }

    /// Returns the number of requests: 1 by default, 0 for a top-up.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Returns the tokens of the prompt.
    #[must_use]
    pub const fn input_tokens(&self) -> u64 {
        self.input_tokens
    }

    /// Returns the tokens of the answer.
    #[must_use]
    pub const fn output_tokens(&self) -> u64 {
        self.output_tokens
    }

    /// Returns the credits.
    #[must_use]
    pub const fn credits(&self) -> Credits {
        self.credits
    }

    /// Returns the amount that a limit of this unit counts; credits in millionths.
    #[must_use]
    #[inline]
    pub const fn amount(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            // The sum has been checked to be at most `MAX_COUNT`.
            Unit::Tokens => self.input_tokens.saturating_add(self.output_tokens),
            Unit::InputTokens => self.input_tokens,
            Unit::OutputTokens => self.output_tokens,
            Unit::Credits => self.credits.millionths(),
        }
    }
}

/// Formats as in `requests: 1, input tokens: 3, output tokens: 4, credits: 0.00`.
impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, input_tokens, output_tokens, credits } = self;
        write!(
            f,
            "requests: {requests}, input tokens: {input_tokens}, output tokens: {output_tokens}, credits: {credits}"
        )
    }
}

/// The amounts that a charge adds to counts, by [`Unit`]: computed once for all rules. There are eight, so that no place is out
/// of bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amounts([i64; 8]);

impl Amounts {
    #[inline]
    pub(crate) const fn of(charge: &Charge) -> Self {
        // The sum of the tokens has been checked to be at most `MAX_COUNT`.
        let tokens = charge.input_tokens.wrapping_add(charge.output_tokens);
        Self([
            charge.requests.cast_signed(),
            tokens.cast_signed(),
            charge.input_tokens.cast_signed(),
            charge.output_tokens.cast_signed(),
            charge.credits.millionths().cast_signed(),
            0,
            0,
            0,
        ])
    }

    #[inline]
    pub(crate) const fn get(&self, unit: Unit) -> i64 {
        self.0[unit as usize]
    }

    /// Returns the amount of the unit at this place in [`Unit::ALL`].
    #[inline]
    pub(crate) const fn at(&self, place: usize) -> i64 {
        self.0[place % 8]
    }

    #[inline]
    pub(crate) const fn makes_request(&self) -> bool {
        self.get(Unit::Requests) > 0
    }

    /// Returns the excess of each amount over the other. Input and output tokens are compared separately.
    pub(crate) fn excess(&self, other: &Self) -> Self {
        let mut excess = self.less(other).0.map(|more| more.max(0));
        let of = |unit: Unit| excess[unit as usize];
        excess[Unit::Tokens as usize] =
            of(Unit::InputTokens).saturating_add(of(Unit::OutputTokens));
        Self(excess)
    }

    /// Returns the difference of each amount.
    pub(crate) fn less(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|unit| self.0[unit].saturating_sub(other.0[unit])))
    }
}

impl Default for Charge {
    fn default() -> Self {
        Self::request()
    }
}

/// The cost of a call.
#[derive(Deserialize)]
#[serde(remote = "Charge", default, deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema), schema(default))]
struct RawCharge {
    /// Requests: 1 if left out, 0 for a top-up of a call that already runs.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    requests: u64,
    /// Tokens of the prompt.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    input_tokens: u64,
    /// Tokens of the answer.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    output_tokens: u64,
    /// Credits.
    credits: Credits,
}

impl Default for RawCharge {
    fn default() -> Self {
        Self { requests: 1, input_tokens: 0, output_tokens: 0, credits: Credits::ZERO }
    }
}

checked_object!(Charge, RawCharge, |read| {
    read.with_requests(read.requests)?.with_tokens(read.input_tokens, read.output_tokens)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_tokens_is_bounded() {
        assert!(Charge::request().with_tokens(MAX_COUNT, 0).is_ok());
        assert!(Charge::request().with_tokens(MAX_COUNT, 1).is_err());
        assert!(Charge::request().with_tokens(u64::MAX, u64::MAX).is_err());
        assert!(Charge::request().with_requests(MAX_COUNT + 1).is_err());
    }

    #[test]
    fn each_unit_counts_its_own() {
        let charge = Charge::request().with_tokens(5, 7).unwrap();
        let charge = charge.with_credits(Credits::whole(1).unwrap());
        assert_eq!(Unit::ALL.map(|unit| charge.amount(unit)), [1, 12, 5, 7, 1_000_000]);
    }

    #[test]
    fn a_charge_does_not_come_in_unchecked_by_serde() {
        let json = r#"{"input_tokens":9007199254740991,"output_tokens":1}"#;
        assert!(serde_json::from_str::<Charge>(json).is_err());
        assert_eq!(serde_json::from_str::<Charge>("{}").unwrap(), Charge::request());
    }
}
