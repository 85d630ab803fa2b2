//! Figures that a provider reported, and the charge by them: a metric, and a warning where the estimate stands.

use std::time::Instant;

use limiter_core::{Charge, Credits, Throttle};
use serde::Serialize;

use super::api::Api;
use crate::observe::{self, Counted};
use crate::token_usage::TokenUsage;

/// The figures of a call that its provider has reported so far. The others are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// All input tokens, cached ones included.
    pub input: Option<u64>,
    /// All output tokens so far, reasoning included.
    pub output: Option<u64>,
    /// The part of the input that was read from the cache.
    pub cached_input: u64,
    /// The part of the input that was written to the cache.
    pub cache_write: u64,
    /// The part of the output that is reasoning.
    pub reasoning: u64,
    /// The cost of the call, from a provider that reports it in your credits. It overrides any price.
    pub credits: Option<Credits>,
}

/// The source of the output tokens of a call, or of the input tokens of a call without output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The provider reported them.
    Reported,
    /// They were counted in the part of the answer that was seen.
    Counted,
    /// They were neither reported nor countable: the estimate of the call stands.
    Estimated,
}

impl Reported {
    /// Returns the tokens to charge: reported, or else counted, or else estimated. `estimate_stands` means that
    /// something was not counted, so that the estimate is the least to charge.
    #[must_use]
    pub fn usage(
        &self,
        counted: u64,
        estimate_stands: bool,
        estimate: &Charge,
    ) -> (TokenUsage, TokenSource) {
        let (output, source) = match self.output {
            // An answer without output has only its input to report.
            Some(0) if self.input.is_none() => (0, TokenSource::Estimated),
            Some(output) => (output, TokenSource::Reported),
            None if estimate_stands && counted <= estimate.output_tokens() => {
                (estimate.output_tokens(), TokenSource::Estimated)
            }
            None => (counted, TokenSource::Counted),
        };
        let input = self.input.unwrap_or_else(|| estimate.input_tokens());
        let cached_input = self.cached_input.min(input);
        let cache_write = self.cache_write.min(input - cached_input);
        let reasoning = self.reasoning.min(output);
        (TokenUsage { input, output, cached_input, cache_write, reasoning }, source)
    }
}

impl TokenSource {
    /// Returns the name, as in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
        }
    }
}

/// Counts an answer that has ended. Warns if its tokens are those of the estimate: the provider's usage or its text was not
/// understood.
pub(crate) fn answer_accounted(api: Option<Api>, source: TokenSource) {
    let api = api.map_or("other", Api::name);
    observe::count(Counted::Answers, &[("api", api), ("tokens", source.name())], 1);
    if source == TokenSource::Estimated
        && let Some(suppressed) = WARNINGS.admit(Instant::now())
    {
        tracing::warn!(
            api,
            suppressed,
            "the tokens of an answer were neither reported nor could they be counted: its estimate stands"
        );
    }
}

static WARNINGS: Throttle = Throttle::of_warnings();
