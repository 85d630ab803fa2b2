//! One answer of a provider, with the tokens that it costs.

use limiter::TokenUsage;
use limiter::stream::Api;

/// An answer, as the provider sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) api: Api,
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// The body. Streams are written with one event a line: see [`Case::bytes`].
    pub(crate) answer: &'static str,
    /// The tokens that the whole answer costs.
    pub(crate) usage: TokenUsage,
    /// Output tokens that are counted in its text, whether they are charged or not.
    pub(crate) counted: u64,
}

/// The property of an answer that a case tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Whole,
    Streamed,
    ToolCalls,
    Reasoning,
    Cached,
    Refusal,
    Error,
    Empty,
    /// The usage is in a place that only some providers use, or missing.
    Habit,
}

/// The estimate of every call: figures that no answer has.
pub(crate) const ESTIMATED_INPUT: u64 = 1_009;
pub(crate) const ESTIMATED_OUTPUT: u64 = 2_003;

impl Case {
    /// Returns the bytes of the answer. An answer whose first line begins with `data:` or `event:` is an event stream,
    /// of which each line is an event; `event: NAME data: …` has both fields.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        if !self.answer.trim_start().starts_with(['d', 'e', ':']) {
            return self.answer.trim().as_bytes().to_vec();
        }
        let mut bytes = Vec::new();
        for line in self.answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let line = match line.strip_prefix("event:").and_then(|rest| rest.split_once(" data:"))
            {
                Some((event, data)) => format!("event:{event}\ndata:{data}\n\n"),
                None => format!("{line}\n\n"),
            };
            bytes.extend(line.into_bytes());
        }
        bytes
    }
}

/// Returns input and output that a provider reported.
pub(crate) const fn reported(input: u64, output: u64) -> TokenUsage {
    TokenUsage::new(input, output)
}

/// Returns the input as estimated, and output that was counted.
pub(crate) const fn counted(output: u64) -> TokenUsage {
    TokenUsage::new(ESTIMATED_INPUT, output)
}

/// Input and output as estimated.
pub(crate) const ESTIMATED: TokenUsage = TokenUsage::new(ESTIMATED_INPUT, ESTIMATED_OUTPUT);
