//! Gemini.

use limiter::TokenUsage;
use limiter::stream::Api;

use super::case::{Case, ESTIMATED, Kind, counted, reported};

const fn case(
    kind: Kind,
    name: &'static str,
    answer: &'static str,
    usage: TokenUsage,
    counted: u64,
) -> Case {
    Case { api: Api::Gemini, kind, name, answer, usage, counted }
}

pub(crate) const CASES: &[Case] = &[
    case(
        Kind::Whole,
        "one candidate",
        r#"{"candidates":[{"content":{"parts":[{"text":"AI learns from data."}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":5,"totalTokenCount":13,"promptTokensDetails":[{"modality":"TEXT","tokenCount":8}],"candidatesTokensDetails":[{"modality":"TEXT","tokenCount":5}]},"modelVersion":"gemini-3-flash","responseId":"x"}"#,
        reported(8, 5),
        5,
    ),
    case(
        Kind::Streamed,
        "server-sent events",
        r#"
data: {"candidates":[{"content":{"parts":[{"text":"AI learns"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":8,"totalTokenCount":8}}
data: {"candidates":[{"content":{"parts":[{"text":" from data."}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":6,"totalTokenCount":14}}
"#,
        reported(8, 6),
        4,
    ),
    case(
        Kind::Streamed,
        "an array, without alt=sse",
        "[{
  \"candidates\": [{\"content\": {\"parts\": [{\"text\": \"AI [learns] {\\\"\"}], \"role\": \"model\"}}],
  \"usageMetadata\": {\"promptTokenCount\": 8, \"candidatesTokenCount\": 2, \"totalTokenCount\": 10}
}
,
{
  \"candidates\": [{\"content\": {\"parts\": [{\"text\": \" from\"}]}, \"finishReason\": \"STOP\"}],
  \"usageMetadata\": {\"promptTokenCount\": 8, \"candidatesTokenCount\": 6, \"totalTokenCount\": 14}
}
]",
        reported(8, 6),
        4,
    ),
    case(
        Kind::Streamed,
        "an array without usage",
        r#"[{"candidates":[{"content":{"parts":[{"text":"One"}]}}]},
{"candidates":[{"content":{"parts":[{"text":" two"}]}}]}]"#,
        counted(2),
        2,
    ),
    case(
        Kind::ToolCalls,
        "whole",
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"set_light","args":{"on":true}},"thoughtSignature":"CrECAdHtim8bbRkLq"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":86,"candidatesTokenCount":18,"totalTokenCount":116,"toolUsePromptTokenCount":12}}"#,
        reported(98, 18),
        2,
    ),
    case(
        Kind::ToolCalls,
        "streamed code, without usage",
        r#"
data: {"candidates":[{"content":{"parts":[{"executableCode":{"language":"PYTHON","code":"print(1)"}}]}}]}
data: {"candidates":[{"content":{"parts":[{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}}]}}]}
"#,
        counted(1),
        1,
    ),
    case(
        Kind::ToolCalls,
        "streamed in parts, without usage (Vertex)",
        r#"
data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"get_weather","willContinue":true}}]}}]}
data: {"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath":"$.location","stringValue":"Boston","willContinue":true}],"willContinue":true}}]}}]}
data: {"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath":"$.location","stringValue":", MA"}],"willContinue":true}}]}}]}
data: {"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}
"#,
        counted(4),
        4,
    ),
    case(
        Kind::Reasoning,
        "thoughts not in the candidates",
        r#"{"candidates":[{"content":{"parts":[{"text":"Hm","thought":true},{"text":"42"}]}}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":6,"thoughtsTokenCount":200,"totalTokenCount":216}}"#,
        TokenUsage { reasoning: 200, ..reported(10, 206) },
        2,
    ),
    case(
        Kind::Reasoning,
        "thoughts before the first word",
        r#"
data: {"candidates":[{"content":{"parts":[{"text":"","thought":true}]}}],"usageMetadata":{"promptTokenCount":10,"thoughtsTokenCount":50,"totalTokenCount":60}}
data: {"candidates":[{"content":{"parts":[{"text":"42"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":1,"thoughtsTokenCount":50,"totalTokenCount":61}}
"#,
        TokenUsage { reasoning: 50, ..reported(10, 51) },
        1,
    ),
    case(
        Kind::Reasoning,
        "thoughts within the candidates, as the total shows",
        r#"{"candidates":[{"content":{"parts":[{"text":"42"}]}}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":206,"thoughtsTokenCount":200,"totalTokenCount":216}}"#,
        TokenUsage { reasoning: 200, ..reported(10, 206) },
        1,
    ),
    case(
        Kind::Cached,
        "whole",
        r#"{"candidates":[{"content":{"parts":[{"text":"One"}]}}],"usageMetadata":{"promptTokenCount":696219,"candidatesTokenCount":214,"totalTokenCount":696433,"cachedContentTokenCount":696190}}"#,
        TokenUsage { cached_input: 696_190, ..reported(696_219, 214) },
        1,
    ),
    case(
        Kind::Refusal,
        "the prompt was blocked",
        r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}}"#,
        reported(7, 0),
        0,
    ),
    case(
        Kind::Habit,
        "snake case",
        r#"{"candidates":[{"content":{"parts":[{"text":"One"}]},"finish_reason":"STOP"}],"usage_metadata":{"prompt_token_count":7,"candidates_token_count":2,"total_token_count":9}}"#,
        reported(7, 2),
        1,
    ),
    case(
        Kind::Habit,
        "a picture in base64",
        r#"{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"}}]}}]}"#,
        counted(1),
        1,
    ),
    case(
        Kind::Error,
        "in the middle of an array",
        r#"[{"candidates":[{"content":{"parts":[{"text":"One"}]}}]},
{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}]"#,
        counted(1),
        1,
    ),
    case(Kind::Empty, "an empty array", "[]", ESTIMATED, 0),
    case(
        Kind::Empty,
        "no candidates and no usage",
        r#"{"modelVersion":"gemini-3-flash"}"#,
        ESTIMATED,
        0,
    ),
];
