//! Gemini's `generateContent` and `embedContent`. Sources: <https://ai.google.dev/api/generate-content>,
//! <https://ai.google.dev/api/embeddings>.

use limiter::stream::Api::{Gemini, GeminiEmbeddings};

use super::case::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case(
        Gemini,
        "plain",
        r#"{"contents":[{"role":"user","parts":[{"text":"12345"}]}]}"#,
        2 + 4 + 3,
        1_000,
    ),
    case(
        Gemini,
        "maximum and answers",
        r#"{"generationConfig":{"maxOutputTokens":90,"candidateCount":3,
            "thinkingConfig":{"thinkingBudget":4096}}}"#,
        0,
        270,
    ),
    case(
        Gemini,
        "snake case",
        r#"{"generation_config":{"max_output_tokens":90.0,"candidate_count":3},
            "system_instruction":{"parts":[{"text":"1234"}]}}"#,
        1,
        270,
    ),
    case(
        Gemini,
        "both spellings",
        r#"{"generationConfig":{"maxOutputTokens":9},"generation_config":{"max_output_tokens":90}}"#,
        0,
        90,
    ),
    case(Gemini, "a maximum elsewhere", r#"{"maxOutputTokens":9}"#, 0, 1_000),
    case(
        Gemini,
        "a schema of the answer",
        r#"{"generationConfig":{"responseSchema":{"type":"OBJECT"}}}"#,
        5,
        1_000,
    ),
    // {"city":"Rome"} has 15 bytes, {"t":1} 7.
    case(
        Gemini,
        "a tool call and its result",
        r#"{"tools":[{"googleSearch":{}}],"contents":[
            {"parts":[{"functionCall":{"name":"f","args":{"city":"Rome"}},"thoughtSignature":"CiQBcsjafJ2u"}]},
            {"parts":[{"functionResponse":{"name":"f","response":{"t":1}}}]}]}"#,
        12 + 8 + 3,
        1_000,
    ),
    case(
        Gemini,
        "a picture in base64",
        r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png",
            "data":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"}}]}]}"#,
        1_120 + 4 + 3,
        1_000,
    ),
    case(
        Gemini,
        "a text in base64, in snake case",
        r#"{"contents":[{"parts":[{"inline_data":{"mime_type":"text/plain","data":"SGVsbG8gd29ybGQh"}}]}]}"#,
        3 + 4 + 3,
        1_000,
    ),
    case(
        Gemini,
        "sound that was uploaded",
        r#"{"contents":[{"parts":[{"fileData":{"mimeType":"audio/mp3","fileUri":"https://example.com/v1beta/files/abc"}}]}]}"#,
        60 * 32 + 4 + 3,
        1_000,
    ),
    case(
        Gemini,
        "a video that was uploaded",
        r#"{"contents":[{"parts":[{"file_data":{"mime_type":"video/mp4","file_uri":"gs://bucket/a.mp4"}}]}]}"#,
        60 * 263 + 4 + 3,
        1_000,
    ),
    case(
        Gemini,
        "a document that was uploaded",
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"gs://bucket/a.pdf"}}]}]}"#,
        10 * 560 + 4 + 3,
        1_000,
    ),
    case(
        GeminiEmbeddings,
        "plain",
        r#"{"content":{"parts":[{"text":"12345"}]},"outputDimensionality":768}"#,
        2,
        0,
    ),
    case(
        GeminiEmbeddings,
        "several",
        r#"{"requests":[{"model":"models/e","content":{"parts":[{"text":"12345"}]}},
            {"model":"models/e","content":{"parts":[{"text":"123"}]}}]}"#,
        2,
        0,
    ),
];
