//! Gemini's `generateContent` and `streamGenerateContent`. Its JSON may be in snake case too.
//!
//! Each chunk of a stream has `usageMetadata` up to there; the last one is final. `promptTokenCount` contains the cached
//! tokens. `candidatesTokenCount` does not contain `thoughtsTokenCount`, and `promptTokenCount` not
//! `toolUsePromptTokenCount`: these add up.
//!
//! Sources: <https://ai.google.dev/api/generate-content#UsageMetadata>.

use super::meaning::Meaning;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["usageMetadata" | "usage_metadata"] => Meaning::Usage,
        ["error"] => Meaning::Error,
        ["candidates"] | ["candidates", "content"] | ["candidates", "content", "parts"] => {
            Meaning::Enter
        }
        ["candidates", "content", "parts", of_part @ ..] => match of_part {
            ["text"] | [FUNCTION_CALL_1 | FUNCTION_CALL_2, "name"] => Meaning::Text,
            [FUNCTION_CALL_1 | FUNCTION_CALL_2] | ["executableCode" | "executable_code"] => {
                Meaning::Enter
            }
            [FUNCTION_CALL_1 | FUNCTION_CALL_2, "args"] => Meaning::Json,
            ["executableCode" | "executable_code", "code"] => Meaning::Text,
            ["inlineData" | "inline_data"] => Meaning::Mark,
            _ => Meaning::Skip,
        },
        _ => return None,
    })
}

const FUNCTION_CALL_1: &str = "functionCall";
const FUNCTION_CALL_2: &str = "function_call";
