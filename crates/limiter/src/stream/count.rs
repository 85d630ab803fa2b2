//! What tells how many tokens a chunk carries.

use crate::provider::{Api, Reported};

/// Counts the output tokens of an answer, chunk by chunk. [`AnswerReader`](crate::AnswerReader) does it for the APIs of LLM
/// providers; a function or closure from a chunk to a number does too.
///
/// ```
/// use limiter::{CountTokens, Reported};
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
    /// How many output tokens this chunk carries. Each chunk is asked about once, in order.
    ///
    /// It may be an estimate, if [`reported`](Self::reported) is going to know better.
    fn count(&mut self, chunk: &C) -> u64;

    /// Counts what was held back to be counted as a whole: the stream has ended, or was cut. By default nothing.
    fn end(&mut self) -> u64 {
        0
    }

    /// The figures that upstream has reported so far. They are settled instead of the sum of the counts; figures that it
    /// has not reported stay as counted or estimated. Asked after each chunk, and at the end. More than 2^53 − 1 tokens
    /// are not believed.
    fn reported(&self) -> Reported {
        Reported::default()
    }

    /// Returns whether some of the answer could not be counted: then the estimate is the least to settle, unless upstream
    /// reported the output.
    fn estimate_stands(&self) -> bool {
        false
    }

    /// The API whose answer is counted, if it is known: a label of metrics.
    fn api(&self) -> Option<Api> {
        None
    }
}

impl<C: ?Sized, F: FnMut(&C) -> u64> CountTokens<C> for F {
    fn count(&mut self, chunk: &C) -> u64 {
        self(chunk)
    }
}
