//! New totals of a running call.

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::limits::{counted, counted_if_any};
use crate::object::checked_object;

/// New totals of a call. A total that is left out stays as it is.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::Totals;
///
/// let actual = Totals::unchanged().with_input_tokens(1_200)?.with_output_tokens(87)?;
/// assert_eq!(actual.output_tokens(), Some(87));
/// assert_eq!(actual.credits(), None);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Totals {
    requests: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    credits: Option<Credits>,
}

impl Totals {
    /// Creates totals that leave everything as estimated.
    #[must_use]
    pub const fn unchanged() -> Self {
        Self { requests: None, input_tokens: None, output_tokens: None, credits: None }
    }

    /// Sets the number of requests, such as for a batch that made fewer calls than it had reserved.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above [`MAX_COUNT`](crate::MAX_COUNT).
    pub fn with_requests(self, requests: u64) -> Result<Self, InvalidValue> {
        Ok(Self { requests: Some(counted("the number of requests", requests)?), ..self })
    }

    /// Sets the tokens of the prompt.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above [`MAX_COUNT`](crate::MAX_COUNT).
    pub fn with_input_tokens(self, tokens: u64) -> Result<Self, InvalidValue> {
        Ok(Self { input_tokens: Some(counted("the number of input tokens", tokens)?), ..self })
    }

    /// Sets the tokens of the answer.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above [`MAX_COUNT`](crate::MAX_COUNT).
    pub fn with_output_tokens(self, tokens: u64) -> Result<Self, InvalidValue> {
        Ok(Self { output_tokens: Some(counted("the number of output tokens", tokens)?), ..self })
    }

    /// Sets the credits.
    #[must_use]
    pub const fn with_credits(self, credits: Credits) -> Self {
        Self { credits: Some(credits), ..self }
    }

    /// Returns the number of requests, unless it stays as it is.
    #[must_use]
    pub const fn requests(&self) -> Option<u64> {
        self.requests
    }

    /// Returns the tokens of the prompt, unless they stay as they are.
    #[must_use]
    pub const fn input_tokens(&self) -> Option<u64> {
        self.input_tokens
    }

    /// Returns the tokens of the answer, unless they stay as they are.
    #[must_use]
    pub const fn output_tokens(&self) -> Option<u64> {
        self.output_tokens
    }

    /// Returns the credits, unless they stay as they are.
    #[must_use]
    pub const fn credits(&self) -> Option<Credits> {
        self.credits
    }

    /// Returns the whole charge of a call that had this estimate.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] if the tokens are more than [`MAX_COUNT`](crate::MAX_COUNT) together.
    pub fn applied_to(&self, estimate: &Charge) -> Result<Charge, InvalidValue> {
        let requests = self.requests.unwrap_or_else(|| estimate.requests());
        let input = self.input_tokens.unwrap_or_else(|| estimate.input_tokens());
        let output = self.output_tokens.unwrap_or_else(|| estimate.output_tokens());
        let credits = self.credits.unwrap_or_else(|| estimate.credits());
        Ok(estimate.with_requests(requests)?.with_tokens(input, output)?.with_credits(credits))
    }
}

/// New totals of a call. A total that is left out stays as estimated.
#[derive(Default, Deserialize)]
#[serde(remote = "Totals", default, deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawTotals {
    /// Requests.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    requests: Option<u64>,
    /// Tokens of the prompt.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    input_tokens: Option<u64>,
    /// Tokens of the answer.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    output_tokens: Option<u64>,
    /// Credits.
    credits: Option<Credits>,
}

checked_object!(Totals, RawTotals, |read| {
    counted_if_any("the number of requests", read.requests)?;
    counted_if_any("the number of input tokens", read.input_tokens)?;
    counted_if_any("the number of output tokens", read.output_tokens)?;
    Ok(read)
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_COUNT;

    #[test]
    fn what_is_left_out_stays() {
        let estimate = Charge::request().with_tokens(3, 4).unwrap();
        let actual = Totals::unchanged().with_output_tokens(1).unwrap();
        let applied = actual.applied_to(&estimate).unwrap();
        assert_eq!((applied.input_tokens(), applied.output_tokens()), (3, 1));
    }

    #[test]
    fn the_sum_with_what_stays_is_bounded() {
        let estimate = Charge::request().with_tokens(1, 0).unwrap();
        let actual = Totals::unchanged().with_output_tokens(MAX_COUNT).unwrap();
        assert!(actual.applied_to(&estimate).is_err());
        assert!(Totals::unchanged().with_input_tokens(MAX_COUNT + 1).is_err());
        assert!(serde_json::from_str::<Totals>(r#"{"input_tokens":9007199254740992}"#).is_err());
    }
}
