//! OpenAI's chat completions, and the many APIs that are compatible with them.
//!
//! - `usage` is in the whole answer, and in the last chunk of a stream, with empty `choices`, if the request has
//!   `"stream_options": {"include_usage": true}`. Some providers put it into the last chunk with a choice, or into every
//!   chunk (vLLM's `continuous_usage_stats`, Perplexity). Groq has it in `x_groq.usage`, Moonshot in `choices[].usage`.
//! - A stream may repeat its text: Perplexity sends the `message` so far with each `delta`, MiniMax the whole `message`
//!   at the end, Together a `text` with each `delta`.
//! - Reasoning comes as `reasoning_content` (DeepSeek and others) or `reasoning` (OpenRouter, newer vLLM), or as both.
//!
//! Source: <https://platform.openai.com/docs/api-reference/chat>.

use super::meaning::Meaning;
use super::media::Kind;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["x_groq", "usage"] | ["choices", "usage"] => Meaning::Usage,
        ["choices"] | ["x_groq"] => Meaning::Enter,
        ["choices", "delta" | "message", of_delta @ ..] => delta(of_delta),
        _ => return None,
    })
}

fn delta(path: &[&str]) -> Meaning {
    match path {
        [] => Meaning::Enter,
        ["content" | "refusal"] => Meaning::Text,
        ["reasoning_content" | "reasoning"] => Meaning::Reasoning,
        // Parts of a content that is an array.
        ["content", "text" | "refusal" | "thinking"] => Meaning::Text,
        ["content", "thinking", "text"] => Meaning::Text,
        ["audio", "transcript"] => Meaning::Text,
        ["tool_calls" | "function_call" | "audio"] | ["tool_calls", "function" | "custom"] => {
            Meaning::Enter
        }
        ["tool_calls", "function" | "custom", "name"] | ["function_call", "name"] => Meaning::Text,
        ["tool_calls", "function", "arguments"]
        | ["tool_calls", "custom", "input"]
        | ["function_call", "arguments"] => Meaning::Json,
        ["role" | "annotations" | "name" | "tool_call_id"] => Meaning::Skip,
        [_] => Meaning::Mark,
        _ => Meaning::Skip,
    }
}

pub(super) fn request(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["messages"] => Meaning::Enter,
        ["messages", of_message @ ..] => message(of_message),
        ["tools" | "functions" | "response_format"] => Meaning::Json,
        ["documents" | "prediction", ..] => Meaning::Text,
        _ => return generation(path),
    })
}

/// Returns the meaning of the members that all text-generating APIs of OpenAI share.
pub(super) fn generation(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["model"] => Meaning::Model,
        ["stream"] => Meaning::Stream,
        ["stream_options"] => Meaning::StreamOptions,
        ["stream_options", "include_usage"] => Meaning::IncludeUsage,
        // `max_tokens` is the older name of `max_completion_tokens`; servers accept both. The last two names are those
        // of TGI and llama.cpp.
        [
            "max_tokens"
            | "max_completion_tokens"
            | "max_output_tokens"
            | "max_new_tokens"
            | "n_predict",
        ] => Meaning::Maximum,
        ["n" | "best_of"] => Meaning::Answers,
        _ => return None,
    })
}

/// Counts unknown members as text, so that no part of the prompt is free.
fn message(path: &[&str]) -> Meaning {
    match path {
        ["role" | "tool_call_id" | "audio"] | ["tool_calls", "id" | "type"] => Meaning::Skip,
        ["content", "type" | "id" | "cache_control"] => Meaning::Skip,
        ["content", "image_url" | "image"] => Meaning::Media(Kind::Picture),
        ["content", "input_audio" | "audio_url"] => Meaning::Media(Kind::Audio),
        ["content", "video_url" | "video"] => Meaning::Media(Kind::Video),
        ["content", "file"] => Meaning::Media(Kind::File),
        _ => Meaning::Text,
    }
}
