//! OpenAI's completions, the API before chat completions: text in `choices[].text`, usage as in chat completions.
//!
//! Source: <https://platform.openai.com/docs/api-reference/completions>.

use super::meaning::Meaning;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["choices"] => Meaning::Enter,
        ["choices", "text"] => Meaning::Text,
        ["usage"] => Meaning::Usage,
        ["error"] => Meaning::Error,
        _ => return None,
    })
}
