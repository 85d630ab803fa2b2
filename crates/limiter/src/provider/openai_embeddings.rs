//! OpenAI's embeddings, and compatible ones: usage alone, without output. Some providers report only the total.
//!
//! Source: <https://platform.openai.com/docs/api-reference/embeddings>.

use super::meaning::Meaning;
use super::media::Kind;

/// Returns the meaning of a path. Some providers accept pictures too, next to the text or as a part of it.
pub(super) fn request(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["model"] => Meaning::Model,
        [INPUT_1 | INPUT_2 | "messages", .., "image" | "image_url" | "image_base64"] => {
            Meaning::Media(Kind::Picture)
        }
        [INPUT_1 | INPUT_2 | "messages", .., "type" | "role"] => Meaning::Skip,
        [INPUT_1 | INPUT_2 | "messages" | "texts" | "images", ..] => Meaning::TextOrTokens,
        _ => return None,
    })
}

const INPUT_1: &str = "input";
const INPUT_2: &str = "inputs";
