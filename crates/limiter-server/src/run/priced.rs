//! What a stream takes, and what that costs.

use bytes::Bytes;
use limiter::{CountTokens, OpenAiTokens, Price, TokenUsage, Totals};

/// Counts as OpenAI's streams are counted. Once the provider has told the usage, it has its price too; until then the
/// credits stay as they were reserved.
#[derive(Debug)]
pub(super) struct PricedTokens {
    tokens: OpenAiTokens,
    price: Price,
}

impl PricedTokens {
    pub(super) fn new(price: Price) -> Self {
        Self { tokens: OpenAiTokens::new(), price }
    }
}

impl CountTokens<Bytes> for PricedTokens {
    fn count(&mut self, chunk: &Bytes) -> u64 {
        self.tokens.count(chunk)
    }

    fn end(&mut self) -> u64 {
        CountTokens::<Bytes>::end(&mut self.tokens)
    }

    fn told(&self) -> Option<Totals> {
        let told = CountTokens::<Bytes>::told(&self.tokens)?;
        let usage = TokenUsage::new(told.input_tokens()?, told.output_tokens()?);
        Some(told.with_credits(self.price.of(&usage)))
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
        assert_eq!(tokens.told(), None);
        tokens.count(&Bytes::from(
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n",
        ));
        assert_eq!(
            tokens.told().and_then(|told| told.credits()).map(|credits| credits.millionths()),
            Some(16)
        );
    }
}
