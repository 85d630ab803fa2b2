//! OpenAI's responses.
//!
//! A stream has deltas as strings in `delta`: of text, refusals, reasoning and the arguments of tools. Its last event
//! (`response.completed`, `response.incomplete` or `response.failed`) has the whole response with its usage. It
//! repeats the text of the deltas, as do the `*.done` events.
//!
//! Source: <https://platform.openai.com/docs/api-reference/responses>.

use super::meaning::Meaning;
use super::media::Kind;
use super::openai_chat;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["type"] => Meaning::Type,
        ["delta"] => Meaning::Text,
        ["response"] => Meaning::Enter,
        ["response", "usage"] => Meaning::Usage,
        ["response", "error"] => Meaning::Error,
        // A whole response.
        ["output"] | ["output", "content" | "summary"] => Meaning::Enter,
        ["output", "content" | "summary", "text" | "refusal"] => Meaning::Text,
        ["output", "name" | "arguments" | "input" | "code"] => Meaning::Text,
        _ => return None,
    })
}

pub(super) fn request(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["instructions"] => Meaning::Text,
        ["input"] => Meaning::TextOrTokens,
        ["input", of_item @ ..] => item(of_item),
        ["tools" | "text"] => Meaning::Json,
        // The variables of a stored prompt.
        ["prompt", "variables", ..] => Meaning::Text,
        ["prompt"] => Meaning::Enter,
        _ => return openai_chat::generation(path),
    })
}

/// Counts unknown members as text, so that no part of the prompt is free.
fn item(path: &[&str]) -> Meaning {
    match path {
        ["content" | "output", "type"] => Meaning::PartType,
        ["type" | "role" | "id" | "call_id" | "status" | "encrypted_content"]
        | ["content" | "output", "detail" | "filename"] => Meaning::Skip,
        ["content" | "output", "image_url"] => Meaning::Media(Kind::Picture),
        ["content" | "output", "input_audio"] => Meaning::Media(Kind::Audio),
        ["content" | "output", "file_data" | "file_url"] => Meaning::Media(Kind::File),
        ["content" | "output", "file_id"] => Meaning::MediaOfPart,
        _ => Meaning::Text,
    }
}
