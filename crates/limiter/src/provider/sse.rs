//! Server-sent events by the HTML standard, from pieces that are cut anywhere.

use memchr::memchr2;

use super::part::{Divide, Part, PartBuffer};

/// A parser that assembles the events of a stream from pieces that are cut anywhere, and hands over the data of each.
///
/// It follows the [HTML standard], §9.2.5 "Parsing an event stream" and §9.2.6 "Interpreting an event stream". Fields other than
/// `data` are ignored: every known provider repeats the type of the event in its data. One thing differs. The standard
/// discards an event at the end of the stream that no blank line follows. Here it is handed over, because the
/// provider has generated its tokens and the client may have read them: they must be counted.
///
/// [HTML standard]: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    line: Line,
    /// Whether the last byte was a carriage return. A line feed now belongs to the same line end. As a blank line
    /// it would dispatch an event early.
    after_cr: bool,
}

/// The part of a line that was read.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// This many bytes, all of which fit the name `data`.
    Name(usize),
    /// `data:`, whose value may begin with one space that does not count.
    Colon,
    /// A part of the value of `data`.
    Value,
    /// A comment or another field.
    Ignored,
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}

impl Divide for Events {
    fn read(&mut self, piece: &[u8], data: &mut PartBuffer, each: &mut impl FnMut(Part<'_>)) {
        let mut rest = piece;
        while let Some(first) = rest.first() {
            if self.after_cr {
                self.after_cr = false;
                if *first == b'\n' {
                    rest = &rest[1..];
                    continue;
                }
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else { return self.read_line(rest, data) };
            let (line, following) = rest.split_at(end);
            if let Some((event, following)) = self.whole_event(line, following, data) {
                each(data.whole(event));
                rest = following;
            } else {
                self.read_line(line, data);
                self.end_line(data, each);
                self.after_cr = following[0] == b'\r';
                rest = &following[1..];
            }
        }
    }

    fn end(&mut self, data: &mut PartBuffer, each: &mut impl FnMut(Part<'_>)) {
        if !matches!(self.line, Line::Name(0)) {
            self.end_line(data, each);
        }
        data.end(true, each);
    }
}

impl Events {
    /// Returns the data of an event that needs no buffer, and the bytes after the event. Most events need none, because
    /// their line of data and the blank line are in the same piece.
    fn whole_event<'a>(
        &self,
        line: &'a [u8],
        following: &'a [u8],
        data: &PartBuffer,
    ) -> Option<(&'a [u8], &'a [u8])> {
        if data.has_begun() || !matches!(self.line, Line::Name(0)) {
            return None;
        }
        let value = line.strip_prefix(b"data:")?;
        let blank_line = [&b"\n\n"[..], b"\r\n\r\n"];
        let following = blank_line.iter().find_map(|end| following.strip_prefix(*end))?;
        Some((value.strip_prefix(b" ").unwrap_or(value), following))
    }

    /// Reads a part of a line.
    fn read_line(&mut self, part: &[u8], data: &mut PartBuffer) {
        let mut part = part;
        while let Some((byte, rest)) = part.split_first() {
            match self.line {
                Line::Name(length) if NAME.get(length) == Some(byte) => {
                    self.line = Line::Name(length + 1);
                    part = rest;
                }
                Line::Name(length) if length == NAME.len() && *byte == b':' => {
                    begin_data(data);
                    self.line = Line::Colon;
                    part = rest;
                }
                Line::Name(_) => self.line = Line::Ignored,
                Line::Colon => {
                    self.line = Line::Value;
                    part = part.strip_prefix(b" ").unwrap_or(part);
                }
                Line::Value => return data.add(part),
                Line::Ignored => return,
            }
        }
    }

    fn end_line(&mut self, data: &mut PartBuffer, each: &mut impl FnMut(Part<'_>)) {
        match self.line {
            Line::Name(0) => data.end(true, each),
            // The name alone is a field with an empty value.
            Line::Name(length) if length == NAME.len() => begin_data(data),
            Line::Name(_) | Line::Colon | Line::Value | Line::Ignored => {}
        }
        self.line = Line::default();
    }
}

/// Begins a line of data, after those that the event has.
fn begin_data(data: &mut PartBuffer) {
    data.add(if data.has_begun() { b"\n" } else { b"" });
}

const NAME: &[u8] = b"data";

#[cfg(test)]
mod tests {
    use super::super::fuzzing::{assert_parts, events, too_large, uncopied, whole};
    use super::super::part::Parts;
    use super::*;

    #[test]
    fn events_are_read_as_the_standard_says() {
        let cases: &[(&[u8], &[&str])] = &[
            (b"", &[]),
            (b"data: a\n\ndata: b\n\n", &["a", "b"]),
            // Line ends of each kind, mixed too.
            (b"data: a\r\n\r\ndata: b\r\rdata: c\n\r\n\rdata: d\r\n\n", &["a", "b", "c", "d"]),
            // A carriage return and a line feed are one line end: the event has both lines.
            (b"data: a\r\ndata: b\r\n\r\n", &["a\nb"]),
            (b"data: a\rdata: b\ndata: c\r\n\n", &["a\nb\nc"]),
            // The two examples of the standard for joined lines and empty data.
            (b"data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
            (b"data\n\ndata\ndata\n\ndata:", &["", "\n", ""]),
            // One space after the colon does not count; another one does, and other white space.
            (b"data:a\n\ndata: b\n\ndata:  c\n\ndata:\td\n\n", &["a", "b", " c", "\td"]),
            (b"data:\n\ndata: \n\ndata:\ndata:\n\n", &["", "", "\n"]),
            // Comments and other fields.
            (b": keep-alive\n\nevent: ping\nid: 7\nretry: 1\n\n:\n\n", &[]),
            (b"event: m\ndata: a\nid: 1\n\n", &["a"]),
            (b"data: a\n: comment\nevent: x\ndata: b\n\n", &["a\nb"]),
            (b"data : a\n\n data: a\n\nDATA: a\n\ndatas: a\n\ndat: a\n\ndat\n\ndataa\n\n", &[]),
            (b"\n\n\r\n\rdata: a:b: c\n\n\n\n", &["a:b: c"]),
            // A byte order mark counts as nothing, and only at the start, once.
            (b"\xEF\xBB\xBFdata: a\n\n", &["a"]),
            (b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n", &["b"]),
            (b"\xEF\xBBdata: a\n\ndata: b\n\n", &["b"]),
            (b"\xEFdata: a\n\ndata: b\n\n", &["b"]),
            (b"data: a\n\n\xEF\xBB\xBFdata: b\n\n", &["a"]),
            ("data: \u{FEFF}a\n\n".as_bytes(), &["\u{FEFF}a"]),
            // The stream ends without a blank line, or within a line.
            (b"data: a\n\ndata: b\n", &["a", "b"]),
            (b"data: a\n\ndata: b", &["a", "b"]),
            (b"data: a\ndata", &["a\n"]),
            (b"data: a\nda", &["a"]),
            (b"data: a\r", &["a"]),
            (b"data: a\r\n\r", &["a"]),
            // A line of data that JSON is broken into.
            (
                b"data: {\"choices\":[],\ndata: \"usage\":{}}\n\n",
                &["{\"choices\":[],\n\"usage\":{}}"],
            ),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(whole).collect();
            assert_parts(events, 1_000, text, &expected);
        }
    }

    #[test]
    fn an_event_that_is_too_large_is_reported_once_and_the_next_one_read() {
        let (fits, over) = ("x".repeat(100), "x".repeat(101));
        let joined = format!("{}\ndata: {}", &fits[..50], &fits[..50]);
        for [before, after] in [["", "\n\n"], ["event: a\r\n", "\r\n\r\n"], ["", "\ndata: x\n\n"]] {
            for large in [&over, &joined, &"x".repeat(1_000)] {
                let text = format!("data: {fits}\n\n{before}data: {large}{after}data: a\n\n");
                let expected = [whole(&fits), too_large(), whole("a")];
                assert_parts(events, 100, text.as_bytes(), &expected);
            }
        }
        assert_eq!(events(100, &[format!("data: {over}").as_bytes()]), [too_large()]);
    }

    #[test]
    fn the_usual_event_is_handed_over_without_a_copy() {
        let mut events = Parts::<Events>::default();
        for text in ["data: {\"a\":1}\n\n", "event: b\ndata: {\"b\":1}\n\n", "data: c\r\n\r\n"] {
            assert_eq!(uncopied(&mut events, text.as_bytes()), 1, "{text:?}");
            assert_eq!(events.capacity(), 0, "{text:?}");
        }
    }

    #[test]
    fn cut_events_share_one_buffer() {
        let text = "event: a\ndata: {\"a\":1}\ndata: {}\r\n\r\n".repeat(50);
        let mut events = Parts::<Events>::default();
        let mut handed_over = 0;
        let mut read = || {
            for piece in text.as_bytes().chunks(7) {
                events.push(piece, |_| handed_over += 1);
            }
        };
        read();
        let allocations = allocation_counter::measure(read).count_total;
        assert_eq!((handed_over, allocations), (100, 0));
    }
}
