//! OpenAI's embeddings, and compatible ones: usage alone, without output. Some tell only the total.
//!
//! Source: <https://platform.openai.com/docs/api-reference/embeddings>.

use super::meaning::Meaning;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["usage"] => Meaning::Usage,
        ["error"] => Meaning::Error,
        _ => return None,
    })
}
