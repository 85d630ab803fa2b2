//! What tokens cost.

use limiter_core::Credits;

/// The price of a model: credits for a million tokens of the prompt, and for a million of the answer.
///
/// ```
/// use limiter::Price;
///
/// let price = Price::per_million_tokens("1.25".parse()?, "10".parse()?);
/// assert_eq!(price.of(1_000, 200), "0.00325".parse()?);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Price {
    input: Credits,
    output: Credits,
}

impl Price {
    /// So many credits for a million input tokens, and so many for a million output tokens.
    #[must_use]
    pub const fn per_million_tokens(input: Credits, output: Credits) -> Self {
        Self { input, output }
    }

    /// What these tokens cost together, rounded up to a millionth of a credit; at most [`Credits::MAX`].
    #[must_use]
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> Credits {
        let cost = self.exact(input_tokens, output_tokens).div_ceil(PER_TOKENS);
        let millionths = u64::try_from(cost).unwrap_or(u64::MAX);
        Credits::from_millionths(millionths).unwrap_or(Credits::MAX)
    }

    /// The most output tokens that these credits pay for beside this input; `None` if that is without an end.
    #[cfg(feature = "stream")]
    pub(crate) fn output_tokens_for(&self, credits: Credits, input_tokens: u64) -> Option<u64> {
        let paid = u128::from(credits.millionths()) * PER_TOKENS;
        let left = paid.saturating_sub(self.exact(input_tokens, 0));
        let tokens = left.checked_div(u128::from(self.output.millionths()))?;
        Some(u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// In millionths of a millionth. A product of two numbers of 64 bits has 128, and of these each is at most 2^117.
    fn exact(&self, input_tokens: u64, output_tokens: u64) -> u128 {
        let cost = |price: Credits, tokens| u128::from(price.millionths()) * u128::from(tokens);
        cost(self.input, input_tokens) + cost(self.output, output_tokens)
    }
}

const PER_TOKENS: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: &str, output: &str) -> Price {
        Price::per_million_tokens(input.parse().unwrap(), output.parse().unwrap())
    }

    #[test]
    fn a_part_of_a_millionth_is_rounded_up_once() {
        let cheap = price("0.1", "0.4");
        assert_eq!(cheap.of(1, 0).millionths(), 1);
        assert_eq!(cheap.of(6, 1).millionths(), 1, "input and output are rounded together");
        assert_eq!(cheap.of(7, 1).millionths(), 2);
        assert_eq!(cheap.of(0, 0), Credits::ZERO);
    }

    #[test]
    fn nothing_costs_more_than_the_most_credits() {
        let dear = Price::per_million_tokens(Credits::MAX, Credits::MAX);
        assert_eq!(dear.of(u64::MAX, u64::MAX), Credits::MAX);
    }

    #[cfg(feature = "stream")]
    #[test]
    fn credits_pay_for_as_many_tokens_as_do_not_cost_more() {
        for (price, credits) in [("0.3", 1), ("7", 100), ("10", 9), ("0.000001", 2)] {
            let price = self::price("2.5", price);
            let credits = Credits::from_millionths(credits).unwrap();
            let most = price.output_tokens_for(credits, 0).unwrap();
            assert!(price.of(0, most) <= credits, "{price:?}");
            assert!(price.of(0, most + 1) > credits, "{price:?}");
        }
        assert_eq!(price("1", "0").output_tokens_for(Credits::ZERO, 0), None);
        let spent_on_input = price("10", "1").output_tokens_for(Credits::ZERO, 5);
        assert_eq!(spent_on_input, Some(0));
    }
}
