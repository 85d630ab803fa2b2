//! A streamed answer without the usage chunk that only the gateway asked for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::iter;
use std::mem;
use std::ops::Range;

use bytes::Bytes;
use http_body::Body;
use memchr::{memchr2, memmem};
use pin_project_lite::pin_project;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::rewritten::{Rewrite, Rewritten};
use crate::any_body::body_of;

pin_project! {
    /// A body without the extra usage chunk of OpenAI's chat completions or legacy completions.
    ///
    /// It is for a call where the gateway has set `stream_options.include_usage` and the caller has not. The provider then
    /// sends one more event, whose `choices` are empty and whose `usage` is an object: [OpenAI's API reference] calls it an
    /// additional chunk before `[DONE]`. Clients that did not ask for it may fail on `choices[0]`. Any other byte is passed on
    /// unchanged and in order. A chunk with choices stays, even if it has usage too, and so does one with an error.
    ///
    /// At most one incomplete event is held back, of at most 64 KiB. Comments outside an event are not, so that they
    /// keep the connection alive. The stream must not be compressed. The body gets shorter, so do not send its
    /// `content-length`.
    ///
    /// [OpenAI's API reference]: https://platform.openai.com/docs/api-reference/chat/create#chat_create-stream_options-include_usage
    pub struct WithoutUsageChunk<B>
    where
        B: Body,
    {
        #[pin]
        body: Rewritten<B, Filter>,
    }
}

impl<B: Body> WithoutUsageChunk<B> {
    /// Wraps a body.
    pub fn new(body: B) -> Self {
        Self { body: Rewritten::new(body, Filter::default()) }
    }
}

impl<B: Body<Data = Bytes>> Body for WithoutUsageChunk<B> {
    body_of!(body, B::Error);
}

impl<B: Body> fmt::Debug for WithoutUsageChunk<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithoutUsageChunk").finish_non_exhaustive()
    }
}

/// A filter that finds events in pieces cut anywhere, and drops the usage chunk.
#[derive(Debug, Default)]
struct Filter {
    event: Event,
    /// The bytes of the event from earlier pieces, if it is held back.
    held: Vec<u8>,
    /// Whether a line has begun.
    in_line: bool,
    /// Whether the last byte was a carriage return. A line feed now belongs to the same line end.
    after_cr: bool,
    /// Whether the last line was blank and was dropped with its event.
    has_dropped: bool,
}

/// The event that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Event {
    /// No field has come since the last blank line.
    #[default]
    None,
    /// It may be the usage chunk.
    Held,
    /// It is too large to be the usage chunk.
    Passed,
}

impl<E> Rewrite<E> for Filter {
    fn push(&mut self, piece: Bytes) -> Bytes {
        let piece = &piece;
        let mut passed = Passed { piece, copied: Vec::new(), from: 0 };
        // The event begins at this offset of the piece: 0 if it began earlier.
        let (mut event, mut at) = (0, 0);
        while let Some(byte) = piece.get(at) {
            if mem::take(&mut self.after_cr) && *byte == b'\n' {
                if self.has_dropped {
                    passed.skip(at..at + 1);
                }
                at += 1;
            } else if !self.in_line && matches!(byte, b'\n' | b'\r') {
                at += 1;
                self.after_cr = *byte == b'\r';
                self.has_dropped =
                    self.event == Event::Held && self.ends_dropped(event..at, &mut passed);
                self.event = Event::None;
            } else {
                if !self.in_line && self.event == Event::None && *byte != b':' {
                    (self.event, event) = (Event::Held, at);
                }
                self.has_dropped = false;
                let end = memchr2(b'\n', b'\r', &piece[at..]).map(|end| at + end);
                self.in_line = end.is_none();
                self.after_cr = end.is_some_and(|end| piece[end] == b'\r');
                at = end.map_or(piece.len(), |end| end + 1);
            }
        }
        if self.event == Event::Held {
            if self.held.len() + piece.len() - event <= MAX_HELD_BYTES {
                self.held.extend_from_slice(&piece[event..]);
                return passed.until(event);
            }
            self.event = Event::Passed;
            passed.copied.extend(mem::take(&mut self.held));
        }
        passed.until(piece.len())
    }

    fn end(&mut self) -> Bytes {
        let held = mem::take(self).held;
        if is_usage_chunk(&held) { comments(&held).collect() } else { held.into() }
    }

    fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// The usage chunk may be all of the rest.
    fn longest(&self, rest: u64) -> Option<u64> {
        rest.checked_add(self.held.len() as u64)
    }
}

impl Filter {
    /// Ends the event at these bytes of the piece, and returns whether it is dropped.
    fn ends_dropped(&mut self, last: Range<usize>, passed: &mut Passed<'_>) -> bool {
        let mut event = Cow::Borrowed(&passed.piece[last.clone()]);
        if !self.held.is_empty() {
            let mut whole = mem::take(&mut self.held);
            whole.extend_from_slice(&event);
            event = Cow::Owned(whole);
        }
        let is_dropped = event.len() <= MAX_HELD_BYTES && is_usage_chunk(&event);
        if is_dropped {
            passed.skip(last);
            passed.copied.extend(comments(&event));
        } else if let Cow::Owned(mut whole) = event {
            passed.skip(last);
            passed.copied.append(&mut whole);
        }
        is_dropped
    }
}

/// The bytes to pass on: a part of the piece as it is, unless bytes before it were held or bytes within it are dropped.
struct Passed<'a> {
    piece: &'a Bytes,
    /// The bytes before `from`.
    copied: Vec<u8>,
    from: usize,
}

impl Passed<'_> {
    fn skip(&mut self, dropped: Range<usize>) {
        self.copied.extend_from_slice(&self.piece[self.from..dropped.start]);
        self.from = dropped.end;
    }

    fn until(mut self, end: usize) -> Bytes {
        if self.copied.is_empty() {
            return self.piece.slice(self.from..end);
        }
        self.copied.extend_from_slice(&self.piece[self.from..end]);
        self.copied.into()
    }
}

/// Returns whether this event has empty choices, a usage object, and no error.
fn is_usage_chunk(event: &[u8]) -> bool {
    let Some(data) = data(event) else { return false };
    // A chunk of text has choices: it is not parsed.
    let has_no_choices = memmem::find_iter(&data, CHOICES).any(|at| {
        let value = data[at + CHOICES.len()..].trim_ascii_start().strip_prefix(b":");
        let elements = value.and_then(|value| value.trim_ascii_start().strip_prefix(b"["));
        elements.is_some_and(|elements| elements.trim_ascii_start().starts_with(b"]"))
    });
    has_no_choices
        && serde_json::from_slice(&data)
            .is_ok_and(|chunk: Chunk| chunk.choices.is_empty() && chunk.error.is_none())
}

#[derive(Deserialize)]
struct Chunk {
    choices: Vec<IgnoredAny>,
    #[serde(rename = "usage")]
    _usage: HashMap<String, IgnoredAny>,
    error: Option<IgnoredAny>,
}

/// Returns the JSON text of an event: its lines of data, joined. White space at the end of a line has no meaning there.
fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut lines = lines(event).filter_map(|line| line.trim_ascii_end().strip_prefix(b"data:"));
    let first = Cow::Borrowed(lines.next()?);
    Some(lines.fold(first, |mut data, line| {
        data.to_mut().push(b'\n');
        data.to_mut().extend_from_slice(line);
        data
    }))
}

/// Returns the comments within an event, with their line ends.
fn comments(event: &[u8]) -> impl Iterator<Item = u8> {
    lines(event).filter(|line| line.starts_with(b":")).flatten().copied()
}

/// Returns the lines of an event, with their ends.
fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = event;
    iter::from_fn(move || {
        let end = match memchr2(b'\n', b'\r', rest) {
            Some(end) => end + if rest[end..].starts_with(b"\r\n") { 2 } else { 1 },
            None => rest.len(),
        };
        rest.split_off(..end).filter(|line| !line.is_empty())
    })
}

/// 64 KiB. The usage chunk has less than 1 KiB.
const MAX_HELD_BYTES: usize = 64 * 1_024;

const CHOICES: &[u8] = b"\"choices\"";

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use http::HeaderMap;
    use http_body::{Frame, SizeHint};

    use super::*;

    const TEXT: &str = r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"a\"choices\":[]"}}],"usage":null}"#;
    const USAGE: &str = r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#;

    type Piece = Result<Frame<Bytes>, &'static str>;

    /// A body of these pieces.
    #[derive(Debug)]
    struct Pieces(VecDeque<Piece>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
            Poll::Ready(self.0.pop_front())
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            let data = self.0.iter().flatten().filter_map(Frame::data_ref);
            SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
        }
    }

    fn piece(bytes: &[u8]) -> Piece {
        Ok(Frame::data(Bytes::copy_from_slice(bytes)))
    }

    fn body(pieces: impl IntoIterator<Item = Piece>) -> WithoutUsageChunk<Pieces> {
        WithoutUsageChunk::new(Pieces(pieces.into_iter().collect()))
    }

    fn next(body: &mut WithoutUsageChunk<Pieces>) -> Option<Piece> {
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(frame) = polled else { panic!("the pieces are there") };
        frame
    }

    fn data(frame: Option<Piece>) -> Bytes {
        frame.unwrap().unwrap().into_data().unwrap()
    }

    /// Returns the filtered bytes of these pieces, and checks the size hint before each frame.
    fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
        let mut body = body(pieces.into_iter().map(piece));
        let (mut passed, mut left) = (Vec::new(), body.size_hint().upper().unwrap());
        loop {
            assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (0, Some(left)));
            let has_ended = body.is_end_stream();
            let Some(frame) = next(&mut body) else { break };
            assert!(!has_ended, "a frame came after the end");
            let data = data(Some(frame));
            let now = body.size_hint().upper().unwrap();
            assert!(now + data.len() as u64 <= left);
            left = now;
            assert!(body.body.rewrite.held.len() <= MAX_HELD_BYTES);
            passed.extend(data);
        }
        assert!(body.is_end_stream() && next(&mut body).is_none());
        passed.into()
    }

    /// Filters this text in pieces of each length, and in two pieces cut at each byte.
    fn assert_passed(text: &str, expected: &str) {
        let bytes = text.as_bytes();
        for length in 1..=bytes.len() {
            assert_eq!(passed(bytes.chunks(length)), expected, "{text:?} in pieces of {length}");
        }
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(passed([first, b"", second]), expected, "{text:?} cut at {cut}");
        }
    }

    #[test]
    fn the_usage_chunk_is_dropped_and_every_other_byte_passed_on() {
        let done = "data: [DONE]";
        for end in ["\n", "\r\n", "\r"] {
            let blank = end.repeat(2);
            let before = format!(": hello{blank}{TEXT}{blank}{end}event: x{end}id: 7{blank}");
            let twice = format!("{USAGE}{blank}{end}{USAGE}{blank}{TEXT}");
            assert_passed(
                &format!("{before}{USAGE}{blank}{done}{blank}"),
                &format!("{before}{done}{blank}"),
            );
            assert_passed(&format!("{USAGE}{blank}"), "");
            assert_passed(&twice, &format!("{end}{TEXT}"));
        }
        let spaced = USAGE.replace("[]", " [ ] ").replace("data: ", "data:  ");
        let broken = USAGE.replace(",\"usage\":", ",\ndata: \"usage\":\ndata:");
        let named = format!("event: chunk\nid: 3\n{USAGE}");
        for usage in [&spaced, &broken, &named] {
            let text = format!("{TEXT}\n\n{usage}\n\n{done}\n\n");
            assert_passed(&text, &text.replace(&format!("{usage}\n\n"), ""));
        }
        // Comments within the chunk stay.
        let text = format!(": a\nid: 1\n: b\r\n{USAGE}\n: c\n\n: d\n\n");
        assert_passed(&text, ": a\n: b\r\n: c\n: d\n\n");
        // The end of the body ends the last event.
        let text = format!("{TEXT}\n\n");
        assert_passed(&format!("{text}{USAGE}"), &text);
        assert_passed(&format!("{text}{USAGE}\n"), &text);
    }

    #[test]
    fn a_chunk_that_carries_anything_else_stays() {
        for data in [
            r#"{"choices":[],"usage":null}"#,
            r#"{"choices":[],"prompt_filter_results":[]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9}}"#,
            r#"{"choices":[{"text":"a"}],"usage":{"prompt_tokens":9},"x":{"choices":[]}}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9},"error":{"message":"overloaded"}}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9}"#,
            r#"{"usage":{"prompt_tokens":9}}"#,
            r#""{\"choices\":[],\"usage\":{}}""#,
            "[DONE]",
            "",
        ] {
            let text = format!("data: {data}\n\n: a\r\n\r\ndata: {data}\r\r");
            assert_passed(&text, &text);
        }
        let cut_off = format!("{TEXT}\n\n{}", &USAGE[..USAGE.len() - 1]);
        for text in [&cut_off, &USAGE[1..], &format!(": {USAGE}"), "\n\n\r\n\r\r", ":", "dat"] {
            assert_passed(text, text);
        }
    }

    #[test]
    fn an_event_that_is_too_large_is_passed_on_as_it_comes() {
        let (start, end) = USAGE.split_at(USAGE.len() - 1);
        let usage_of =
            |size: usize| format!("{start}{}{end}\n\n", " ".repeat(size - USAGE.len() - 2));
        let (fits, large) = (usage_of(MAX_HELD_BYTES), usage_of(MAX_HELD_BYTES + 1));
        let text = format!("{large}{fits}{TEXT}\n\n{large}{USAGE}\n\n");
        let expected = format!("{large}{TEXT}\n\n{large}");
        for length in [900, 1_000, MAX_HELD_BYTES, MAX_HELD_BYTES + 1, text.len()] {
            assert!(passed(text.as_bytes().chunks(length)) == expected, "in pieces of {length}");
        }
        let held = &large.as_bytes()[..MAX_HELD_BYTES];
        let mut body = body([held, b"  ", b" "].map(piece));
        assert_eq!(data(next(&mut body)).len(), MAX_HELD_BYTES + 2);
        assert_eq!(body.body.rewrite.held.capacity(), 0);
        assert_eq!(data(next(&mut body)), " ");
    }

    #[test]
    fn comments_and_whole_events_are_not_held_back_nor_copied() {
        let (event, two) = (format!("{TEXT}\n\n"), format!("{TEXT}\n\n:"));
        for text in [": keep-alive", ": keep-alive\n", &event, &two] {
            let whole = Bytes::copy_from_slice(text.as_bytes());
            let out = data(next(&mut body([Ok(Frame::data(whole.clone()))])));
            assert_eq!((out.as_ptr(), out.len()), (whole.as_ptr(), whole.len()));
        }
    }

    #[test]
    fn trailers_and_errors_come_after_the_bytes_that_were_held_back() {
        for is_error in [false, true] {
            for (text, expected) in
                [("data: a", "data: a"), ("data: a\n\n", "data: a\n\n"), (USAGE, "")]
            {
                let trailers = HeaderMap::from_iter([("x".parse().unwrap(), "y".parse().unwrap())]);
                let last = if is_error { Err("reset") } else { Ok(Frame::trailers(trailers)) };
                let mut body = body([piece(text.as_bytes()), last]);
                let mut passed = Vec::new();
                let last = loop {
                    assert!(!body.is_end_stream());
                    match next(&mut body).unwrap() {
                        Ok(frame) if frame.is_data() => passed.extend(frame.into_data().unwrap()),
                        last => break last,
                    }
                };
                assert_eq!(passed, expected.as_bytes());
                assert_eq!(last.map(|frame| frame.is_trailers()).ok(), (!is_error).then_some(true));
                assert!(body.is_end_stream());
            }
        }
    }
}
