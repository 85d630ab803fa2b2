//! OpenAI's completions, the API before chat completions: text in `choices[].text`, usage as in chat completions.
//!
//! Source: <https://platform.openai.com/docs/api-reference/completions>.

use super::meaning::Meaning;
use super::openai_chat;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["choices"] => Meaning::Enter,
        ["choices", "text"] => Meaning::ChoiceText,
        _ => return None,
    })
}

pub(super) fn request(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["prompt"] => Meaning::Prompts,
        ["suffix"] => Meaning::Text,
        _ => return openai_chat::generation(path),
    })
}
