//! Gemini's `generateContent` and `streamGenerateContent`. Its JSON may be in snake case too.
//!
//! Each chunk of a stream has the `usageMetadata` so far; the last one is final. `promptTokenCount` contains the cached
//! tokens. `candidatesTokenCount` does not contain `thoughtsTokenCount`, and `promptTokenCount` does not
//! contain `toolUsePromptTokenCount`: these add up, unless the total shows that they do not.
//!
//! Sources: <https://ai.google.dev/api/generate-content#UsageMetadata>.

use super::meaning::Meaning;
use super::media::Kind;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["usageMetadata" | "usage_metadata"] => Meaning::Usage,
        ["candidates"] | ["candidates", "content"] | ["candidates", "content", "parts"] => {
            Meaning::Enter
        }
        ["candidates", "content", "parts", of_part @ ..] => match of_part {
            ["text"] | [FUNCTION_CALL_1 | FUNCTION_CALL_2, "name"] => Meaning::Text,
            [FUNCTION_CALL_1 | FUNCTION_CALL_2] | ["executableCode" | "executable_code"] => {
                Meaning::Enter
            }
            [FUNCTION_CALL_1 | FUNCTION_CALL_2, "args"] => Meaning::Json,
            // Vertex streams the arguments in parts, if it is asked to.
            [FUNCTION_CALL_1 | FUNCTION_CALL_2, "partialArgs" | "partial_args"] => Meaning::Enter,
            [
                FUNCTION_CALL_1 | FUNCTION_CALL_2,
                "partialArgs" | "partial_args",
                "stringValue" | "string_value",
            ] => Meaning::Text,
            ["executableCode" | "executable_code", "code"] => Meaning::Text,
            ["inlineData" | "inline_data"] => Meaning::Mark,
            _ => Meaning::Skip,
        },
        _ => return None,
    })
}

/// Returns the meaning of a path. The URL has the model and the choice of streaming. Thinking tokens are a part of
/// `maxOutputTokens`.
pub(super) fn request(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["contents" | "requests"] => Meaning::Enter,
        ["contents", of_content @ ..]
        | ["requests", "content", of_content @ ..]
        | ["content" | "systemInstruction" | "system_instruction", of_content @ ..] => {
            content(of_content)
        }
        ["tools"] => Meaning::Json,
        ["generationConfig" | "generation_config"] => Meaning::Generation,
        ["generationConfig" | "generation_config", of_config] => match *of_config {
            "maxOutputTokens" | "max_output_tokens" => Meaning::Maximum,
            "candidateCount" | "candidate_count" => Meaning::Answers,
            "responseSchema"
            | "response_schema"
            | "responseJsonSchema"
            | "response_json_schema" => Meaning::Json,
            _ => Meaning::Skip,
        },
        _ => return None,
    })
}

/// Counts unknown members as text, so that no part of the prompt is free.
fn content(path: &[&str]) -> Meaning {
    match path {
        ["role"] | ["parts", "thoughtSignature" | "thought_signature"] => Meaning::Skip,
        ["parts", "inlineData" | "inline_data" | "fileData" | "file_data"] => {
            Meaning::Media(Kind::File)
        }
        ["parts", FUNCTION_CALL_1 | FUNCTION_CALL_2, "args"]
        | ["parts", "functionResponse" | "function_response", "response"] => Meaning::Json,
        _ => Meaning::Text,
    }
}

const FUNCTION_CALL_1: &str = "functionCall";
const FUNCTION_CALL_2: &str = "function_call";
