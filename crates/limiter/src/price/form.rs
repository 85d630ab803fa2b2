//! The serde form of a price, as a person writes it.

use limiter_core::{Credits, Object};
use serde::{Deserialize, Serialize, Serializer};

use super::Price;

/// The fields of a price; `None` is the default of each.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Form {
    input: Option<Credits>,
    cached_input: Option<Credits>,
    cache_write: Option<Credits>,
    output: Option<Credits>,
    reasoning: Option<Credits>,
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

impl Serialize for Price {
    /// Omits each field that has its default.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = [
            ("input", self.input, Credits::ZERO),
            ("cached_input", self.cached_input, self.input),
            ("cache_write", self.cache_write, self.input),
            ("output", self.output, Credits::ZERO),
            ("reasoning", self.reasoning, self.output),
            ("request", self.request, Credits::ZERO),
        ];
        let set = fields.into_iter().filter(|(_, amount, default)| amount != default);
        serializer.collect_map(set.map(|(name, amount, _)| (name, amount)))
    }
}
