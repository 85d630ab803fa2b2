//! Properties of the readers of answers: events and JSON values, from pieces that are cut anywhere.

use limiter::__private::fuzzing::{Seen, events, values};
use proptest::prelude::*;
use serde_json::Value;

proptest! {
    #[test]
    fn any_bytes_have_the_events_of_the_standard_wherever_they_are_cut(
        text in streams(),
        lengths in prop::collection::vec(0_usize..12, 0..60),
        max_bytes in prop_oneof![Just(8_usize), Just(1_000)],
    ) {
        let expected = events_by_the_standard(&text, max_bytes);
        prop_assert_eq!(&events(max_bytes, &pieces(&text, &lengths)), &expected);
        prop_assert_eq!(events(max_bytes, &[&text]), expected);
    }

    #[test]
    fn any_bytes_have_the_same_values_wherever_they_are_cut(
        text in bodies(),
        lengths in prop::collection::vec(0_usize..12, 0..60),
        max_bytes in prop_oneof![Just(8_usize), Just(1_000)],
    ) {
        let seen = values(max_bytes, &pieces(&text, &lengths));
        prop_assert_eq!(seen, values(max_bytes, &[&text]));
    }

    #[test]
    fn json_has_the_values_that_a_parser_finds(
        elements in prop::collection::vec(json(), 0..5),
        lengths in prop::collection::vec(0_usize..12, 0..60),
        is_pretty in any::<bool>(),
        is_array in any::<bool>(),
    ) {
        let write = if is_pretty { serde_json::to_string_pretty } else { serde_json::to_string };
        let lines = || elements.iter().map(|value| write(value).unwrap());
        let text = match is_array {
            true => write(&Value::from(elements.clone())).unwrap(),
            // An array at the start would be the outer one.
            false => format!("0\n{}", lines().collect::<Vec<_>>().join("\n")),
        };
        let first = if is_array { None } else { Some(Value::from(0)) };
        let expected: Vec<Value> = first.into_iter().chain(elements).collect();
        let seen = values(LARGE, &pieces(text.as_bytes(), &lengths));
        prop_assert!(seen.iter().all(|(kind, _)| *kind == "whole"), "{:?}", seen);
        let read = seen.iter().map(|(_, bytes)| serde_json::from_slice(bytes).unwrap());
        prop_assert_eq!(read.collect::<Vec<Value>>(), expected);
    }
}

/// Reads the events of a whole text, following the standard word for word.
fn events_by_the_standard(text: &[u8], max_bytes: usize) -> Vec<Seen> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(end) = rest.iter().position(|byte| b"\r\n".contains(byte)) {
        lines.push(&rest[..end]);
        rest = &rest[end + if rest[end..].starts_with(b"\r\n") { 2 } else { 1 }..];
    }
    // Unlike in the standard, the end of the stream dispatches the event.
    lines.extend([rest, b""]);
    let (mut data, mut seen) = (Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        if line.is_empty() && !data.is_empty() {
            data.pop();
            let data = std::mem::take(&mut data);
            seen.push(if data.len() <= max_bytes {
                ("whole", data)
            } else {
                ("too large", Vec::new())
            });
        } else if name == b"data" {
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            data.push(b'\n');
        }
    }
    seen
}

/// Generates texts that resemble streams, and any bytes.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(&b"data: "[..]), 1 => Just(&b"data"[..]), 1 => Just(&b"data:"[..]),
        4 => Just(&b"\n"[..]), 2 => Just(&b"\r"[..]), 2 => Just(&b"\r\n"[..]), 3 => Just(&b"\n\n"[..]),
        1 => Just(&b": "[..]), 1 => Just(&b"event: x"[..]), 1 => Just(&b"\xEF\xBB\xBF"[..]),
        1 => Just(&b"\xEF\xBB"[..]), 3 => Just(&b"{\"a\":1}"[..]), 1 => Just(&b" "[..]), 1 => Just(&b"a"[..]),
    ];
    let tokens = prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat());
    prop_oneof![3 => tokens, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Generates texts that resemble JSON, and any bytes.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\"a\"",
        "\\",
        "\\\"",
        ",",
        ":",
        "1",
        "null",
        " ",
        "\n",
        "{}",
        "{\"a\":[1]}",
        "\u{FEFF}",
        "\u{e9}",
    ]);
    let tokens = prop::collection::vec(token, 0..40);
    let tokens = tokens.prop_map(|tokens| tokens.concat().into_bytes());
    prop_oneof![3 => tokens, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        "[a\"\\\\\\[\\]{}\n\u{e9}]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a\"}]{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The pieces of a text that is cut after each of these lengths.
fn pieces<'a>(text: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    for length in lengths {
        let (piece, following) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = following;
    }
    pieces.push(rest);
    pieces
}

/// More than any generated value has.
const LARGE: usize = 8 * 1_024 * 1_024;
