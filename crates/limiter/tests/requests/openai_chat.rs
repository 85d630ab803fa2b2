//! OpenAI's chat completions. Source: <https://platform.openai.com/docs/api-reference/chat/create>.

use limiter::stream::Api::OpenAiChat;

use super::case::{Case, case};

/// A message takes 4 tokens in addition to its text, the answer 3.
pub(crate) const CASES: &[Case] = &[
    case(OpenAiChat, "empty", "{}", 0, 1_000),
    case(
        OpenAiChat,
        "plain",
        r#"{"model":"gpt-5","messages":[{"role":"user","content":"Hello!"}]}"#,
        2 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "rounded up once",
        r#"{"model":"gpt-5","messages":[
            {"role":"developer","content":"You are a helpful assistant."},
            {"role":"user","content":"Hello!"}]}"#,
        9 + 8 + 3,
        1_000,
    ),
    case(OpenAiChat, "both maxima", r#"{"max_tokens":1,"max_completion_tokens":900}"#, 0, 900),
    case(OpenAiChat, "both maxima", r#"{"max_completion_tokens":1,"max_tokens":900}"#, 0, 900),
    case(OpenAiChat, "answers", r#"{"n":10,"max_tokens":90}"#, 0, 900),
    case(OpenAiChat, "answers without a maximum", r#"{"n":3}"#, 0, 3_000),
    case(OpenAiChat, "answers as floats", r#"{"n":2.0,"max_tokens":90}"#, 0, 180),
    case(OpenAiChat, "no answers", r#"{"n":0,"max_tokens":90}"#, 0, 90),
    case(OpenAiChat, "no answers", r#"{"n":null,"max_tokens":90}"#, 0, 90),
    case(OpenAiChat, "float", r#"{"max_tokens":25.0}"#, 0, 25),
    case(OpenAiChat, "float", r#"{"max_tokens":2.5e1}"#, 0, 25),
    case(OpenAiChat, "fraction", r#"{"max_tokens":25.5}"#, 0, 26),
    case(OpenAiChat, "in a string", r#"{"max_tokens":"25"}"#, 0, 25),
    case(OpenAiChat, "null", r#"{"max_tokens":null}"#, 0, 1_000),
    case(OpenAiChat, "null and set", r#"{"max_tokens":null,"max_completion_tokens":7}"#, 0, 7),
    // llama.cpp treats -1 as no bound, and gateways written in Go drop a 0.
    case(OpenAiChat, "negative", r#"{"max_tokens":-1}"#, 0, 1_000),
    case(OpenAiChat, "zero", r#"{"max_tokens":0}"#, 0, 1_000),
    case(OpenAiChat, "no number", r#"{"max_tokens":{"max_tokens":5}}"#, 0, 1_000),
    case(OpenAiChat, "absurd", r#"{"max_tokens":1e300}"#, 0, 1_000_000_000),
    case(OpenAiChat, "absurd", r#"{"max_tokens":99999999999999999999}"#, 0, 1_000_000_000),
    case(OpenAiChat, "absurd", r#"{"max_tokens":1e999}"#, 0, 1_000_000_000),
    case(OpenAiChat, "all absurd", r#"{"max_tokens":1e300,"n":1e300}"#, 0, limiter::MAX_COUNT),
    case(OpenAiChat, "escaped name", r#"{"max_\u0074okens":90}"#, 0, 90),
    case(OpenAiChat, "of a compatible server", r#"{"max_tokens":9,"n_predict":90}"#, 0, 90),
    case(OpenAiChat, "of a compatible server", r#"{"max_new_tokens":90}"#, 0, 90),
    case(
        OpenAiChat,
        "a name within the prompt",
        r#"{"max_tokens":9,"metadata":{"max_tokens":90},"messages":[]}"#,
        0,
        9,
    ),
    case(
        OpenAiChat,
        "escapes count as their characters",
        r#"{"messages":[{"content":"\u00e9\u4f60\ud83d\ude00\n\"\\"}]}"#,
        3 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "parts",
        r#"{"messages":[{"role":"user","content":[
            {"type":"text","text":"12345678"},{"type":"text","text":"1234"}]}]}"#,
        3 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "tools and their schemas",
        r#"{"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"messages":[]}"#,
        16,
        1_000,
    ),
    case(
        OpenAiChat,
        "structured output",
        r#"{"response_format":{"type":"json_object"},"messages":[]}"#,
        6,
        1_000,
    ),
    // get_weather and {"city":"Rome"} have 11 and 15 bytes.
    case(
        OpenAiChat,
        "a tool call and its result",
        r#"{"messages":[
            {"role":"assistant","content":null,"tool_calls":[{"id":"call_abc","type":"function",
                "function":{"name":"get_weather","arguments":"{\"city\":\"Rome\"}"}}]},
            {"role":"tool","tool_call_id":"call_abc","content":"22 degrees"}]}"#,
        9 + 8 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "what is not known is text",
        r#"{"messages":[{"role":"user","name":"jo","content":[{"type":"x","y":{"z":["123456"]}}]}]}"#,
        2 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "a picture by its address",
        r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}]}"#,
        3_000 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "a picture in low detail",
        r#"{"messages":[{"content":[{"type":"image_url",
            "image_url":{"url":"https://example.com/a.png","detail":"low"}}]}]}"#,
        308 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "a picture in base64",
        r#"{"messages":[{"content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":
            {"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"}}]}]}"#,
        1 + 2 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "a picture in base64 with escaped slashes",
        r#"{"messages":[{"content":[{"type":"image_url","image_url":
            "data:image\/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ\/pLvAAAAAElFTkSuQmCC"}]}]}"#,
        2 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "a picture in a place that is not known",
        r#"{"messages":[{"content":[{"picture":
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"}]}]}"#,
        2 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "a file that was uploaded",
        r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file-abc"}}]}]}"#,
        30_000 + 4 + 3,
        1_000,
    ),
    case(
        OpenAiChat,
        "a video at an address",
        r#"{"messages":[{"content":[{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}]}]}"#,
        60 * 263 + 4 + 3,
        1_000,
    ),
];
