//! Counts answers of OpenAI's kind: chat completions that stream as server-sent events.

use limiter_core::Totals;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::count::CountTokens;
use super::lines::{Line, Lines};

/// Counts the tokens of chat completions, and of completions, that stream as OpenAI's do: events of one line
/// `data: {…}`, with choices that carry deltas, the last one `data: [DONE]`. Chunks are bytes, cut anywhere.
///
/// - Each choice of an event whose delta carries something (content, reasoning, a refusal, a part of a tool call)
///   counts as **one token**. That is what most upstreams send, but it is an estimate: some put several tokens into a delta,
///   and reasoning that is not shown is in none.
/// - A `usage` with `prompt_tokens` and `completion_tokens` is the truth. It is settled instead of what was counted, with what
///   deltas after it carry. So ask upstream for it: `"stream_options": {"include_usage": true}`.
///
/// A `data:` line that cannot be read, or any line of more than 256 KiB, counts as one token too, so that an upstream of another
/// kind is not free. The bytes must be plain: decompress them first.
///
/// ```
/// use limiter::{CountTokens, OpenAiTokens};
///
/// let mut tokens = OpenAiTokens::new();
/// assert_eq!(tokens.count(r#"data: {"choices":[{"delta":{"content":"Hel"#), 0);
/// assert_eq!(tokens.count("lo\"}}]}\n\n"), 1);
/// tokens.count("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n");
/// let told = CountTokens::<str>::told(&tokens).expect("it came as usage");
/// assert_eq!((told.input_tokens(), told.output_tokens()), (Some(9), Some(3)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct OpenAiTokens {
    lines: Lines,
    tally: Tally,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    /// The usage that came last.
    usage: Option<RawUsage>,
    /// Deltas that came after it.
    since: u64,
}

impl OpenAiTokens {
    /// Nothing has come yet. Each stream has a counter of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<C: AsRef<[u8]> + ?Sized> CountTokens<C> for OpenAiTokens {
    fn count(&mut self, chunk: &C) -> u64 {
        let mut tokens = 0;
        self.lines.push(chunk.as_ref(), |line| tokens += self.tally.add(line));
        tokens
    }

    fn end(&mut self) -> u64 {
        let mut tokens = 0;
        self.lines.end(|line| tokens += self.tally.add(line));
        tokens
    }

    fn told(&self) -> Option<Totals> {
        let RawUsage { prompt_tokens, completion_tokens } = self.tally.usage?;
        let told = Totals::unchanged().with_input_tokens(prompt_tokens).ok()?;
        told.with_output_tokens(completion_tokens.saturating_add(self.tally.since)).ok()
    }
}

impl Tally {
    /// The tokens that this line carries.
    fn add(&mut self, line: Line<'_>) -> u64 {
        let (tokens, usage) = match line {
            Line::Whole(line) => line.strip_prefix(b"data:").map_or((0, None), read),
            Line::TooLong => (1, None),
        };
        self.since = self.since.saturating_add(tokens);
        if usage.is_some() {
            *self = Self { usage, since: 0 };
        }
        tokens
    }
}

/// The tokens of an event, and the usage that it tells.
fn read(data: &[u8]) -> (u64, Option<RawUsage>) {
    let data = data.trim_ascii();
    if data.is_empty() || data == b"[DONE]" {
        return (0, None);
    }
    let Ok(Event { choices, usage }) = serde_json::from_slice(data) else { return (1, None) };
    let choices = choices.unwrap_or_default();
    let tokens = choices.iter().filter(|choice| choice.carries_something()).count() as u64;
    // A usage that cannot be read is as good as none.
    (tokens, usage.and_then(|usage| RawUsage::deserialize(usage).ok()))
}

#[derive(Deserialize)]
struct Event {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Map<String, Value>>,
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct RawUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Choice {
    /// The role alone, an empty text or `null` is no token.
    fn carries_something(&self) -> bool {
        let carries = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(parts) => !parts.is_empty(),
            Value::Object(parts) => !parts.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        };
        let mut delta = self.delta.iter().flatten();
        delta.any(|(name, value)| name != "role" && carries(value))
            || self.text.as_ref().is_some_and(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> (u64, Option<Totals>) {
        let mut tokens = OpenAiTokens::new();
        let counted = tokens.count(text) + CountTokens::<str>::end(&mut tokens);
        (counted, CountTokens::<str>::told(&tokens))
    }

    fn totals(input: u64, output: u64) -> Totals {
        Totals::unchanged().with_input_tokens(input).unwrap().with_output_tokens(output).unwrap()
    }

    #[test]
    fn each_choice_whose_delta_carries_something_is_a_token() {
        for (choices, tokens) in [
            (r#"{"delta":{"content":"a"}}"#, 1),
            (r#"{"delta":{"content":"a"}},{"delta":{"content":"b"}}"#, 2),
            (r#"{"delta":{"role":"assistant","content":""}}"#, 0),
            (r#"{"delta":{},"finish_reason":"stop"}"#, 0),
            (r#"{"delta":null}"#, 0),
            (r#"{"delta":{"content":null,"reasoning_content":"hm"}}"#, 1),
            (r#"{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}"#, 1),
            (r#"{"text":"a"}"#, 1),
            ("", 0),
        ] {
            let event = format!("data: {{\"choices\":[{choices}],\"usage\":null}}\n\n");
            assert_eq!(count(&event), (tokens, None), "{event}");
        }
    }

    #[test]
    fn what_is_no_event_of_data_is_no_token() {
        assert_eq!(count(": keep-alive\n\nevent: ping\ndata:\nid: 7\ndata: [DONE]\n\n"), (0, None));
        assert_eq!(count("data: {\"error\":{\"message\":\"overloaded\"}}\n"), (0, None));
    }

    #[test]
    fn what_cannot_be_read_is_a_token() {
        for event in
            ["data: hello\n", "data: {\"choices\":[{\"delta\":\"a\"}]}\n", "data: \u{1F600}\n"]
        {
            assert_eq!(count(event), (1, None), "{event}");
        }
    }

    #[test]
    fn the_last_usage_is_told_with_the_deltas_after_it() {
        let delta = r#"data: {"choices":[{"delta":{"content":"a"}}]}"#;
        let usage = r#"data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":7,"completion_tokens":40}}"#;
        assert_eq!(count(&format!("{delta}\n{delta}\n{usage}\n")), (3, Some(totals(7, 40))));
        assert_eq!(count(&format!("{usage}\n{delta}\n{delta}\n")), (3, Some(totals(7, 42))));
    }

    #[test]
    fn a_usage_that_cannot_be_is_none() {
        for usage in [
            r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1.5,"completion_tokens":1}"#,
            r#"{"prompt_tokens":9007199254740992,"completion_tokens":1}"#,
            r#"{"total_tokens":1}"#,
            r#""many""#,
        ] {
            assert_eq!(count(&format!("data: {{\"usage\":{usage}}}\n")), (0, None), "{usage}");
        }
    }

    #[test]
    fn a_last_line_without_an_end_counts_once_the_stream_has_ended() {
        let usage = r#"data: {"usage":{"prompt_tokens":7,"completion_tokens":40}}"#;
        let mut tokens = OpenAiTokens::new();
        assert_eq!(tokens.count(usage), 0);
        assert_eq!(CountTokens::<str>::told(&tokens), None);
        assert_eq!(CountTokens::<str>::end(&mut tokens), 0);
        assert_eq!(CountTokens::<str>::told(&tokens), Some(totals(7, 40)));
    }
}
