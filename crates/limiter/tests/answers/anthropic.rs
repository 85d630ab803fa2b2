//! Anthropic's messages.

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
    Case { api: Api::AnthropicMessages, kind, name, answer, usage, counted }
}

pub(crate) const CASES: &[Case] = &[
    case(
        Kind::Whole,
        "a message",
        r#"{"id":"msg_013Zva2CMHLNnXjNJJKqJ2EF","type":"message","role":"assistant","model":"claude-opus-4-6","content":[{"type":"text","text":"Hi! My name is Claude."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":2095,"output_tokens":503}}"#,
        reported(2_095, 503),
        6,
    ),
    case(
        Kind::Streamed,
        "a message",
        r#"
event: message_start data: {"type":"message_start","message":{"id":"msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY","type":"message","role":"assistant","content":[],"model":"claude-opus-4-6","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"output_tokens":1}}}
event: content_block_start data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
event: ping data: {"type": "ping"}
event: content_block_delta data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}
event: content_block_delta data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"!"}}
event: content_block_stop data: {"type":"content_block_stop","index":0}
event: message_delta data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}
event: message_stop data: {"type":"message_stop"}
"#,
        reported(25, 15),
        2,
    ),
    case(
        Kind::Streamed,
        "cut before its usage",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"! How are you"}}
"#,
        reported(25, 5),
        5,
    ),
    case(
        Kind::Habit,
        "one delta alone",
        r#"
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}
"#,
        counted(1),
        1,
    ),
    case(
        Kind::Habit,
        "the input at the end (server tools)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":2679,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3,"service_tier":"standard"}}}
data: {"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_014hJH82Qum7Td6UV8gDXThB","name":"web_search","input":{}}}
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"query"}}
data: {"type":"content_block_start","index":2,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","title":"Weather in New York","url":"https://example.com","encrypted_content":"Ev0DCioIAxgC"}]}}
data: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"Sunny"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":10682,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":510,"server_tool_use":{"web_search_requests":1}}}
data: {"type":"message_stop"}
"#,
        reported(10_682, 510),
        3,
    ),
    case(
        Kind::Habit,
        "an input of 0 at the end (compatible gateways)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":0}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":0,"output_tokens":4}}
"#,
        reported(25, 4),
        1,
    ),
    case(
        Kind::ToolCalls,
        "streamed, without usage",
        r#"
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_01T1x1fJ34qAmk2tNTrN7Up6","name":"get_weather","input":{}}}
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"location\":"}}
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" \"San"}}
data: {"type":"content_block_stop","index":1}
"#,
        counted(3),
        3,
    ),
    case(
        Kind::ToolCalls,
        "whole",
        r#"{"type":"message","role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{"city":"Rome"}}],"stop_reason":"tool_use","usage":{"input_tokens":472,"output_tokens":89}}"#,
        reported(472, 89),
        2,
    ),
    case(
        Kind::Reasoning,
        "streamed thinking, cut before its usage",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me think"}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"}}
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"27"}}
"#,
        reported(25, 4),
        4,
    ),
    case(
        Kind::Reasoning,
        "whole",
        r#"{"type":"message","role":"assistant","content":[{"type":"thinking","thinking":"Hm","signature":"WaUjzkypQ2mUEVM36O2TxuC06KN8xyfbJwyem2dw3URve"},{"type":"redacted_thinking","data":"EmwKAhgBEgy3va3pzix"},{"type":"text","text":"27"}],"usage":{"input_tokens":20,"output_tokens":400}}"#,
        reported(20, 400),
        2,
    ),
    case(
        Kind::Cached,
        "whole",
        r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"One"}],"usage":{"input_tokens":18,"cache_creation_input_tokens":0,"cache_read_input_tokens":8831,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":26}}"#,
        TokenUsage { cached_input: 8_831, ..reported(8_849, 26) },
        1,
    ),
    case(
        Kind::Cached,
        "streamed, the cache written",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":18,"cache_creation_input_tokens":500,"cache_read_input_tokens":0,"output_tokens":1}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}
"#,
        TokenUsage { cache_write: 500, ..reported(518, 2) },
        1,
    ),
    case(
        Kind::Refusal,
        "streamed",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}
data: {"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":5}}
data: {"type":"message_stop"}
"#,
        reported(25, 5),
        1,
    ),
    case(
        Kind::Error,
        "after one delta",
        r#"
event: message_start data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}
event: content_block_delta data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}
event: error data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}
"#,
        reported(25, 1),
        1,
    ),
    case(
        Kind::Error,
        "before any output",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}
data: {"type":"error","error":{"type":"api_error","message":"Internal server error"}}
"#,
        reported(25, 0),
        0,
    ),
    case(
        Kind::Habit,
        "a compaction and advice that the usage leaves out",
        r#"{"type":"message","role":"assistant","content":[{"type":"compaction","content":"In short"},{"type":"text","text":"One"}],"usage":{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500,"cache_read_input_tokens":400,"cache_creation_input_tokens":0},{"type":"message","input_tokens":23000,"output_tokens":1000},{"type":"advisor_message","model":"claude-opus-4-6","input_tokens":500,"output_tokens":60},{"type":"fallback_message","input_tokens":9,"output_tokens":9}]}}"#,
        TokenUsage { cached_input: 400, ..reported(203_900, 4_560) },
        3,
    ),
    case(
        Kind::Habit,
        "a compaction, cut before its usage",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}}
data: {"type":"content_block_start","index":0,"content_block":{"type":"compaction","content":null}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta","content":"In short"}}
"#,
        reported(25, 2),
        2,
    ),
    case(
        Kind::Habit,
        "the first text again in its delta, without usage (MiniMax)",
        r#"
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"One"}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" two"}}
"#,
        counted(2),
        2,
    ),
    case(
        Kind::Habit,
        "an input of 0 at the beginning alone (CometAPI)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":0,"output_tokens":0}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":12}}
"#,
        counted(12),
        1,
    ),
    case(
        Kind::Habit,
        "metrics of the platform next to the usage (Bedrock)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":12,"output_tokens":1}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":30}}
data: {"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":12,"outputTokenCount":30,"invocationLatency":751,"firstByteLatency":200}}
"#,
        reported(12, 30),
        1,
    ),
    case(
        Kind::Reasoning,
        "its tokens in the details",
        r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"27"}],"usage":{"input_tokens":20,"output_tokens":400,"output_tokens_details":{"thinking_tokens":390}}}"#,
        TokenUsage { reasoning: 390, ..reported(20, 400) },
        1,
    ),
    case(
        Kind::Cached,
        "only at the beginning, and the input again at the end (gateways)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":18,"cache_creation_input_tokens":0,"cache_read_input_tokens":8831,"output_tokens":1}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":18,"output_tokens":26}}
"#,
        TokenUsage { cached_input: 8_831, ..reported(8_849, 26) },
        1,
    ),
    case(
        Kind::Cached,
        "only at the beginning, and all of the input at the end (Hebo)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":3,"cache_creation_input_tokens":16813,"output_tokens":1}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":16816,"output_tokens":1}}
"#,
        TokenUsage { cache_write: 16_813, ..reported(16_816, 1) },
        1,
    ),
    case(
        Kind::Cached,
        "zeros at the end (Envoy AI Gateway)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":9,"cache_creation_input_tokens":2,"cache_read_input_tokens":5,"output_tokens":0}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":16}}
"#,
        TokenUsage { cached_input: 5, cache_write: 2, ..reported(16, 16) },
        1,
    ),
    case(
        Kind::Cached,
        "only at the end, without the input (DashScope)",
        r#"
data: {"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":3602,"output_tokens":0}}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"One"}}
data: {"type":"message_delta","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":3604,"prompt_tokens_details":{"cached_tokens":3604},"output_tokens":878}}
"#,
        TokenUsage { cached_input: 3_602, ..reported(3_602, 878) },
        1,
    ),
    case(
        Kind::Empty,
        "a message without content",
        r#"{"type":"message","role":"assistant","content":[],"stop_reason":"end_turn","usage":{"input_tokens":40,"output_tokens":0}}"#,
        reported(40, 0),
        0,
    ),
    case(
        Kind::Empty,
        "pings alone",
        r#"
event: ping data: {"type": "ping"}
event: ping data: {"type": "ping"}
"#,
        ESTIMATED,
        0,
    ),
];
