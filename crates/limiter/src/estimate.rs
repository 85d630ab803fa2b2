//! The estimated cost of a call, before it is made.

use limiter_core::{Charge, InvalidValue, RuleState, Unit};

use crate::price::Price;

/// The most that a call may cost, estimated before it is made, to [reserve](crate::Limiter::reserve).
///
/// The prompt is known, and the caller bounds the length of the answer. The estimate need not be exact:
/// [settling](crate::Reservation::settle) corrects it in either direction.
///
/// ```
/// use limiter::{Estimate, Price};
///
/// let prompt = "Name the four winds.";
/// let estimate = Estimate::for_prompt_bytes(prompt.len()).max_output_tokens(Some(300));
/// let charge = estimate.charge()?;
/// assert_eq!((charge.input_tokens(), charge.output_tokens()), (5, 300));
///
/// let price = Price::per_million_tokens("2".parse()?, "8".parse()?);
/// assert_eq!(estimate.price(price).charge()?.credits(), "0.00241".parse()?);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
///
/// With the feature `stream`, `ApiRequest::estimate` reads it from the body of a request of any known provider's API.
///
/// Pass it to [`Limiter::reserve_estimated`](crate::Limiter::reserve_estimated), which also starts long answers where
/// limits are small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an estimate is reserved as a charge"]
pub struct Estimate {
    input_tokens: u64,
    output_tokens: u64,
    pub(crate) price: Option<Price>,
}

impl Estimate {
    /// The assumed longest answer if the caller does not bound it: 1,000 tokens, more than most answers have.
    pub const DEFAULT_OUTPUT_TOKENS: u64 = 1_000;

    /// Creates an estimate for a prompt of which only the length is known: a token for each 4 bytes of UTF-8, rounded
    /// up.
    ///
    /// That is the rule of thumb for English text. Bytes do better than characters: scripts whose characters take more
    /// tokens take more bytes too. For Chinese or code it may be too low by a third, until the call is settled.
    /// Pictures and sound are not counted by bytes: read the request as an `ApiRequest`, or count them by the
    /// provider's rule and take [`for_input_tokens`](Self::for_input_tokens).
    pub const fn for_prompt_bytes(bytes: usize) -> Self {
        // No usize has more than 64 bits.
        Self::for_input_tokens((bytes as u64).div_ceil(BYTES_OF_A_TOKEN))
    }

    /// Creates an estimate for a prompt whose tokens were counted.
    pub const fn for_input_tokens(tokens: u64) -> Self {
        Self { input_tokens: tokens, output_tokens: Self::DEFAULT_OUTPUT_TOKENS, price: None }
    }

    /// Sets the most tokens that the answer may have: the `max_tokens` of the caller, unchanged. `None` stands for
    /// [`Self::DEFAULT_OUTPUT_TOKENS`]. If the call asks for several answers, pass their sum.
    pub fn max_output_tokens(self, tokens: impl Into<Option<u64>>) -> Self {
        let output_tokens = tokens.into().unwrap_or(Self::DEFAULT_OUTPUT_TOKENS);
        Self { output_tokens, ..self }
    }

    /// Reserves credits too: the [most](Price::at_most) that these tokens can cost at this price. The default is none.
    ///
    /// A [reservation](crate::Limiter::reserve_estimated) of the estimate keeps the price for its settlement.
    pub const fn price(self, price: Price) -> Self {
        Self { price: Some(price), ..self }
    }

    /// Caps the answer to the most that these rules ever allow. So a small limit does not shut out every call whose
    /// caller asks for more.
    ///
    /// Each limit itself counts, not the rest of it: a call that fits later is denied with the time to retry. The
    /// prompt is never shortened: if it alone is more than a limit, the call
    /// [never fits](limiter_core::Denied::never_fits). The rules are those of a decision
    /// ([`Decision::rules`](limiter_core::Decision::rules)); those of credits shorten no answer.
    pub fn capped_to(self, rules: impl IntoIterator<Item = RuleState>) -> Self {
        let allowed = rules.into_iter().filter_map(|state| match state.rule.unit()? {
            Unit::Tokens => Some(state.limit.saturating_sub(self.input_tokens)),
            Unit::OutputTokens => Some(state.limit),
            Unit::Requests | Unit::InputTokens | Unit::Credits => None,
        });
        let output_tokens =
            allowed.min().map_or(self.output_tokens, |most| self.output_tokens.min(most));
        Self { output_tokens, ..self }
    }

    /// Returns the charge to reserve: one request, these tokens, and the most that they can cost if there is a price.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] if prompt and answer have more than 2^53 − 1 tokens together.
    pub fn charge(&self) -> Result<Charge, InvalidValue> {
        let Self { input_tokens, output_tokens, price } = *self;
        let charge = Charge::request().with_tokens(input_tokens, output_tokens)?;
        Ok(match price {
            Some(price) => charge.with_credits(price.at_most(input_tokens, output_tokens)),
            None => charge,
        })
    }
}

/// The rule of thumb for English text that OpenAI and others state.
pub(crate) const BYTES_OF_A_TOKEN: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_a_token_for_each_four_bytes_rounded_up() {
        for (bytes, tokens) in [(0, 0), (1, 1), (4, 1), (5, 2), (4_001, 1_001)] {
            assert_eq!(Estimate::for_prompt_bytes(bytes), Estimate::for_input_tokens(tokens));
        }
        assert!(Estimate::for_prompt_bytes(usize::MAX).charge().is_err());
    }

    #[test]
    fn a_caller_who_bounds_nothing_gets_the_default() {
        let estimate = Estimate::for_input_tokens(5).max_output_tokens(None);
        assert_eq!(estimate.charge().unwrap().output_tokens(), Estimate::DEFAULT_OUTPUT_TOKENS);
        let charge = estimate.max_output_tokens(0).charge().unwrap();
        assert_eq!((charge.input_tokens(), charge.output_tokens()), (5, 0));
    }

    #[test]
    fn an_estimate_past_what_can_be_counted_is_refused() {
        let estimate = Estimate::for_input_tokens(1).max_output_tokens(limiter_core::MAX_COUNT);
        assert!(estimate.charge().is_err());
        assert!(Estimate::for_input_tokens(u64::MAX).max_output_tokens(u64::MAX).charge().is_err());
    }
}
