//! OpenAI's embeddings, and compatible ones: usage alone, without output. Some providers report only the total.
//!
//! Source: <https://platform.openai.com/docs/api-reference/embeddings>.

use super::meaning::Meaning;
use super::media::Kind;
use super::request_meaning::RequestMeaning;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["usage"] => Meaning::Usage,
        ["error"] => Meaning::Error,
        _ => return None,
    })
}

/// Returns the meaning of a path. Some providers accept pictures too, next to the text or as a part of it.
pub(super) fn request(path: &[&str]) -> Option<RequestMeaning> {
    Some(match path {
        ["model"] => RequestMeaning::Model,
        [INPUT_1 | INPUT_2 | "messages", .., "image" | "image_url" | "image_base64"] => {
            RequestMeaning::Media(Kind::Picture)
        }
        [INPUT_1 | INPUT_2 | "messages", .., "type" | "role"] => RequestMeaning::Skip,
        [INPUT_1 | INPUT_2 | "messages" | "texts" | "images", ..] => RequestMeaning::TextOrTokens,
        _ => return None,
    })
}

const INPUT_1: &str = "input";
const INPUT_2: &str = "inputs";
