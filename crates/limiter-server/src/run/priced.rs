//! What a stream takes, and what that costs.

use bytes::Bytes;
use limiter::{AnswerReader, CountTokens, Price, Reported, TokenUsage};

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
            reported.credits = Some(self.price.of(&TokenUsage::new(input, output)));
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
        let price = Price::per_million_tokens("1".parse().unwrap(), "2".parse().unwrap());
        let mut tokens = PricedTokens::new(price.per_request("0.000005".parse().unwrap()));
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
