//! The price of a call: credits by kind of token, and for the request.

mod form;
mod table;

use std::fmt;

use limiter_core::{Credits, InvalidValue, Object, Totals};
use serde::Deserialize;

use self::form::Form;
pub use self::table::{PriceTable, PriceTableError};
use crate::token_usage::TokenUsage;

/// The price of a model: credits for a million tokens of each kind, and credits for a request.
///
/// ```
/// use limiter::{Price, TokenUsage};
///
/// let price = Price::per_million_tokens("1.25".parse()?, "10".parse()?).cached_input("0.125".parse()?);
/// let usage = TokenUsage { input: 1_000, cached_input: 800, output: 200, ..TokenUsage::default() };
/// assert_eq!(price.of(&usage), "0.00235".parse()?);
/// assert_eq!(
///     price.to_string(),
///     "credits per million tokens: input 1.25, cached input 0.125, output 10.00"
/// );
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
///
/// # In files
/// In TOML and JSON the fields are `input`, `cached_input`, `cache_write`, `output` and `reasoning`, in credits for a
/// million tokens, and `request`, in credits for a request. Each is written as [`Credits`] are. `input`, `output` and
/// `request` are 0 if omitted, the others as described with their setters here.
///
/// ```
/// # use limiter::{InvalidValue, Price};
/// let price: Price = toml::from_str(r#"
/// input = "1.25"
/// cached_input = "0.125"
/// output = 10
/// "#)?;
/// let same = Price::per_million_tokens("1.25".parse()?, "10".parse()?).cached_input("0.125".parse()?);
/// assert_eq!(price, same);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "Object<Form>")]
pub struct Price {
    input: Credits,
    cached_input: Credits,
    cache_write: Credits,
    output: Credits,
    reasoning: Credits,
    request: Credits,
}

impl Price {
    /// The price of 0 credits for everything, which is the default.
    pub const FREE: Self = Self::per_million_tokens(Credits::ZERO, Credits::ZERO);

    /// Creates a price in credits for a million input tokens and for a million output tokens.
    #[must_use]
    pub const fn per_million_tokens(input: Credits, output: Credits) -> Self {
        Self {
            input,
            cached_input: input,
            cache_write: input,
            output,
            reasoning: output,
            request: Credits::ZERO,
        }
    }

    /// Sets the credits for a million input tokens that the provider reads from its cache. The default is the price
    /// of other input.
    #[must_use]
    pub const fn cached_input(self, credits: Credits) -> Self {
        Self { cached_input: credits, ..self }
    }

    /// Sets the credits for a million input tokens that the provider writes to its cache. The default is the price
    /// of other input.
    #[must_use]
    pub const fn cache_write(self, credits: Credits) -> Self {
        Self { cache_write: credits, ..self }
    }

    /// Sets the credits for a million output tokens of reasoning. The default is the price of other output.
    #[must_use]
    pub const fn reasoning(self, credits: Credits) -> Self {
        Self { reasoning: credits, ..self }
    }

    /// Sets the credits for each request, in addition to its tokens. The default is 0.
    #[must_use]
    pub const fn per_request(self, credits: Credits) -> Self {
        Self { request: credits, ..self }
    }

    /// Returns the cost of one request with these tokens: exact, rounded up once to a millionth of a credit, and at most
    /// [`Credits::MAX`].
    ///
    /// A part counts up to its whole: cache writes up to all input, cached input up to the rest of the input, reasoning
    /// up to all output.
    #[must_use]
    pub fn of(&self, usage: &TokenUsage) -> Credits {
        let cache_write = usage.cache_write.min(usage.input);
        let cached_input = usage.cached_input.min(usage.input - cache_write);
        let reasoning = usage.reasoning.min(usage.output);
        let input = exact(self.input, usage.input - cache_write - cached_input)
            + exact(self.cached_input, cached_input)
            + exact(self.cache_write, cache_write);
        let output =
            exact(self.output, usage.output - reasoning) + exact(self.reasoning, reasoning);
        rounded_up(exact(self.request, PER_TOKENS) + input + output)
    }

    /// Returns the most that one request with these tokens can cost, for any part of them cached or reasoning.
    ///
    /// Estimates have this price: only the answer shows which tokens are cached. It is never lower than
    /// [`of`](Self::of) the same tokens.
    #[must_use]
    pub fn at_most(&self, input_tokens: u64, output_tokens: u64) -> Credits {
        let output = exact(self.dearest_output(), output_tokens);
        rounded_up(self.input_at_most(input_tokens) + output)
    }

    /// Returns the totals to [settle](crate::Reservation::settle): these tokens, and their price.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] if input or output is above [`MAX_COUNT`](crate::MAX_COUNT).
    pub fn totals(&self, usage: &TokenUsage) -> Result<Totals, InvalidValue> {
        Ok(Totals::try_from(*usage)?.with_credits(self.of(usage)))
    }

    /// Returns the most output tokens that cost, with this input, [at most](Self::at_most) these credits. `None` if
    /// output is free.
    #[cfg(feature = "stream")]
    pub(crate) fn output_tokens_for(&self, credits: Credits, input_tokens: u64) -> Option<u64> {
        let left = exact(credits, PER_TOKENS).saturating_sub(self.input_at_most(input_tokens));
        let tokens = left.checked_div(u128::from(self.dearest_output().millionths()))?;
        Some(u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// Returns the cost of the request and of its input at the dearest kind.
    fn input_at_most(&self, tokens: u64) -> u128 {
        let dearest = self.input.max(self.cached_input).max(self.cache_write);
        exact(self.request, PER_TOKENS) + exact(dearest, tokens)
    }

    fn dearest_output(&self) -> Credits {
        self.output.max(self.reasoning)
    }
}

/// Formats the credits for a million tokens, and for a request if it has a price: each part that has no other part's price.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, cached_input, cache_write, output, reasoning, request } = *self;
        write!(f, "credits per million tokens: input {input}")?;
        for (name, amount, whole) in
            [("cached input", cached_input, input), ("cache writes", cache_write, input)]
        {
            if amount != whole {
                write!(f, ", {name} {amount}")?;
            }
        }
        write!(f, ", output {output}")?;
        if reasoning != output {
            write!(f, ", reasoning {reasoning}")?;
        }
        if request != Credits::ZERO {
            write!(f, "; credits per request: {request}")?;
        }
        Ok(())
    }
}

/// Returns the cost in millionths of a millionth. A price has at most 53 bits and a count 64, so that the sum of a call
/// is below 2^119.
fn exact(price: Credits, tokens: u64) -> u128 {
    u128::from(price.millionths()) * u128::from(tokens)
}

fn rounded_up(exact: u128) -> Credits {
    let millionths = exact.div_ceil(u128::from(PER_TOKENS));
    let millionths = u64::try_from(millionths).unwrap_or(u64::MAX);
    Credits::from_millionths(millionths).unwrap_or(Credits::MAX)
}

/// Prices are for this many tokens, as providers publish them.
const PER_TOKENS: u64 = 1_000_000;

#[cfg(all(test, feature = "stream"))]
mod tests {
    use super::*;

    #[test]
    fn credits_pay_for_as_many_tokens_as_do_not_cost_more() {
        for (output, reasoning, request, paid) in [
            ("0.3", "0.3", "0", 1),
            ("7", "7", "0", 100),
            ("10", "10", "0", 9),
            ("0.000001", "0", "0", 2),
            ("7", "9", "0.00001", 100),
            ("7", "3", "0.0001", 100),
        ] {
            let price = price("2.5", output).reasoning(credits(reasoning));
            let price = price.per_request(credits(request));
            let paid = Credits::from_millionths(paid).unwrap();
            let most = price.output_tokens_for(paid, 0).unwrap();
            assert!(price.at_most(0, most) <= paid, "{price:?}");
            assert!(price.at_most(0, most + 1) > paid, "{price:?}");
        }
        assert_eq!(price("1", "0").output_tokens_for(Credits::ZERO, 0), None);
        let spent_on_input = price("10", "1").output_tokens_for(Credits::ZERO, 5);
        assert_eq!(spent_on_input, Some(0));
        let spent_on_the_request = price("0", "1").per_request(credits("1"));
        assert_eq!(spent_on_the_request.output_tokens_for(credits("0.5"), 0), Some(0));
    }

    fn credits(text: &str) -> Credits {
        text.parse().unwrap()
    }

    fn price(input: &str, output: &str) -> Price {
        Price::per_million_tokens(credits(input), credits(output))
    }
}
