//! Lines of a byte stream that may be cut anywhere.

/// Puts lines together from pieces. A line ends with a line feed, a carriage return, or both, as in server-sent events.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// Whether that line has got too long to be kept.
    too_long: bool,
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    /// It had more than [`MAX_LINE_BYTES`].
    TooLong,
}

impl Lines {
    /// Hands over each line that ends in this piece. Of empty lines not all are, since a carriage return and a line feed
    /// may come apart.
    pub(super) fn push(&mut self, piece: &[u8], mut line: impl FnMut(Line<'_>)) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (last, following) = (&rest[..end], &rest[end + 1..]);
            if self.begun.is_empty() && !self.too_long {
                line(if last.len() > MAX_LINE_BYTES { Line::TooLong } else { Line::Whole(last) });
            } else {
                self.begin(last);
                self.end(&mut line);
            }
            rest = following;
        }
        self.begin(rest);
    }

    /// No more comes: hands over what was begun, if anything was.
    pub(super) fn end(&mut self, mut line: impl FnMut(Line<'_>)) {
        if self.too_long {
            line(Line::TooLong);
        } else if !self.begun.is_empty() {
            line(Line::Whole(&self.begun));
        }
        self.too_long = false;
        self.begun.clear();
    }

    fn begin(&mut self, part: &[u8]) {
        self.too_long |= self.begun.len() + part.len() > MAX_LINE_BYTES;
        if self.too_long {
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(part);
        }
    }
}

/// 256 KiB. Chunks of text have some hundred bytes and those of sound tens of thousands; what an upstream that never ends
/// a line can take from a stream's memory is bounded.
pub(super) const MAX_LINE_BYTES: usize = 256 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are not empty, of pieces of this length.
    fn lines(text: &[u8], length: usize) -> Vec<Option<Vec<u8>>> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut see = |line: Line<'_>| match line {
            Line::Whole(b"") => {}
            Line::Whole(line) => seen.push(Some(line.to_vec())),
            Line::TooLong => seen.push(None),
        };
        for piece in text.chunks(length) {
            lines.push(piece, &mut see);
        }
        lines.end(&mut see);
        seen
    }

    #[test]
    fn lines_are_the_same_wherever_they_are_cut() {
        let text = "a\n\nbc\r\n\r\nd\re\u{e9}f".as_bytes();
        let whole: Vec<_> =
            ["a", "bc", "d", "e\u{e9}f"].map(|line| Some(line.as_bytes().to_vec())).into();
        for length in 1..=text.len() {
            assert_eq!(lines(text, length), whole, "in pieces of {length}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_and_the_next_one_read() {
        let fits = vec![b'x'; MAX_LINE_BYTES];
        for length in [MAX_LINE_BYTES / 3, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, MAX_LINE_BYTES * 3] {
            let text = [&fits[..], b"\n", &fits, b"y\nz\n"].concat();
            let seen = lines(&text, length);
            assert_eq!(
                seen,
                [Some(fits.clone()), None, Some(b"z".to_vec())],
                "in pieces of {length}"
            );
        }
    }

    #[test]
    fn a_line_that_never_ends_keeps_no_more_than_the_bound() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push(&[b'x'; 10_000], |line| panic!("{line:?}"));
            assert!(lines.begun.len() <= MAX_LINE_BYTES);
        }
        let mut ends = 0;
        lines.end(|line| ends += usize::from(line == Line::TooLong));
        assert_eq!(ends, 1);
    }
}
