//! Answers that no provider should send.

use limiter::stream::{AnswerReader, Api};
use limiter::{Charge, TokenUsage};

use super::case::{ESTIMATED, ESTIMATED_INPUT, ESTIMATED_OUTPUT, counted, reported};

fn read(api: Api, answer: &str) -> TokenUsage {
    let mut reader = AnswerReader::new(api);
    reader.read(answer.as_bytes());
    reader.finish();
    reader.usage(&Charge::request().with_tokens(ESTIMATED_INPUT, ESTIMATED_OUTPUT).unwrap())
}

#[test]
fn each_is_charged_what_was_reported_or_seen() {
    for (what, answer, usage) in [
        ("no error: false", r#"{"error":false,"result":"One two"}"#, ESTIMATED),
        ("no error: {}", r#"{"error":{ },"result":"One two"}"#, ESTIMATED),
        ("no error: a number", r#"{"error":0,"result":"One two"}"#, ESTIMATED),
        (
            "NaN before the text",
            "data: {\"choices\":[{\"logprobs\":NaN,\"delta\":{\"content\":\"One two\"}}]}\n\n",
            counted(1),
        ),
        (
            "NaN after the text",
            "data: {\"choices\":[{\"delta\":{\"content\":\"One two\"},\"logprobs\":-Infinity}]}\n\n",
            counted(2),
        ),
        (
            "NaN, numbers in strings, and numbers that no computer has",
            r#"{"choices":[{"message":{"content":"One two"}}],"usage":{"prompt_tokens":"5","completion_tokens":1e999}}"#,
            counted(2),
        ),
        (
            "names with escapes",
            r#"{"choices":[{"m\u0065ssage":{"content":"One"}}],"\u0075sage":{"prompt_t\u006fkens":5,"completion_tokens":9}}"#,
            reported(5, 9),
        ),
        (
            "the usage twice",
            r#"{"usage":{"prompt_tokens":5,"completion_tokens":9},"choices":[],"usage":null}"#,
            reported(5, 9),
        ),
        (
            "more after the end",
            "data: {\"choices\":[{\"delta\":{\"content\":\"One\"}}]}\n\ndata: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\" two\"}}]}\n\n",
            counted(2),
        ),
        (
            "two bodies",
            r#"{"choices":[{"message":{"content":"One"}}]}{"choices":[{"message":{"content":"two"}}]}"#,
            counted(2),
        ),
        (
            "a line for each chunk",
            "{\"choices\":[{\"delta\":{\"content\":\"One\"}}]}\n{\"choices\":[{\"delta\":{\"content\":\" two\"}}]}\n",
            counted(2),
        ),
        (
            "an array of chunks",
            r#"[{"choices":[{"delta":{"content":"One"}}]},{"choices":[{"delta":{"content":" two"}}]}]"#,
            counted(2),
        ),
        ("events without data", "event: message\n\nevent: done\n\n", ESTIMATED),
        (
            "a delta that is a text",
            "data: {\"choices\":[{\"delta\":\"One\"},{\"delta\":\"two\"}]}\n\n",
            counted(2),
        ),
        (
            "sound in base64",
            r#"{"choices":[{"message":{"audio":{"data":"UklGRiQAAABXQVZFZm10IBAAAAABAAEA","transcript":"One two"}}}]}"#,
            counted(2),
        ),
        (
            "an output of 0 after a larger one",
            "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9}}\n\ndata: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":0}}\n\n",
            reported(5, 9),
        ),
        (
            "arguments that are empty",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{ }}}],\"extra\":[ ]}}]}\n\n",
            counted(1),
        ),
    ] {
        assert_eq!(read(Api::OpenAiChat, answer), usage, "{what}");
    }
}

#[test]
fn an_embedding_of_no_tokens_keeps_its_estimate() {
    let answer = r#"{"data":[],"usage":{"prompt_tokens":0,"total_tokens":0}}"#;
    assert_eq!(read(Api::OpenAiEmbeddings, answer), reported(ESTIMATED_INPUT, 0));
}

/// The usage that was reported before the large event does not cover it.
#[test]
fn after_a_usage_an_event_too_large_to_be_read_keeps_the_estimate() {
    let usage = "data: {\"choices\":[{\"delta\":{\"content\":\"One\"}}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n";
    let huge = format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(9 << 20));
    let stream = [usage, &huge].concat();
    assert_eq!(read(Api::OpenAiChat, &stream), reported(5, ESTIMATED_OUTPUT));
    let zero = "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":0}}\n\n";
    let stream = [&huge, zero].concat();
    assert_eq!(read(Api::OpenAiChat, &stream), reported(5, ESTIMATED_OUTPUT));
    let stream = [usage, &huge, usage].concat();
    assert_eq!(read(Api::OpenAiChat, &stream), reported(5, 1));
}

#[test]
fn what_is_nested_too_deep_is_passed_over() {
    let arrays = format!("{}\"x\"{}", "[".repeat(20_000), "]".repeat(20_000));
    let steps = format!("{}{}", r#"[{"type":"compaction","iterations":"#.repeat(5_000), "}]");
    for answer in [
        format!("{{\"choices\":[{{\"delta\":{{\"content\":{arrays}}}}}]}}"),
        format!("{{\"delta\":{arrays}}}"),
        format!("{{\"candidates\":{arrays}}}"),
        format!("{{\"usage\":{{\"iterations\":{arrays}}}}}"),
        format!("{{\"usage\":{{\"iterations\":{steps}}}}}"),
        arrays,
    ] {
        let _ = read(Api::OpenAiChat, &answer);
    }
}
