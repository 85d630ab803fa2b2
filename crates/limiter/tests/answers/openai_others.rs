//! OpenAI's older completions, responses and embeddings, and rerank.

use limiter::TokenUsage;
use limiter::stream::Api;

use super::case::{Case, ESTIMATED, ESTIMATED_INPUT, Kind, counted, reported};

const fn completions(
    kind: Kind,
    name: &'static str,
    answer: &'static str,
    usage: TokenUsage,
    counted: u64,
) -> Case {
    Case { api: Api::OpenAiCompletions, kind, name, answer, usage, counted }
}

const fn responses(
    kind: Kind,
    name: &'static str,
    answer: &'static str,
    usage: TokenUsage,
    counted: u64,
) -> Case {
    Case { api: Api::OpenAiResponses, kind, name, answer, usage, counted }
}

const fn without_output(
    api: Api,
    kind: Kind,
    name: &'static str,
    answer: &'static str,
    input: u64,
) -> Case {
    Case { api, kind, name, answer, usage: reported(input, 0), counted: 0 }
}

pub(crate) const CASES: &[Case] = &[
    completions(
        Kind::Whole,
        "a text",
        r#"{"id":"cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7","object":"text_completion","created":1589478378,"model":"gpt-3.5-turbo-instruct","choices":[{"text":"\n\nThis is indeed a test","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#,
        reported(5, 7),
        6,
    ),
    completions(
        Kind::Streamed,
        "usage in a chunk of its own",
        r#"
data: {"id":"cmpl-7iA7","object":"text_completion","choices":[{"text":"This","index":0,"logprobs":null,"finish_reason":null}],"usage":null}
data: {"id":"cmpl-7iA7","object":"text_completion","choices":[{"text":" is","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":null}
data: {"id":"cmpl-7iA7","object":"text_completion","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}
data: [DONE]
"#,
        reported(5, 2),
        2,
    ),
    completions(
        Kind::Streamed,
        "no usage, two texts",
        r#"
data: {"choices":[{"text":"This","index":0},{"text":"That","index":1}]}
data: {"choices":[{"text":" is","index":0,"finish_reason":"stop"}]}
data: [DONE]
"#,
        counted(3),
        3,
    ),
    completions(
        Kind::Error,
        "after one text",
        r#"
data: {"choices":[{"text":"This","index":0}]}
data: {"error":{"message":"The server had an error","type":"server_error"}}
"#,
        counted(1),
        1,
    ),
    responses(
        Kind::Whole,
        "a message",
        r#"{"id":"resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b","object":"response","created_at":1741476542,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"gpt-5.4","output":[{"type":"message","id":"msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b","status":"completed","role":"assistant","content":[{"type":"output_text","text":"In a peaceful grove beneath a silver moon","annotations":[]}]}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":true,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":123},"user":null,"metadata":{}}"#,
        reported(36, 87),
        11,
    ),
    responses(
        Kind::Streamed,
        "the whole response again at the end",
        r#"
event: response.created data: {"type":"response.created","response":{"id":"resp_1","object":"response","status":"in_progress","error":null,"instructions":"You are a helpful assistant.","model":"gpt-5.4","output":[],"usage":null}}
event: response.in_progress data: {"type":"response.in_progress","response":{"id":"resp_1","status":"in_progress","error":null,"output":[],"usage":null}}
event: response.output_item.added data: {"type":"response.output_item.added","output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}
event: response.content_part.added data: {"type":"response.content_part.added","item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}
event: response.output_text.delta data: {"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hi"}
event: response.output_text.delta data: {"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":" there"}
event: response.output_text.done data: {"type":"response.output_text.done","item_id":"msg_1","output_index":0,"content_index":0,"text":"Hi there"}
event: response.content_part.done data: {"type":"response.content_part.done","item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Hi there","annotations":[]}}
event: response.output_item.done data: {"type":"response.output_item.done","output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi there","annotations":[]}]}}
event: response.completed data: {"type":"response.completed","response":{"id":"resp_1","object":"response","status":"completed","error":null,"output":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Hi there","annotations":[]}]}],"usage":{"input_tokens":37,"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48}}}
"#,
        reported(37, 11),
        2,
    ),
    responses(
        Kind::Streamed,
        "cut before its end",
        r#"
data: {"type":"response.created","response":{"status":"in_progress","error":null,"usage":null}}
data: {"type":"response.output_text.delta","delta":"Hi"}
data: {"type":"response.output_text.delta","delta":" there"}
"#,
        counted(2),
        2,
    ),
    responses(
        Kind::Streamed,
        "ended at its maximum",
        r#"
data: {"type":"response.output_text.delta","delta":"Hi"}
data: {"type":"response.incomplete","response":{"status":"incomplete","error":null,"incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":0},"output_tokens":16,"output_tokens_details":{"reasoning_tokens":15},"total_tokens":26}}}
"#,
        TokenUsage { reasoning: 15, ..reported(10, 16) },
        1,
    ),
    responses(
        Kind::ToolCalls,
        "streamed, without usage",
        r#"
data: {"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"get_weather","arguments":""}}
data: {"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":0,"delta":"{\""}
data: {"type":"response.function_call_arguments.delta","item_id":"fc_1","output_index":0,"delta":"city"}
data: {"type":"response.function_call_arguments.done","item_id":"fc_1","output_index":0,"arguments":"{\"city\"}"}
"#,
        counted(2),
        2,
    ),
    responses(
        Kind::ToolCalls,
        "whole",
        r#"{"object":"response","error":null,"output":[{"type":"function_call","id":"fc_1","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Rome\"}","status":"completed"}],"usage":{"input_tokens":291,"output_tokens":23,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":314}}"#,
        reported(291, 23),
        2,
    ),
    responses(
        Kind::Reasoning,
        "streamed as a summary, without usage",
        r#"
data: {"type":"response.reasoning_summary_text.delta","item_id":"rs_1","output_index":0,"summary_index":0,"delta":"Thinking"}
data: {"type":"response.reasoning_text.delta","item_id":"rs_1","output_index":0,"content_index":0,"delta":"The"}
data: {"type":"response.output_text.delta","delta":"42"}
"#,
        counted(3),
        3,
    ),
    responses(
        Kind::Cached,
        "whole",
        r#"{"object":"response","output":[{"type":"message","content":[{"type":"output_text","text":"One"}]}],"usage":{"input_tokens":328,"input_tokens_details":{"cached_tokens":320},"output_tokens":52,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":380}}"#,
        TokenUsage { cached_input: 320, ..reported(328, 52) },
        1,
    ),
    responses(
        Kind::Refusal,
        "streamed",
        r#"
data: {"type":"response.refusal.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"No"}
data: {"type":"response.refusal.done","item_id":"msg_1","output_index":0,"content_index":0,"refusal":"No"}
"#,
        counted(1),
        1,
    ),
    responses(
        Kind::Habit,
        "sound in base64",
        r#"
data: {"type":"response.audio.delta","response_id":"resp_1","delta":"UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAABVSUZGUklGRiQAAABXQVZF"}
data: {"type":"response.audio_transcript.delta","response_id":"resp_1","delta":"Hello"}
"#,
        counted(2),
        2,
    ),
    responses(
        Kind::Error,
        "failed after one delta",
        r#"
data: {"type":"response.output_text.delta","delta":"Hi"}
data: {"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"The model failed to generate a response."},"usage":null}}
"#,
        counted(1),
        1,
    ),
    responses(
        Kind::Error,
        "failed before any output",
        r#"
data: {"type":"response.created","response":{"status":"in_progress","error":null,"usage":null}}
data: {"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"The model failed."},"usage":null}}
"#,
        counted(0),
        0,
    ),
    responses(
        Kind::Error,
        "an event without an error object",
        r#"
data: {"type":"error","code":"ERR_SOMETHING","message":"Something went wrong","param":null,"sequence_number":1}
"#,
        counted(0),
        0,
    ),
    responses(
        Kind::ToolCalls,
        "other tools, without usage",
        r#"
data: {"type":"response.mcp_call_arguments.delta","item_id":"mcp_1","output_index":0,"delta":"{"}
data: {"type":"response.code_interpreter_call_code.delta","item_id":"ci_1","output_index":0,"delta":"print"}
data: {"type":"response.custom_tool_call_input.delta","item_id":"ctc_1","output_index":0,"delta":"SELECT"}
data: {"type":"response.code_interpreter_call_code.done","item_id":"ci_1","output_index":0,"code":"print"}
"#,
        counted(3),
        3,
    ),
    responses(
        Kind::Cached,
        "the cache written",
        r#"{"object":"response","output":[{"type":"message","content":[{"type":"output_text","text":"One"}]}],"usage":{"input_tokens":328,"input_tokens_details":{"cached_tokens":20,"cache_write_tokens":300},"output_tokens":52,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":380}}"#,
        TokenUsage { cached_input: 20, cache_write: 300, ..reported(328, 52) },
        1,
    ),
    responses(
        Kind::Empty,
        "a response without output",
        r#"{"object":"response","status":"completed","error":null,"output":[],"usage":null}"#,
        ESTIMATED,
        0,
    ),
    without_output(
        Api::OpenAiEmbeddings,
        Kind::Whole,
        "one embedding",
        r#"{"object":"list","data":[{"object":"embedding","embedding":[0.0023064255,-0.009327292,-0.0028842222],"index":0}],"model":"text-embedding-ada-002","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        8,
    ),
    without_output(
        Api::OpenAiEmbeddings,
        Kind::Habit,
        "only a total (Voyage)",
        r#"{"object":"list","data":[{"object":"embedding","embedding":[0.1],"index":0}],"model":"voyage-3.5","usage":{"total_tokens":10}}"#,
        10,
    ),
    without_output(
        Api::OpenAiEmbeddings,
        Kind::Habit,
        "an output of 0 next to the input",
        r#"{"data":[{"embedding":"AAAAAA=="}],"usage":{"prompt_tokens":8,"completion_tokens":0,"total_tokens":8}}"#,
        8,
    ),
    without_output(
        Api::Rerank,
        Kind::Whole,
        "tokens (Cohere)",
        r#"{"results":[{"index":3,"relevance_score":0.999071}],"id":"07734bd2","meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1},"tokens":{"input_tokens":217}}}"#,
        217,
    ),
    without_output(
        Api::Rerank,
        Kind::Habit,
        "only search units (Cohere)",
        r#"{"results":[{"index":3,"relevance_score":0.999071}],"meta":{"billed_units":{"search_units":1}}}"#,
        ESTIMATED_INPUT,
    ),
    without_output(
        Api::Rerank,
        Kind::Habit,
        "usage with a total (Jina, Voyage, vLLM)",
        r#"{"model":"jina-reranker-v2","usage":{"total_tokens":815},"results":[{"index":0,"relevance_score":0.8}]}"#,
        815,
    ),
];
