//! Anthropic's messages.
//!
//! A stream begins with `message_start`, whose usage has the final input and an output that has only begun. `message_delta`
//! at the end has the final output and, since server tools exist, also the final input. `input_tokens` excludes the
//! tokens read from the cache and those written to it: the three add up. The usage also excludes the steps that compact
//! a context or advise the model; `iterations` lists them.
//!
//! Sources: <https://docs.claude.com/en/api/messages>, <https://docs.claude.com/en/docs/build-with-claude/streaming>.

use super::meaning::Meaning;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["type"] => Meaning::Type,
        ["message"] => Meaning::Enter,
        ["message", "usage"] => Meaning::FirstUsage,
        ["delta"] => Meaning::Enter,
        // A compaction has `content`.
        ["delta", "text" | "thinking" | "partial_json" | "content"] => Meaning::Text,
        ["content_block"] => Meaning::Enter,
        // A block that begins counts only the name of a tool: the rest comes in deltas. MiniMax sends the first text in
        // both.
        ["content_block", "name"] => Meaning::Text,
        // A whole message.
        ["content"] => Meaning::Enter,
        ["content", "text" | "thinking" | "name" | "content"] => Meaning::Text,
        ["content", "input"] => Meaning::Json,
        _ => return None,
    })
}

/// Returns the meaning of a path. A thinking budget is a part of `max_tokens`.
pub(super) fn request(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["model"] => Meaning::Model,
        ["stream"] => Meaning::Stream,
        ["max_tokens"] => Meaning::Maximum,
        ["system", "type" | "cache_control"] => Meaning::Skip,
        ["system", ..] => Meaning::Text,
        ["messages"] => Meaning::Enter,
        ["messages", "role"] => Meaning::Skip,
        ["messages", "content", of_block @ ..] => block(of_block),
        ["messages", ..] => Meaning::Text,
        ["tools" | "output_format" | "output_config"] => Meaning::Json,
        _ => return None,
    })
}

/// Counts unknown members as text, so that no part of the prompt is free.
fn block(path: &[&str]) -> Meaning {
    match path {
        ["input"] => Meaning::Json,
        ["source"] | ["content", "source"] => Meaning::MediaOfPart,
        ["type"] | ["content", "type"] => Meaning::PartType,
        ["id" | "tool_use_id" | "cache_control" | "signature"] | ["content", "cache_control"] => {
            Meaning::Skip
        }
        _ => Meaning::Text,
    }
}
