//! The steps of one message of Anthropic's.
//!
//! The usage of a message leaves out two kinds of steps: those that compact its context, and those of an advising
//! model. `iterations` lists them. The other steps are in the usage already, or are attempts that are not billed.
//!
//! Sources: <https://docs.claude.com/en/docs/build-with-claude/compaction>,
//! <https://docs.claude.com/en/docs/agents-and-tools/tool-use/advisor-tool>.

use super::figures::Counts;
use super::walk::{Look, Receive, walk};
use crate::token_usage::TokenUsage;

/// The tokens that the usage leaves out.
#[derive(Default)]
pub(super) struct Iterations {
    left_out: TokenUsage,
    counts: Counts,
    is_left_out: bool,
}

impl Iterations {
    /// Reads the list of the steps, and returns the tokens of those that the usage leaves out.
    pub(super) fn left_out(raw: &str) -> TokenUsage {
        let mut iterations = Self::default();
        // It was read once already, so that this fails only where it is nested too deep to be a list of steps.
        let _ = walk(raw.as_bytes(), &mut iterations);
        iterations.left_out
    }
}

impl<'de> Receive<'de> for Iterations {
    fn look(&mut self, path: &[&str]) -> Look {
        match path {
            ["type"] => Look::Raw,
            path if self.counts.named(path).is_some() => Look::Raw,
            _ => Look::Skip,
        }
    }

    fn value(&mut self, path: &[&str], raw: &'de str) {
        if path == ["type"] {
            self.is_left_out = matches!(raw, r#""compaction""# | r#""advisor_message""#);
        } else {
            self.counts.value(path, raw);
        }
    }

    fn close(&mut self, _: &[&str]) {
        let figures = std::mem::take(&mut self.counts).figures();
        if std::mem::take(&mut self.is_left_out) {
            self.left_out = self.left_out
                + TokenUsage {
                    input: figures.input.unwrap_or_default(),
                    output: figures.output.unwrap_or_default(),
                    cached_input: figures.cached_input,
                    cache_write: figures.cache_write,
                    reasoning: figures.reasoning,
                };
        }
    }
}
