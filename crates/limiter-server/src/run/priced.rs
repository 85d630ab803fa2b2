//! What a stream takes, and what that costs.

use bytes::Bytes;
use limiter::{AnswerReader, CountTokens, Reported};

use crate::models::Price;

/// Counts an answer of any API. Once the provider has reported the usage, it has its price too; until then the
/// credits stay as they were reserved.
#[derive(Debug)]
pub(super) struct PricedTokens {
    tokens: AnswerReader,
    price: Price,
}

impl PricedTokens {
    pub(super) fn new(price: Price) -> Self {
        Self { tokens: AnswerReader::of_any_api(), price }
    }
}

impl CountTokens<Bytes> for PricedTokens {
    fn count(&mut self, chunk: &Bytes) -> u64 {
        self.tokens.count(chunk)
    }

    fn end(&mut self) -> u64 {
        CountTokens::<Bytes>::end(&mut self.tokens)
    }

    fn reported(&self) -> Reported {
        let mut reported = self.tokens.reported();
        if let (Some(input), Some(output)) = (reported.input, reported.output) {
            reported.credits = self.price.of(input, output).ok();
        }
        reported
    }

    fn estimate_stands(&self) -> bool {
        self.tokens.estimate_stands()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_that_was_told_has_its_price() {
        let mut tokens = PricedTokens::new(Price { run: 5, input: 1_000, output: 2_000 });
        assert_eq!(
            tokens
                .count(&Bytes::from("data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n")),
            1
        );
        assert_eq!(tokens.reported(), Reported::default());
        tokens.count(&Bytes::from(
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n",
        ));
        assert_eq!(tokens.reported().credits.map(|credits| credits.millionths()), Some(16));
    }
}
