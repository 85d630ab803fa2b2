//! OpenAI's chat completions, and the many APIs that are compatible with them.
//!
//! - `usage` is in the whole answer, and in the last chunk of a stream, with empty `choices`, if the request has
//!   `"stream_options": {"include_usage": true}`. Some providers put it into the last chunk with a choice, or into every
//!   chunk (vLLM's `continuous_usage_stats`, Perplexity); Groq into `x_groq.usage`; Moonshot into `choices[].usage`.
//! - Reasoning comes as `reasoning_content` (DeepSeek and others) or `reasoning` (OpenRouter, newer vLLM), or as both.
//!
//! Source: <https://platform.openai.com/docs/api-reference/chat>.

use super::meaning::Meaning;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["usage"] | ["x_groq", "usage"] | ["choices", "usage"] => Meaning::Usage,
        ["choices"] | ["x_groq"] => Meaning::Enter,
        ["error"] => Meaning::Error,
        ["choices", "delta" | "message", of_delta @ ..] => delta(of_delta),
        _ => return None,
    })
}

fn delta(path: &[&str]) -> Meaning {
    match path {
        // A delta that is a string is no delta of OpenAI's, but it is text.
        [] | ["content" | "refusal"] => Meaning::Text,
        ["reasoning_content" | "reasoning"] => Meaning::Reasoning,
        // Parts of a content that is an array.
        ["content", "text" | "refusal" | "thinking"] => Meaning::Text,
        ["content", "thinking", "text"] => Meaning::Text,
        ["audio", "transcript"] => Meaning::Text,
        ["tool_calls" | "function_call" | "audio"] | ["tool_calls", "function" | "custom"] => {
            Meaning::Enter
        }
        ["tool_calls", "function", "name" | "arguments"]
        | ["tool_calls", "custom", "name" | "input"]
        | ["function_call", "name" | "arguments"] => Meaning::Text,
        ["role" | "annotations" | "name" | "tool_call_id"] => Meaning::Skip,
        [_] => Meaning::Mark,
        _ => Meaning::Skip,
    }
}
