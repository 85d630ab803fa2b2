//! Counters of the output tokens in the chunks of an answer.

use crate::provider::{Api, Reported};

/// A counter of the output tokens of an answer, chunk by chunk. [`AnswerReader`](crate::stream::AnswerReader) is one for the
/// APIs of LLM providers. A function or closure from a chunk to a number is one too.
///
/// ```
/// use limiter::stream::{CountTokens, Reported};
///
/// /// Answers as an imaginary upstream gives them: words, and in the end their cost.
/// enum Chunk {
///     Words(String),
///     Bill { input_tokens: u64, output_tokens: u64 },
/// }
///
/// #[derive(Default)]
/// struct Words {
///     reported: Reported,
/// }
///
/// impl CountTokens<Chunk> for Words {
///     fn count(&mut self, chunk: &Chunk) -> u64 {
///         match *chunk {
///             Chunk::Words(ref words) => words.split_whitespace().count() as u64,
///             Chunk::Bill { input_tokens, output_tokens } => {
///                 self.reported.input = Some(input_tokens);
///                 self.reported.output = Some(output_tokens);
///                 0
///             }
///         }
///     }
///
///     fn reported(&self) -> Reported {
///         self.reported
///     }
/// }
/// ```
pub trait CountTokens<C: ?Sized> {
    /// Returns the number of output tokens in this chunk. It is called once for each chunk, in order.
    ///
    /// It may be an estimate if [`reported`](Self::reported) returns the exact number later.
    fn count(&mut self, chunk: &C) -> u64;

    /// Counts the text that was held back, after the stream has ended or was cut. The default is none.
    fn end(&mut self) -> u64 {
        0
    }

    /// Returns the figures that upstream has reported so far. They are settled instead of the sum of the counts;
    /// figures that it has not reported stay as counted or estimated. The meter calls this after each chunk, and at the
    /// end. It ignores more than 2^53 − 1 tokens.
    fn reported(&self) -> Reported {
        Reported::default()
    }

    /// Returns whether a part of the answer could not be counted. Then the estimate is the least to settle, unless
    /// upstream reported the output.
    fn estimate_stands(&self) -> bool {
        false
    }

    /// Returns the API of the answer, if it is known. It is a label of metrics.
    fn api(&self) -> Option<Api> {
        None
    }
}

impl<C: ?Sized, F: FnMut(&C) -> u64> CountTokens<C> for F {
    fn count(&mut self, chunk: &C) -> u64 {
        self(chunk)
    }
}
