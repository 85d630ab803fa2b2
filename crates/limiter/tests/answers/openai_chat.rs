//! Chat completions of OpenAI and of compatible providers.

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
    Case { api: Api::OpenAiChat, kind, name, answer, usage, counted }
}

pub(crate) const CASES: &[Case] = &[
    case(
        Kind::Whole,
        "a message",
        r#"{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"model":"gpt-5.4","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I assist you today?","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default"}"#,
        reported(19, 10),
        9,
    ),
    case(
        Kind::Whole,
        "two choices and no usage",
        r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Yes"}},{"index":1,"message":{"role":"assistant","content":"No"}}]}"#,
        counted(2),
        2,
    ),
    case(
        Kind::Streamed,
        "usage in a chunk of its own",
        r#"
data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}
data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}],"usage":null}
data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":"!\n"},"logprobs":null,"finish_reason":null}],"usage":null}
data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}
data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}
data: [DONE]
"#,
        reported(9, 12),
        2,
    ),
    case(
        Kind::Streamed,
        "no usage",
        r#"
data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}
data: {"choices":[{"index":0,"delta":{"content":"H\u00e9"}}]}
data: {"choices":[{"index":0,"delta":{"content":" there"}},{"index":1,"delta":{"content":"\ud83d\ude00"}}]}
data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
data: [DONE]
"#,
        counted(3),
        3,
    ),
    case(
        Kind::Habit,
        "usage in every chunk (vLLM, Perplexity)",
        r#"
data: {"choices":[{"delta":{"content":"One"}}],"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}
data: {"choices":[{"delta":{"content":" two"}}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}
data: {"choices":[{"delta":{"content":" three"}}],"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}
data: [DONE]
"#,
        reported(7, 5),
        3,
    ),
    case(
        Kind::Habit,
        "usage in every chunk, with an output of 0 until the last",
        r#"
data: {"choices":[{"delta":{"content":"One"}}],"usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}}
data: {"choices":[{"delta":{"content":" two"}}],"usage":{"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}}
data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":4,"total_tokens":11}}
"#,
        reported(7, 4),
        2,
    ),
    case(
        Kind::Habit,
        "usage in the last chunk with a choice (Mistral, Together)",
        r#"
data: {"choices":[{"delta":{"content":"One"}}]}
data: {"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2}}
data: [DONE]
"#,
        reported(7, 2),
        1,
    ),
    case(
        Kind::Habit,
        "usage in a vendor's field (Groq)",
        r#"
data: {"choices":[{"delta":{"content":"One"}}],"x_groq":{"id":"req_1"}}
data: {"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"req_1","usage":{"queue_time":0.1,"prompt_tokens":18,"prompt_time":0.001,"completion_tokens":6,"completion_time":0.02,"total_tokens":24,"total_time":0.021}}}
data: [DONE]
"#,
        reported(18, 6),
        1,
    ),
    case(
        Kind::Habit,
        "usage in the choice (Moonshot)",
        r#"
data: {"choices":[{"index":0,"delta":{"content":"One"}}]}
data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":19,"completion_tokens":13,"total_tokens":32}}]}
data: [DONE]
"#,
        reported(19, 13),
        1,
    ),
    case(
        Kind::Habit,
        "comments and lines in between (OpenRouter)",
        r#"
: OPENROUTER PROCESSING
: OPENROUTER PROCESSING
data: {"id":"gen-1","provider":"X","choices":[{"index":0,"delta":{"role":"assistant","content":"One"},"finish_reason":null}]}
data: {"id":"gen-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop","native_finish_reason":"stop"}]}
data: {"id":"gen-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":{"prompt_tokens":14,"completion_tokens":3,"total_tokens":17,"cost":0.0001,"is_byok":false,"prompt_tokens_details":{"cached_tokens":10,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}}
data: [DONE]
"#,
        TokenUsage { input: 14, output: 3, cached_input: 10, cache_write: 2, reasoning: 1 },
        1,
    ),
    case(
        Kind::Habit,
        "filter results before the answer (Azure)",
        r#"
data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}
data: {"choices":[{"content_filter_results":{"hate":{"filtered":false}},"delta":{"content":"One"},"finish_reason":null,"index":0}]}
data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}
data: [DONE]
"#,
        reported(5, 1),
        1,
    ),
    case(
        Kind::Habit,
        "figures as floats",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":12.0,"completion_tokens":7.0,"total_tokens":19.0}}"#,
        reported(12, 7),
        1,
    ),
    case(
        Kind::Habit,
        "figures that cannot be",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":-12,"completion_tokens":9007199254740993,"total_tokens":null}}"#,
        counted(1),
        1,
    ),
    case(
        Kind::Habit,
        "an output of 0 where output was seen",
        r#"{"choices":[{"message":{"content":"One two"}}],"usage":{"prompt_tokens":12,"completion_tokens":0,"total_tokens":12}}"#,
        reported(12, 2),
        2,
    ),
    case(
        Kind::Habit,
        "text instead of JSON",
        "
data: Hello
data:  there
",
        counted(2),
        2,
    ),
    case(
        Kind::Habit,
        "content in parts (Mistral)",
        r#"
data: {"choices":[{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]}}]}
data: {"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"One"}]}}]}
data: [DONE]
"#,
        counted(2),
        2,
    ),
    case(
        Kind::ToolCalls,
        "whole",
        r#"{"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_abc123","type":"function","function":{"name":"get_current_weather","arguments":"{\n\"location\": \"Boston, MA\"\n}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":82,"completion_tokens":17,"total_tokens":99}}"#,
        reported(82, 17),
        12,
    ),
    case(
        Kind::ToolCalls,
        "streamed, without usage",
        r#"
data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}]}}]}
data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\""}}]}}]}
data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"city"}}]}}]}
data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}
data: [DONE]
"#,
        counted(3),
        3,
    ),
    case(
        Kind::ToolCalls,
        "the older function call",
        r#"
data: {"choices":[{"delta":{"role":"assistant","function_call":{"name":"weather","arguments":""}}}]}
data: {"choices":[{"delta":{"function_call":{"arguments":"{}"}}}]}
data: [DONE]
"#,
        counted(2),
        2,
    ),
    case(
        Kind::Reasoning,
        "whole, reasoning not shown",
        r#"{"choices":[{"message":{"role":"assistant","content":"42"}}],"usage":{"prompt_tokens":10,"completion_tokens":1037,"total_tokens":1047,"completion_tokens_details":{"reasoning_tokens":1024}}}"#,
        TokenUsage { reasoning: 1_024, ..reported(10, 1_037) },
        1,
    ),
    case(
        Kind::Reasoning,
        "streamed as reasoning_content (DeepSeek)",
        r#"
data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":""}}]}
data: {"choices":[{"index":0,"delta":{"content":null,"reasoning_content":"Okay"}}]}
data: {"choices":[{"index":0,"delta":{"content":null,"reasoning_content":","}}]}
data: {"choices":[{"index":0,"delta":{"content":"42","reasoning_content":null}}]}
data: {"choices":[{"index":0,"delta":{"content":"","reasoning_content":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":9,"total_tokens":19,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":5},"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}}
data: [DONE]
"#,
        TokenUsage { cached_input: 4, reasoning: 5, ..reported(10, 9) },
        3,
    ),
    case(
        Kind::Reasoning,
        "streamed twice in one delta, without usage (OpenRouter)",
        r#"
data: {"choices":[{"delta":{"role":"assistant","content":"","reasoning":"Okay","reasoning_details":[{"type":"reasoning.text","text":"Okay","format":"unknown","index":0}]}}]}
data: {"choices":[{"delta":{"role":"assistant","content":"","reasoning":" so","reasoning_content":" so"}}]}
data: {"choices":[{"delta":{"content":"42"}}]}
data: [DONE]
"#,
        counted(3),
        3,
    ),
    case(
        Kind::Reasoning,
        "apart from the output, as the total shows (xAI)",
        r#"{"choices":[{"message":{"role":"assistant","content":"101 * 3 = 303."}}],"usage":{"prompt_tokens":12,"completion_tokens":9,"total_tokens":321,"prompt_tokens_details":{"text_tokens":12,"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":300,"audio_tokens":0}}}"#,
        TokenUsage { cached_input: 3, reasoning: 300, ..reported(12, 309) },
        5,
    ),
    case(
        Kind::Cached,
        "whole",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920}}}"#,
        TokenUsage { cached_input: 1_920, ..reported(2_006, 300) },
        1,
    ),
    case(
        Kind::Cached,
        "with Anthropic's names next to OpenAI's (LiteLLM)",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":2006,"completion_tokens":30,"total_tokens":2036,"cache_creation_input_tokens":80,"cache_read_input_tokens":1900,"prompt_tokens_details":{"cached_tokens":1900}}}"#,
        TokenUsage { cached_input: 1_900, cache_write: 80, ..reported(2_006, 30) },
        1,
    ),
    case(
        Kind::Refusal,
        "streamed, without usage",
        r#"
data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":""}}]}
data: {"choices":[{"index":0,"delta":{"refusal":"I'm"}}]}
data: {"choices":[{"index":0,"delta":{"refusal":" sorry"}}]}
data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
data: [DONE]
"#,
        counted(2),
        2,
    ),
    case(
        Kind::Error,
        "after two deltas",
        r#"
data: {"choices":[{"delta":{"content":"One"}}]}
data: {"choices":[{"delta":{"content":" two"}}]}
data: {"error":{"message":"The server had an error while processing your request.","type":"server_error","param":null,"code":null}}
"#,
        counted(2),
        2,
    ),
    case(
        Kind::Error,
        "before any output",
        r#"
data: {"error":{"message":"overloaded","type":"server_error","code":503}}
"#,
        counted(0),
        0,
    ),
    case(
        Kind::Error,
        "in a body with status 200 (OpenRouter)",
        r#"{"error":{"message":"Provider returned error","code":502},"user_id":"user_1"}"#,
        counted(0),
        0,
    ),
    case(
        Kind::Empty,
        "a stream without text or usage",
        r#"
data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}
data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}
data: [DONE]
"#,
        ESTIMATED,
        0,
    ),
    case(
        Kind::Habit,
        "the message so far next to each delta (Perplexity)",
        r#"
data: {"object":"chat.completion.chunk","choices":[{"index":0,"message":{"role":"assistant","content":"One"},"delta":{"role":"assistant","content":"One"}}]}
data: {"object":"chat.completion.chunk","choices":[{"index":0,"message":{"role":"assistant","content":"One two"},"delta":{"content":" two"}}]}
"#,
        counted(2),
        2,
    ),
    case(
        Kind::Habit,
        "the whole message at the end (MiniMax)",
        r#"
data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"","content":"One"}}],"usage":{"total_tokens":0,"total_characters":0}}
data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" two"}}],"usage":{"total_tokens":0,"total_characters":0}}
data: {"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"One two"}}],"usage":{"total_tokens":30,"prompt_tokens":26,"completion_tokens":4}}
"#,
        reported(26, 4),
        2,
    ),
    case(
        Kind::Habit,
        "the text next to each delta (Together)",
        r#"
data: {"choices":[{"index":0,"text":"One","delta":{"token_id":4054,"role":"assistant","content":"One","tool_calls":null}}],"usage":null}
data: {"choices":[{"index":0,"delta":{"token_id":1403,"role":"assistant","content":" two"},"text":" two"}],"usage":null}
data: {"choices":[{"index":0,"text":"","finish_reason":"stop","delta":{"token_id":128009,"role":"assistant","content":""}}]}
"#,
        counted(2),
        2,
    ),
    case(
        Kind::Habit,
        "a usage of zeros (Bedrock Access Gateway)",
        r#"{"choices":[{"message":{"content":"One two"}}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#,
        counted(2),
        2,
    ),
    case(
        Kind::Habit,
        "an input of 0 next to an output",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":0,"completion_tokens":12,"total_tokens":12}}"#,
        counted(12),
        1,
    ),
    case(
        Kind::Habit,
        "an input of 0, which the total shows",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":0,"completion_tokens":12,"total_tokens":20}}"#,
        reported(8, 12),
        1,
    ),
    case(
        Kind::Habit,
        "input alone in the first chunk, then a cut (LiteLLM)",
        r#"
data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":11,"total_tokens":11}}
data: {"choices":[{"index":0,"delta":{"content":"One two"}}]}
"#,
        reported(11, 2),
        2,
    ),
    case(
        Kind::Habit,
        "choices that are null next to the usage (vLLM)",
        r#"
data: {"choices":[{"index":0,"delta":{"content":"One"}}]}
data: {"choices":null,"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}
"#,
        reported(7, 2),
        1,
    ),
    case(
        Kind::ToolCalls,
        "arguments that are an object, without usage",
        r#"{"choices":[{"message":{"role":"assistant","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Rome","unit":"C"}}}]}}]}"#,
        counted(8),
        8,
    ),
    case(
        Kind::Reasoning,
        "only in the total (Gemini behind gateways)",
        r#"{"choices":[{"message":{"content":"36"}}],"usage":{"prompt_tokens":20,"completion_tokens":198,"total_tokens":623}}"#,
        reported(20, 603),
        1,
    ),
    case(
        Kind::Reasoning,
        "with an output of 0 (CLIProxyAPI)",
        r#"{"choices":[{"message":{"content":""}}],"usage":{"prompt_tokens":21,"completion_tokens":0,"total_tokens":81,"completion_tokens_details":{"reasoning_tokens":60}}}"#,
        TokenUsage { reasoning: 60, ..reported(21, 60) },
        0,
    ),
    case(
        Kind::Reasoning,
        "reasoning and sources not in the rest (Perplexity's deep research)",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,"citation_tokens":20016,"num_search_queries":30,"reasoning_tokens":73999}}"#,
        TokenUsage { reasoning: 73_999, ..reported(20_049, 81_162) },
        1,
    ),
    case(
        Kind::Cached,
        "the cache written (DashScope)",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":1901,"completion_tokens":2,"total_tokens":1903,"prompt_tokens_details":{"cache_creation_input_tokens":1889,"cache_type":"ephemeral","cached_tokens":0}}}"#,
        TokenUsage { cache_write: 1_889, ..reported(1_901, 2) },
        1,
    ),
    case(
        Kind::Habit,
        "predicted tokens, which the output contains",
        r#"{"choices":[{"message":{"content":"One"}}],"usage":{"prompt_tokens":10,"completion_tokens":40,"total_tokens":50,"completion_tokens_details":{"accepted_prediction_tokens":5,"rejected_prediction_tokens":30}}}"#,
        reported(10, 40),
        1,
    ),
    case(Kind::Empty, "an empty body", "", ESTIMATED, 0),
    case(Kind::Empty, "an empty object", "{}", ESTIMATED, 0),
    case(
        Kind::Empty,
        "an empty message with usage",
        r#"{"choices":[{"message":{"role":"assistant","content":""}}],"usage":{"prompt_tokens":8,"completion_tokens":0,"total_tokens":8}}"#,
        reported(8, 0),
        0,
    ),
];
