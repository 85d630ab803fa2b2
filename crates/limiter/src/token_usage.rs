//! The tokens of one call, by kind.

use std::fmt;
use std::ops::Add;

use limiter_core::{InvalidValue, Totals};
use serde::{Deserialize, Serialize};

/// The tokens of one call, in one form for all providers.
///
/// `input` includes `cached_input` and `cache_write`; `output` includes `reasoning`. Providers differ in both.
///
/// ```
/// use limiter::TokenUsage;
///
/// // Anthropic reported 18 input tokens, 8,831 that it read from its cache, and 26 output tokens.
/// let usage = TokenUsage { input: 8_849, cached_input: 8_831, output: 26, ..TokenUsage::default() };
/// assert_eq!(usage.total(), 8_875);
/// assert_eq!(usage.to_string(), "8849 input tokens (8831 cached), 26 output tokens");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenUsage {
    /// All tokens of the prompt, including those that the provider read from or wrote to its cache.
    pub input: u64,
    /// All tokens of the answer, including those of hidden reasoning.
    pub output: u64,
    /// The part of `input` that the provider read from its cache.
    pub cached_input: u64,
    /// The part of `input` that the provider wrote to its cache.
    pub cache_write: u64,
    /// The part of `output` that is reasoning.
    pub reasoning: u64,
}

impl TokenUsage {
    /// Creates a usage with this many tokens of the prompt and of the answer, none of them cached or reasoning.
    #[must_use]
    pub const fn new(input: u64, output: u64) -> Self {
        Self { input, output, cached_input: 0, cache_write: 0, reasoning: 0 }
    }

    /// Returns the sum of input and output.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// Adds the tokens of several calls, or of several parts of one call.
impl Add for TokenUsage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// Returns the totals to settle: input and output. Credits stay as they are.
///
/// # Errors
/// [`InvalidValue::TooLarge`] if either is above [`MAX_COUNT`](crate::MAX_COUNT).
impl TryFrom<TokenUsage> for Totals {
    type Error = InvalidValue;

    fn try_from(usage: TokenUsage) -> Result<Self, InvalidValue> {
        Self::unchanged().with_input_tokens(usage.input)?.with_output_tokens(usage.output)
    }
}

impl fmt::Display for TokenUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, output, cached_input, cache_write, reasoning } = *self;
        write!(f, "{input} input tokens")?;
        match (cached_input, cache_write) {
            (0, 0) => {}
            (cached, 0) => write!(f, " ({cached} cached)")?,
            (0, written) => write!(f, " ({written} written to the cache)")?,
            (cached, written) => write!(f, " ({cached} cached, {written} written to the cache)")?,
        }
        write!(f, ", {output} output tokens")?;
        if reasoning > 0 {
            write!(f, " ({reasoning} of reasoning)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_shown_where_there_is_one() {
        let usage =
            TokenUsage { input: 9, output: 5, cached_input: 4, cache_write: 2, reasoning: 3 };
        assert_eq!(
            usage.to_string(),
            "9 input tokens (4 cached, 2 written to the cache), 5 output tokens (3 of reasoning)"
        );
        assert_eq!(TokenUsage::new(9, 5).to_string(), "9 input tokens, 5 output tokens");
    }

    #[test]
    fn sums_saturate() {
        let most = TokenUsage::new(u64::MAX, 1);
        assert_eq!(most + most, TokenUsage::new(u64::MAX, 2));
        assert_eq!(most.total(), u64::MAX);
        assert!(Totals::try_from(most).is_err());
    }
}
