//! Counts of tokens as providers name them.

use limiter_core::MAX_COUNT;

use super::iterations::Iterations;
use super::scalar::count;
use super::walk::{Look, Receive, walk};
use crate::token_usage::TokenUsage;

/// The counts of one usage object, in the form of [`TokenUsage`](crate::TokenUsage). A count is absent if the provider
/// did not report it or if it is implausible: negative, not whole, or more than a billion. An input of 0 is implausible
/// too, since each call has input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cached_input: u64,
    pub(super) cache_write: u64,
    pub(super) reasoning: u64,
    /// The total, the only count of a provider that does not separate input from output.
    pub(super) total: Option<u64>,
}

impl Figures {
    /// Reads a usage object. None if it is no object or has no plausible count of tokens.
    pub(super) fn read(raw: &str) -> Option<Self> {
        if !raw.starts_with('{') {
            return None;
        }
        let mut raw_counts = Counts::default();
        walk(raw.as_bytes(), &mut raw_counts).ok()?;
        let figures = raw_counts.figures();
        let Self { input, output, total, .. } = figures;
        (input.is_some() || output.is_some() || total.is_some()).then_some(figures)
    }
}

/// The counts under their names. The first name of a list is that of the API that introduced it.
#[derive(Default)]
pub(super) struct Counts {
    /// OpenAI's `prompt_tokens` and Gemini's `promptTokenCount`: they contain the tokens from the cache.
    prompt: Count,
    /// `input_tokens`: Anthropic's does not contain the tokens from the cache, that of OpenAI's responses does.
    input: Count,
    output: Count,
    total: Count,
    /// Part of the prompt, in all APIs but Anthropic's.
    cached: Count,
    /// Not in the input, in Anthropic's API.
    excluded_cache_read: Count,
    excluded_cache_write: Count,
    cache_write: Count,
    /// Part of the output, except from xAI and Perplexity.
    reasoning: Count,
    /// Not in the output, in Gemini's API.
    thoughts: Count,
    /// Not in the prompt: results of tools in Gemini's API, and sources in Perplexity's.
    extra_prompt: Count,
    /// Steps that neither input nor output contains, in Anthropic's API.
    steps: TokenUsage,
}

/// A count that may be absent or implausible.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Count {
    #[default]
    Absent,
    Reported(u64),
    Unbelievable,
}

impl Count {
    const fn reported(self) -> Option<u64> {
        match self {
            Self::Reported(count) => Some(count),
            Self::Absent | Self::Unbelievable => None,
        }
    }

    fn or_zero(self) -> u64 {
        self.reported().unwrap_or_default()
    }

    fn plus(self, other: u64) -> Option<u64> {
        self.reported().map(|count| count.saturating_add(other))
    }
}

impl Counts {
    pub(super) fn named(&mut self, path: &[&str]) -> Option<&mut Count> {
        Some(match path {
            ["prompt_tokens" | "promptTokenCount" | "prompt_token_count"] => &mut self.prompt,
            ["input_tokens"] => &mut self.input,
            [
                "completion_tokens"
                | "output_tokens"
                | "candidatesTokenCount"
                | "candidates_token_count",
            ] => &mut self.output,
            ["total_tokens" | "totalTokenCount" | "total_token_count"] => &mut self.total,
            ["prompt_tokens_details" | "input_tokens_details", "cached_tokens"]
            | [
                "prompt_cache_hit_tokens"
                | "cached_tokens"
                | "cachedContentTokenCount"
                | "cached_content_token_count",
            ] => &mut self.cached,
            [
                "prompt_tokens_details" | "input_tokens_details",
                "cache_write_tokens" | "cache_creation_tokens" | "cache_creation_input_tokens",
            ] => &mut self.cache_write,
            ["cache_read_input_tokens"] => &mut self.excluded_cache_read,
            ["cache_creation_input_tokens"] => &mut self.excluded_cache_write,
            [
                "completion_tokens_details" | "output_tokens_details",
                "reasoning_tokens" | "thinking_tokens",
            ]
            | ["reasoning_tokens"] => &mut self.reasoning,
            ["thoughtsTokenCount" | "thoughts_token_count"] => &mut self.thoughts,
            ["toolUsePromptTokenCount" | "tool_use_prompt_token_count" | "citation_tokens"] => {
                &mut self.extra_prompt
            }
            _ => return None,
        })
    }

    pub(super) fn figures(self) -> Figures {
        let total = self.total.reported();
        let (input, cached_input, cache_write) = self.input(total);
        let input = input.filter(|input| *input > 0);
        let (output, reasoning) = self.output(input, total);
        let mut figures = Figures { input, output, cached_input, cache_write, reasoning, total };
        // The total minus one count is the other. In Gemini's OpenAI-compatible API only the total contains the
        // thoughts.
        if let (Some(total), Some(input)) = (total, input)
            && (output.is_some() || self.output == Count::Absent)
        {
            figures.output = output.max(Some(total.saturating_sub(input)));
        }
        if let (Some(total), None, Some(output)) = (total, input, output)
            && ![self.prompt, self.input].contains(&Count::Unbelievable)
        {
            figures.input = total.checked_sub(output).filter(|input| *input > 0);
        }
        figures.input = figures.input.map(|input| input.saturating_add(self.steps.input));
        figures.output = figures.output.map(|output| output.saturating_add(self.steps.output));
        figures.cached_input = figures.cached_input.saturating_add(self.steps.cached_input);
        figures.cache_write = figures.cache_write.saturating_add(self.steps.cache_write);
        // The parts of a whole are never more than the whole.
        let whole = figures.input.unwrap_or(MAX_COUNT);
        figures.cached_input = figures.cached_input.min(whole);
        figures.cache_write = figures.cache_write.min(whole - figures.cached_input);
        figures.reasoning = reasoning.min(figures.output.unwrap_or(MAX_COUNT));
        figures
    }

    /// Returns all input tokens, those read from the cache, and those written to it.
    fn input(&self, total: Option<u64>) -> (Option<u64>, u64, u64) {
        let (read, written) =
            (self.excluded_cache_read.or_zero(), self.excluded_cache_write.or_zero());
        let (cached, cache_write) =
            (self.cached.or_zero().max(read), self.cache_write.or_zero().max(written));
        let excluded = read.saturating_add(written);
        let is_total = |input| total.is_some() && total == self.output.plus(input);
        let (input, contains_cached) = match self.prompt.plus(self.extra_prompt.or_zero()) {
            Some(prompt) => (Some(prompt), excluded == 0 || !is_total(prompt + excluded)),
            None => (self.input.reported(), self.input.reported().is_some_and(is_total)),
        };
        // A part that is larger than the whole is not in it.
        let contains_cached = contains_cached && input.is_some_and(|input| excluded <= input);
        let input = input.map(|input| if contains_cached { input } else { input + excluded });
        (input, cached, cache_write)
    }

    /// Returns all output tokens, and those of reasoning.
    fn output(&self, input: Option<u64>, total: Option<u64>) -> (Option<u64>, u64) {
        let (reasoning, is_excluded) = match self.thoughts {
            Count::Reported(thoughts) => (thoughts, true),
            Count::Absent | Count::Unbelievable => (self.reasoning.or_zero(), false),
        };
        let output = match self.output {
            // Thoughts alone, before the first word of the answer.
            Count::Absent if is_excluded => Some(0),
            output => output.reported(),
        };
        let Some(output) = output else { return (None, reasoning) };
        let is_total = |output| total.is_some() && total == input.map(|input| input + output);
        // The total shows whether the output contains reasoning. A part that is larger than the whole is not in it.
        let is_excluded = reasoning > output
            || if is_excluded { !is_total(output) } else { is_total(output + reasoning) };
        (Some(if is_excluded { output + reasoning } else { output }), reasoning)
    }
}

impl<'de> Receive<'de> for Counts {
    fn look(&mut self, path: &[&str]) -> Look {
        match path {
            [
                "prompt_tokens_details"
                | "input_tokens_details"
                | "completion_tokens_details"
                | "output_tokens_details",
            ] => Look::Enter,
            ["iterations"] => Look::Raw,
            path if self.named(path).is_some() => Look::Raw,
            _ => Look::Skip,
        }
    }

    fn value(&mut self, path: &[&str], raw: &'de str) {
        if path == ["iterations"] {
            self.steps = Iterations::left_out(raw);
        }
        if let Some(named) = self.named(path)
            && raw != "null"
        {
            *named = count(raw).map_or(Count::Unbelievable, Count::Reported);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Option<[u64; 5]> {
        let Figures { input, output, cached_input, cache_write, reasoning, .. } =
            Figures::read(raw)?;
        Some([input?, output?, cached_input, cache_write, reasoning])
    }

    #[test]
    fn each_provider_is_read_into_one_form() {
        for (what, raw, figures) in [
            (
                "OpenAI chat",
                r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"cached_tokens":80,"audio_tokens":0},
                "completion_tokens_details":{"reasoning_tokens":30}}"#,
                [100, 50, 80, 0, 30],
            ),
            (
                "OpenAI responses",
                r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":80},
                "output_tokens":50,"output_tokens_details":{"reasoning_tokens":30},"total_tokens":150}"#,
                [100, 50, 80, 0, 30],
            ),
            (
                "Anthropic",
                r#"{"input_tokens":18,"cache_creation_input_tokens":7,"cache_read_input_tokens":8831,"output_tokens":26}"#,
                [8_856, 26, 8_831, 7, 0],
            ),
            (
                "Gemini",
                r#"{"promptTokenCount":10,"cachedContentTokenCount":4,"candidatesTokenCount":6,
                "thoughtsTokenCount":20,"toolUsePromptTokenCount":3,"totalTokenCount":39}"#,
                [13, 26, 4, 0, 20],
            ),
            (
                "Gemini in snake case",
                r#"{"prompt_token_count":10,"candidates_token_count":6,"total_token_count":16}"#,
                [10, 6, 0, 0, 0],
            ),
            (
                "xAI",
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,
                "completion_tokens_details":{"reasoning_tokens":100}}"#,
                [10, 105, 0, 0, 100],
            ),
            (
                "DeepSeek",
                r#"{"prompt_tokens":10,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6,"completion_tokens":5,"total_tokens":15}"#,
                [10, 5, 4, 0, 0],
            ),
            (
                "LiteLLM, Anthropic behind it",
                r#"{"prompt_tokens":100,"completion_tokens":5,"cache_read_input_tokens":80,"cache_creation_input_tokens":9}"#,
                [100, 5, 80, 9, 0],
            ),
            (
                "input that contains the cached tokens, as the total shows",
                r#"{"input_tokens":100,"output_tokens":5,"total_tokens":105,"cache_read_input_tokens":80}"#,
                [100, 5, 80, 0, 0],
            ),
            ("embeddings", r#"{"prompt_tokens":8,"total_tokens":8}"#, [8, 0, 0, 0, 0]),
            ("floats", r#"{"prompt_tokens":12.0,"completion_tokens":7.0}"#, [12, 7, 0, 0, 0]),
            (
                "a prompt without the cached tokens, as they show",
                r#"{"prompt_tokens":18,"completion_tokens":26,"cache_read_input_tokens":8831}"#,
                [8_849, 26, 8_831, 0, 0],
            ),
            (
                "a prompt without the cached tokens, as the total shows",
                r#"{"prompt_tokens":100,"completion_tokens":5,"total_tokens":194,"cache_read_input_tokens":80,"cache_creation_input_tokens":9}"#,
                [189, 5, 80, 9, 0],
            ),
            (
                "input whose cached tokens are too many to be within, whatever the total",
                r#"{"input_tokens":18,"output_tokens":26,"total_tokens":44,"cache_read_input_tokens":8831}"#,
                [8_849, 26, 8_831, 0, 0],
            ),
            (
                "vLLM behind LiteLLM: reasoning not in the output, as it shows",
                r#"{"prompt_tokens":10,"completion_tokens":64,"completion_tokens_details":{"reasoning_tokens":79}}"#,
                [10, 143, 0, 0, 79],
            ),
            (
                "Gemini, thoughts within the candidates, as the total shows",
                r#"{"promptTokenCount":10,"candidatesTokenCount":26,"thoughtsTokenCount":20,"totalTokenCount":36}"#,
                [10, 26, 0, 0, 20],
            ),
            (
                "output that only the total shows",
                r#"{"prompt_tokens":20,"completion_tokens":198,"total_tokens":623}"#,
                [20, 603, 0, 0, 0],
            ),
            (
                "input that only the total shows",
                r#"{"prompt_tokens":0,"completion_tokens":12,"total_tokens":20}"#,
                [8, 12, 0, 0, 0],
            ),
            (
                "parts larger than their whole",
                r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9}}"#,
                [5, 1, 5, 0, 0],
            ),
        ] {
            assert_eq!(read(raw), Some(figures), "{what}");
        }
    }

    #[test]
    fn figures_that_cannot_be_are_not_believed() {
        for raw in [
            r#"{"prompt_tokens":-1}"#,
            r#"{"prompt_tokens":1.5}"#,
            r#"{"prompt_tokens":9007199254740992}"#,
            r#"{"prompt_tokens":"8"}"#,
            r#"{"prompt_tokens":null}"#,
            r#"{"searches":1}"#,
            r#"{"prompt_tokens":8"#,
            "null",
            "8",
            "[8]",
            r#""many""#,
        ] {
            assert_eq!(Figures::read(raw), None, "{raw}");
        }
        let half = Figures::read(r#"{"prompt_tokens":-1,"completion_tokens":3,"total_tokens":9}"#);
        let half = half.unwrap();
        assert_eq!((half.input, half.output), (None, Some(3)), "nor derived from the total");
        let zeros = Figures::read(r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#);
        assert_eq!(zeros.map(|zeros| (zeros.input, zeros.output)), Some((None, Some(0))));
    }

    #[test]
    fn a_total_alone_is_only_a_total() {
        let figures = Figures::read(r#"{"total_tokens":9}"#).unwrap();
        assert_eq!((figures.input, figures.output, figures.total), (None, None, Some(9)));
    }
}
