//! JSON values, from pieces that are cut anywhere.

use memchr::memchr2;

use super::part::{Divide, Part, PartBuffer};

/// A scanner that finds the values of a JSON text that is cut anywhere, and hands over the bytes of each.
///
/// The text is a sequence of values: a whole body is one, and newline-delimited JSON is many. If the text begins with `[`,
/// as Gemini's `streamGenerateContent` does without `alt=sse`, the elements of that array are handed over instead, each as
/// it ends. It only tracks nesting, strings and escapes. It does not check the JSON: a parser refuses a malformed value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    place: Place,
    outer: Outer,
}

/// The place of the next byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    BetweenValues,
    /// In a value that is a number, `true`, `false`, `null` or garbage.
    Word,
    /// In this many objects and arrays of the value.
    Nested { depth: u64 },
    /// In a string within this many objects and arrays. The value may be a string itself.
    String { depth: u64 },
    /// After a backslash in such a string.
    Escape { depth: u64 },
}

/// The array around all values, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outer {
    /// Not known yet: so far only white space came.
    #[default]
    Unknown,
    Open,
    /// There is none, or it has ended.
    Absent,
}

impl Divide for Values {
    fn read(&mut self, piece: &[u8], begun: &mut PartBuffer, each: &mut impl FnMut(Part<'_>)) {
        // Where the value begins in this piece: at its start, if it began before.
        let (mut start, mut at) = (0, 0);
        while at < piece.len() {
            let rest = &piece[at..];
            let (read, place) = match self.place {
                Place::BetweenValues => {
                    start = at;
                    (1, self.place_after(rest[0]))
                }
                Place::Word => match rest.iter().position(|byte| ends_word(*byte)) {
                    Some(end) => (end, Place::BetweenValues),
                    None => (rest.len(), Place::Word),
                },
                Place::Nested { depth } => read_nested(rest, depth),
                Place::String { depth } => read_string(rest, depth),
                Place::Escape { depth } => (1, Place::String { depth }),
            };
            let has_begun = self.place != Place::BetweenValues;
            (at, self.place) = (at + read, place);
            if has_begun && place == Place::BetweenValues {
                hand_over(&piece[start..at], begun, each);
            }
        }
        if self.place != Place::BetweenValues {
            begun.add(&piece[start..]);
        }
    }

    /// The end completes a word, and cuts any other value.
    fn end(&mut self, begun: &mut PartBuffer, each: &mut impl FnMut(Part<'_>)) {
        begun.end(self.place == Place::Word && self.outer != Outer::Open, each);
    }
}

impl Values {
    /// Returns the place after this byte, which is between two values.
    fn place_after(&mut self, byte: u8) -> Place {
        let is_white_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let is_first = self.outer == Outer::Unknown && !is_white_space;
        if is_first {
            self.outer = if byte == b'[' { Outer::Open } else { Outer::Absent };
        }
        match byte {
            b'[' if is_first => Place::BetweenValues,
            b']' => {
                self.outer = Outer::Absent;
                Place::BetweenValues
            }
            b',' | b':' | b'}' => Place::BetweenValues,
            _ if is_white_space => Place::BetweenValues,
            b'{' | b'[' => Place::Nested { depth: 1 },
            b'"' => Place::String { depth: 0 },
            _ => Place::Word,
        }
    }
}

fn hand_over(last: &[u8], begun: &mut PartBuffer, each: &mut impl FnMut(Part<'_>)) {
    if begun.has_begun() {
        begun.add(last);
        begun.end(true, each);
    } else {
        each(begun.whole(last));
    }
}

/// Reads on within this many objects and arrays. Returns the number of bytes read, and the place of the next one.
fn read_nested(text: &[u8], depth: u64) -> (usize, Place) {
    let Some(found) = text.iter().position(|byte| b"{}[]\"".contains(byte)) else {
        return (text.len(), Place::Nested { depth });
    };
    let place = match text[found] {
        b'"' => Place::String { depth },
        b'{' | b'[' => Place::Nested { depth: depth + 1 },
        _ => depth_left(depth - 1),
    };
    (found + 1, place)
}

/// Reads on in a string; otherwise like [`read_nested`].
fn read_string(text: &[u8], depth: u64) -> (usize, Place) {
    let Some(found) = memchr2(b'"', b'\\', text) else {
        return (text.len(), Place::String { depth });
    };
    let place = if text[found] == b'"' { depth_left(depth) } else { Place::Escape { depth } };
    (found + 1, place)
}

/// Returns the place after a string or a bracket that leaves this many objects and arrays open.
const fn depth_left(depth: u64) -> Place {
    if depth == 0 { Place::BetweenValues } else { Place::Nested { depth } }
}

const fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']')
}

#[cfg(test)]
mod tests {
    use super::super::fuzzing::{Seen, assert_parts, cut, too_large, uncopied, values, whole};
    use super::super::part::Parts;
    use super::*;

    fn assert_values(text: &[u8], expected: &[Seen]) {
        assert_parts(values, 1_000, text, expected);
    }

    #[test]
    fn a_sequence_has_its_values_and_an_array_its_elements() {
        let (a, b) = (r#"{"a":[1,{"b":"}]"}]}"#, r#"{"b":"[{"}"#);
        let both = [whole(a), whole(b)];
        for text in [
            format!("{a}{b}"),
            format!("{a}\n{b}\n"),
            format!("\u{FEFF} \t\r\n{a}\r\n\r\n{b}"),
            format!("[{a},{b}]"),
            format!("\u{FEFF}\r\n[ {a}\n,\r\n{b}\n]\n"),
            format!("[{a}]{b}"),
        ] {
            assert_values(text.as_bytes(), &both);
        }
        // An array is the outer one only at the start.
        assert_values(b"{}[1,2]", &[whole("{}"), whole("[1,2]")]);
        assert_values(b"[[1,[2]],[]] [3]", &[whole("[1,[2]]"), whole("[]"), whole("[3]")]);
        assert_values(b"[]", &[]);
        assert_values(b" \n", &[]);
        assert_values(b"", &[]);
    }

    #[test]
    fn strings_and_escapes_hide_brackets() {
        for text in [r#"{"a\"}":"\\"}"#, r#"{"\\\"{":"]"}"#, r#""a\"b""#, r#""\\""#, r#"["\"]"]"#] {
            assert_values(
                format!("{{}}{text}{text}").as_bytes(),
                &[whole("{}"), whole(text), whole(text)],
            );
        }
    }

    #[test]
    fn words_are_values() {
        assert_values(b"1 -2.5e3\nnull", &["1", "-2.5e3", "null"].map(whole));
        assert_values(b"[1,true,\"a\",{}]", &["1", "true", "\"a\"", "{}"].map(whole));
        assert_values(b"false{}1[]x\"y\"", &["false", "{}", "1", "[]", "x", "\"y\""].map(whole));
    }

    #[test]
    fn a_value_that_does_not_end_is_cut() {
        let (a, b) = (r#"{"a":1}"#, r#"{"b":["c"#);
        assert_values(format!("{a}{b}").as_bytes(), &[whole(a), cut(b)]);
        assert_values(format!("[{a},{b}").as_bytes(), &[whole(a), cut(b)]);
        assert_values(b"[1,2", &[whole("1"), cut("2")]);
        assert_values(b"[1,2,", &[whole("1"), whole("2")]);
        assert_values(b"\"a", &[cut("\"a")]);
        assert_values(b"{\"a\\", &[cut("{\"a\\")]);
        assert_values(b"{", &[cut("{")]);
    }

    #[test]
    fn garbage_does_no_harm() {
        assert_values(b"Bad Gateway: no", &["Bad", "Gateway", "no"].map(whole));
        assert_values(b"}]}:,{}", &[whole("{}")]);
        assert_values(b"][1]", &[whole("[1]")]);
        assert_values(b"{]{}", &[whole("{]"), whole("{}")]);
        assert_values(b"[}{}", &[whole("{}")]);
        assert_values(b"\xEF\xBB{}", &[whole(b"\xEF\xBB"), whole("{}")]);
        assert_values(b"\xFF{\xFE}", &[whole(b"\xFF"), whole(b"{\xFE}")]);
    }

    #[test]
    fn a_value_that_is_too_large_is_reported_once_and_the_next_one_read() {
        let [fits, over] = [98, 99].map(|size| format!("\"{}\"", "x".repeat(size)));
        let nested = format!("{{\"a\":[{over},{over}]}}");
        for large in [&over, &nested, &"x".repeat(101)] {
            for text in [format!("[{fits},{large},{{}}]"), format!("{{}}{fits}{large}\n{{}}")] {
                let mut expected = vec![whole(&fits), too_large(), whole("{}")];
                if text.starts_with('{') {
                    expected.insert(0, whole("{}"));
                }
                assert_parts(values, 100, text.as_bytes(), &expected);
            }
        }
        let unfinished = &nested.as_bytes()[..150];
        assert_parts(values, 100, unfinished, &[too_large()]);
    }

    #[test]
    fn a_value_in_one_piece_is_handed_over_without_a_copy() {
        let text = br#" [{"a":[1]} , "b", 3, {"c":"#;
        assert_eq!(uncopied(&mut Parts::<Values>::default(), text), 3);
    }
}
