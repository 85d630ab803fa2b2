//! The serde form of a price, as a person writes it.

use limiter_core::{Credits, Object};
use serde::{Deserialize, Serialize};

use super::Price;

/// The fields of a price; `None` is the default of each.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Form {
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Credits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_input: Option<Credits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write: Option<Credits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Credits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Credits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Credits>,
}

impl From<Object<Form>> for Price {
    fn from(Object(form): Object<Form>) -> Self {
        let input = form.input.unwrap_or_default();
        let output = form.output.unwrap_or_default();
        Self {
            input,
            cached_input: form.cached_input.unwrap_or(input),
            cache_write: form.cache_write.unwrap_or(input),
            output,
            reasoning: form.reasoning.unwrap_or(output),
            request: form.request.unwrap_or_default(),
        }
    }
}

impl From<Price> for Form {
    /// Omits each field that has its default.
    fn from(price: Price) -> Self {
        let unless = |default: Credits, amount: Credits| (amount != default).then_some(amount);
        Self {
            input: unless(Credits::ZERO, price.input),
            cached_input: unless(price.input, price.cached_input),
            cache_write: unless(price.input, price.cache_write),
            output: unless(Credits::ZERO, price.output),
            reasoning: unless(price.output, price.reasoning),
            request: unless(Credits::ZERO, price.request),
        }
    }
}
