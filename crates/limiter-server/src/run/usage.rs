//! The tokens that an answer says it took.

use limiter::{InvalidValue, Price, TokenUsage, Totals};
use serde_json::{Value, json};

/// What a run took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

impl Tokens {
    /// The `usage` of an answer, whether it names them as OpenAI or as Anthropic does.
    pub(crate) fn of(answer: &Value) -> Option<Self> {
        let usage = answer.get("usage")?;
        let count = |names: [&str; 2]| names.into_iter().find_map(|name| usage.get(name)?.as_u64());
        Some(Self {
            input: count(["prompt_tokens", "input_tokens"])?,
            output: count(["completion_tokens", "output_tokens"])?,
        })
    }

    /// As this server tells them.
    pub(crate) fn on_the_wire(self) -> Value {
        json!({
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input.saturating_add(self.output),
        })
    }

    /// What is to be settled.
    pub(crate) fn totals(self, price: Price) -> Result<Totals, InvalidValue> {
        price.totals(&TokenUsage::new(self.input, self.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_is_read_in_the_words_of_openai_and_of_anthropic() {
        for answer in [
            json!({"usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}}),
            json!({"usage": {"input_tokens": 3, "output_tokens": 9}}),
        ] {
            assert_eq!(Tokens::of(&answer), Some(Tokens { input: 3, output: 9 }), "{answer}");
        }
    }

    #[test]
    fn what_is_no_usage_is_none() {
        for answer in [
            json!({}),
            json!({"usage": null}),
            json!({"usage": {"prompt_tokens": -1, "completion_tokens": 1}}),
        ] {
            assert_eq!(Tokens::of(&answer), None, "{answer}");
        }
    }
}
