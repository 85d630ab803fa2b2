//! The table, read in every way.

use std::collections::BTreeMap;

use limiter::stream::{AnswerReader, Api, TokenSource};
use limiter::{Charge, TokenUsage};
use proptest::prelude::*;

use super::case::{Case, ESTIMATED, ESTIMATED_INPUT, ESTIMATED_OUTPUT, Kind, counted, reported};
use super::corpus;

fn estimate() -> Charge {
    Charge::request().with_tokens(ESTIMATED_INPUT, ESTIMATED_OUTPUT).unwrap()
}

/// Reads these pieces. Returns the tokens to charge, and those that were counted.
fn read<'p>(api: Api, pieces: impl IntoIterator<Item = &'p [u8]>) -> (TokenUsage, u64) {
    let mut reader = AnswerReader::new(api);
    let counted: u64 = pieces.into_iter().map(|piece| reader.read(piece)).sum();
    let counted = counted + reader.finish();
    (reader.usage(&estimate()), counted)
}

/// Prints the number of cases in the table (`--nocapture`).
#[test]
fn each_answer_has_its_right_figures() {
    let mut counts: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in corpus() {
        let bytes = case.bytes();
        let (usage, counted) = read(case.api, [&bytes[..]]);
        if (usage, counted) != (case.usage, case.counted) {
            wrong.push(format!(
                "{} {:?} {}: {usage}, {counted} counted",
                case.api, case.kind, case.name
            ));
        }
        *counts
            .entry(case.api.name())
            .or_default()
            .entry(format!("{:?}", case.kind))
            .or_default() += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    for (api, kinds) in &counts {
        println!("{api:<20} {:>3}  {kinds:?}", kinds.values().sum::<u32>());
    }
    let kinds = |api| counts.get(api).map_or(0, BTreeMap::len);
    assert_eq!([kinds("openai-chat"), kinds("openai-responses")], [9, 9]);
    assert!(kinds("anthropic-messages") >= 9 && kinds("gemini") >= 9, "{counts:?}");
}

#[test]
fn an_answer_is_read_alike_in_pieces_of_any_length_and_by_a_reader_of_any_api() {
    for case in corpus() {
        let bytes = case.bytes();
        for length in (1..40).chain([64, 100, 333, bytes.len().max(1)]) {
            let (usage, counted) = read(case.api, bytes.chunks(length));
            assert_eq!(
                (usage, counted),
                (case.usage, case.counted),
                "pieces of {length}: {case:?}"
            );
        }
        for cut in 0..bytes.len() {
            let (one, two) = bytes.split_at(cut);
            let (usage, counted) = read(case.api, [one, two]);
            assert_eq!((usage, counted), (case.usage, case.counted), "cut at {cut}: {case:?}");
        }
        if case.api.has_output() {
            let mut reader = AnswerReader::of_any_api();
            reader.read(&bytes);
            reader.finish();
            assert_eq!(reader.usage(&estimate()), case.usage, "{case:?}");
        }
    }
}

/// Windows' line ends, old ones, a byte order mark, several lines of data, comments: all are the same stream.
#[test]
fn an_event_stream_is_read_alike_in_every_form_of_the_standard() {
    for case in corpus().filter(|case| case.bytes().starts_with(b"data:")) {
        let text = String::from_utf8(case.bytes()).unwrap();
        let forms = [
            text.replace('\n', "\r\n"),
            text.replace('\n', "\r"),
            format!("\u{feff}{text}"),
            text.replace("data: ", "data:"),
            text.replace("\n\n", "\nid: 7\nretry: 10\n: comment\n\n"),
            text.replace("data: {", "data: {\ndata:"),
            text.replace("},\"", "},\ndata: \""),
            text.trim_end().to_owned(),
        ];
        for form in forms {
            let (usage, counted) = read(case.api, form.as_bytes().chunks(7));
            assert_eq!((usage, counted), (case.usage, case.counted), "{form:?}");
        }
    }
}

/// A client or a provider hangs up at any byte.
#[test]
fn an_answer_cut_at_any_byte_costs_what_was_reported_or_seen_and_never_more() {
    for case in corpus() {
        let bytes = case.bytes();
        let mut most = 0;
        for cut in 0..=bytes.len() {
            let mut reader = AnswerReader::new(case.api);
            let seen = reader.read(&bytes[..cut]) + reader.finish();
            let (usage, source) = reader.usage_and_source(&estimate());
            let context = format!("cut at {cut}: {case:?}");
            assert!(seen <= case.counted, "{context}");
            assert!(seen >= most, "{context}");
            most = seen;
            match source {
                TokenSource::Reported => {
                    assert!(usage.output <= case.usage.output.max(case.counted), "{context}");
                }
                TokenSource::Counted => assert_eq!(usage.output, seen, "{context}"),
                TokenSource::Estimated if case.api.has_output() => {
                    assert_eq!((usage.output, seen), (ESTIMATED_OUTPUT, 0), "{context}");
                }
                TokenSource::Estimated => assert_eq!(usage.output, 0, "{context}"),
            }
            assert!(seen == 0 || usage.output > 0, "{context}");
            assert!(
                [case.usage.input, ESTIMATED_INPUT].contains(&usage.input)
                    || case.kind == Kind::Habit,
                "{context}"
            );
        }
    }
}

#[test]
fn the_data_of_an_event_may_come_in_several_lines() {
    let answer = b"data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":50,\"completion_tokens\":70}}\n\n";
    assert_eq!(read(Api::OpenAiChat, [&answer[..]]).0, reported(50, 70));
}

#[test]
fn a_compressed_answer_keeps_its_estimate() {
    // gzip of `{"choices":[]}`.
    let answer = [
        0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03, 0xab, 0x56, 0x4a, 0xce, 0xc8, 0xcf, 0x4c, 0x4e,
        0x2d, 0x56, 0xb2, 0x8a, 0x8e, 0xad, 0x05, 0x00, 0x5c, 0x5b, 0x5d, 0x5e, 0x0e, 0, 0, 0,
    ];
    assert_eq!(read(Api::OpenAiChat, [&answer[..]]), (ESTIMATED, 0));
}

#[test]
fn after_an_event_too_large_to_be_read_the_estimate_stands_unless_the_usage_is_reported() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"One\"}}]}\n\n";
    let huge = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(9 << 20)
    );
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9}}\n\n";
    for length in [64 << 10, 9 << 20] {
        let stream = [text, &huge, text].concat();
        assert_eq!(read(Api::OpenAiChat, stream.as_bytes().chunks(length)), (ESTIMATED, 2));
        let stream = [text, &huge, text, usage].concat();
        assert_eq!(read(Api::OpenAiChat, stream.as_bytes().chunks(length)), (reported(5, 9), 2));
    }
    let body =
        format!("{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}]}}", "x".repeat(9 << 20));
    assert_eq!(read(Api::OpenAiChat, body.as_bytes().chunks(64 << 10)), (ESTIMATED, 0));
}

#[test]
fn more_seen_than_estimated_is_counted_also_where_some_was_not() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"One\"}}]}\n\n".repeat(3_000);
    let huge = format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(9 << 20));
    let stream = [&*text, &*huge].concat();
    assert_eq!(read(Api::OpenAiChat, stream.as_bytes().chunks(64 << 10)), (counted(3_000), 3_000));
}

#[test]
fn text_is_counted_by_a_tokenizer_of_yours() {
    let tokenizer: std::sync::Arc<dyn Fn(&str) -> u64 + Send + Sync> =
        std::sync::Arc::new(|text: &str| text.chars().count() as u64);
    let mut reader = AnswerReader::new(Api::OpenAiChat).counting_by(tokenizer);
    assert_eq!(
        reader.read(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\\u00e9\\n\"}}]}\n\n"),
        3
    );
}

proptest! {
    /// Answers of several providers, garbage between them, cut anywhere: the same count, and no panic.
    #[test]
    fn any_bytes_are_read_alike_in_any_pieces(
        parts in prop::collection::vec(
            prop_oneof![
                prop::sample::select(corpus().map(Case::bytes).collect::<Vec<_>>()),
                prop::collection::vec(any::<u8>(), 0..40),
                prop::collection::vec(prop::sample::select(b"data: {}[]\"\\:,\r\n0".to_vec()), 0..40),
            ],
            0..4,
        ),
        cuts in prop::collection::vec(1_usize..90, 1..20),
        api in prop::sample::select(Api::ALL.to_vec()),
    ) {
        let text = parts.concat();
        let whole = read(api, [&text[..]]);
        let mut pieces = Vec::new();
        let mut rest = &text[..];
        for length in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, following) = rest.split_at(rest.len().min(*length));
            pieces.push(piece);
            rest = following;
        }
        prop_assert_eq!(read(api, pieces), whole);
    }
}

#[test]
fn text_deltas_take_no_allocation() {
    let deltas = [
        (
            Api::OpenAiChat,
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" chance\\n\\u00e9\"}}],\"usage\":null}\n\n",
        ),
        (
            Api::AnthropicMessages,
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\\n\"}}\n\n",
        ),
        (
            Api::OpenAiResponses,
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\\t\"}\n\n",
        ),
        (
            Api::Gemini,
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\\n\"}]}}]}\r\n\r\n",
        ),
    ];
    for (api, delta) in deltas {
        for pieces in [1, 2, delta.len()] {
            let pieces: Vec<_> = delta.as_bytes().chunks(delta.len().div_ceil(pieces)).collect();
            let mut reader = AnswerReader::new(api);
            // The buffers grow to the size of an event once.
            for piece in &pieces {
                reader.read(piece);
            }
            let allocations = allocation_counter::measure(|| {
                for piece in pieces.iter().cycle().take(1_000 * pieces.len()) {
                    reader.read(piece);
                }
            });
            assert_eq!(allocations.count_total, 0, "{api}, {} pieces a delta", pieces.len());
            assert!(reader.usage(&estimate()).output >= 1_001);
        }
    }
}
