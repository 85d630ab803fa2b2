//! OpenAI's responses.
//!
//! A stream has deltas as strings in `delta`: of text, refusals, reasoning and the arguments of tools. Its last event
//! (`response.completed`, `response.incomplete` or `response.failed`) has the whole response with its usage; the text in
//! there, and in the `*.done` events, is the same text again.
//!
//! Source: <https://platform.openai.com/docs/api-reference/responses>.

use super::meaning::Meaning;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["type"] => Meaning::Type,
        ["delta"] => Meaning::Text,
        ["response"] => Meaning::Enter,
        ["usage"] | ["response", "usage"] => Meaning::Usage,
        ["error"] | ["response", "error"] => Meaning::Error,
        // A whole response.
        ["output"] | ["output", "content" | "summary"] => Meaning::Enter,
        ["output", "content" | "summary", "text" | "refusal"] => Meaning::Text,
        ["output", "name" | "arguments" | "input" | "code"] => Meaning::Text,
        _ => return None,
    })
}
