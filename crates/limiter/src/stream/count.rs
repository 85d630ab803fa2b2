//! What tells how many tokens a chunk carries.

use limiter_core::Totals;

/// Counts the output tokens of an answer, chunk by chunk. A function or closure from a chunk to a number does.
///
/// ```
/// use limiter::{CountTokens, Totals};
///
/// /// Answers as an imaginary upstream gives them: words, and in the end what they did cost.
/// enum Chunk {
///     Words(String),
///     Bill { input_tokens: u64, output_tokens: u64 },
/// }
///
/// #[derive(Default)]
/// struct Words {
///     told: Option<Totals>,
/// }
///
/// impl CountTokens<Chunk> for Words {
///     fn count(&mut self, chunk: &Chunk) -> u64 {
///         match *chunk {
///             Chunk::Words(ref words) => words.split_whitespace().count() as u64,
///             Chunk::Bill { input_tokens, output_tokens } => {
///                 let told = Totals::unchanged().with_input_tokens(input_tokens);
///                 self.told = told.and_then(|told| told.with_output_tokens(output_tokens)).ok();
///                 0
///             }
///         }
///     }
///
///     fn told(&self) -> Option<Totals> {
///         self.told
///     }
/// }
/// ```
pub trait CountTokens<C: ?Sized> {
    /// How many output tokens this chunk carries. Each chunk is asked about once, in order.
    ///
    /// It may be an estimate, if [`told`](Self::told) is going to know better.
    fn count(&mut self, chunk: &C) -> u64;

    /// The stream has ended by itself: the tokens of what was held back to be counted as a whole, of which the rest never
    /// came. By default none.
    fn end(&mut self) -> u64 {
        0
    }

    /// What the call did cost up to now, if upstream told: that is settled instead of the sum of the counts. Asked after
    /// each chunk, and at the end. What it leaves out stays as counted or estimated. Tokens that cannot be
    /// (more than 2^53 − 1 together) are not believed.
    fn told(&self) -> Option<Totals> {
        None
    }
}

impl<C: ?Sized, F: FnMut(&C) -> u64> CountTokens<C> for F {
    fn count(&mut self, chunk: &C) -> u64 {
        self(chunk)
    }
}
