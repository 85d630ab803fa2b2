//! Anthropic's messages. Source: <https://docs.claude.com/en/api/messages>.

use limiter::stream::Api::AnthropicMessages;

use super::case::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case(
        AnthropicMessages,
        "plain",
        r#"{"model":"claude-sonnet-5","max_tokens":1024,"messages":[{"role":"user","content":"Hello, Claude"}]}"#,
        4 + 4 + 3,
        1_024,
    ),
    case(AnthropicMessages, "no number of answers", r#"{"max_tokens":10,"n":5}"#, 0, 10),
    case(
        AnthropicMessages,
        "a budget of thinking is a part of the maximum",
        r#"{"max_tokens":16000,"thinking":{"type":"enabled","budget_tokens":10000}}"#,
        0,
        16_000,
    ),
    case(AnthropicMessages, "system", r#"{"max_tokens":1,"system":"12345"}"#, 2, 1),
    case(
        AnthropicMessages,
        "system in blocks",
        r#"{"max_tokens":1,"system":[{"type":"text","text":"1234","cache_control":{"type":"ephemeral"}}]}"#,
        1,
        1,
    ),
    case(
        AnthropicMessages,
        "tools",
        r#"{"max_tokens":1,"tools":[{"name":"f","input_schema":{"type":"object"}}]}"#,
        12,
        1,
    ),
    // {"city":"Rome"} has 15 bytes.
    case(
        AnthropicMessages,
        "a tool call and its result",
        r#"{"max_tokens":1,"messages":[
            {"role":"assistant","content":[
                {"type":"thinking","thinking":"12345678","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
                {"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Rome"}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1",
                "content":[{"type":"text","text":"22 degrees"}]}]}]}"#,
        10 + 8 + 3,
        1,
    ),
    case(
        AnthropicMessages,
        "a picture in base64",
        r#"{"max_tokens":1,"messages":[{"content":[{"type":"image","source":{"type":"base64",
            "media_type":"image/png","data":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"}}]}]}"#,
        1 + 4 + 3,
        1,
    ),
    case(
        AnthropicMessages,
        "a picture in the result of a tool",
        r#"{"max_tokens":1,"messages":[{"content":[{"type":"tool_result","content":[
            {"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]}]}]}"#,
        4_784 + 4 + 3,
        1,
    ),
    case(
        AnthropicMessages,
        "a document at an address",
        r#"{"max_tokens":1,"messages":[{"content":[
            {"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}]}]}"#,
        30_000 + 4 + 3,
        1,
    ),
    case(
        AnthropicMessages,
        "a document of plain text",
        r#"{"max_tokens":1,"messages":[{"content":[{"type":"document","title":"1234",
            "source":{"type":"text","media_type":"text/plain","data":"1234\n678"}}]}]}"#,
        3 + 4 + 3,
        1,
    ),
];
