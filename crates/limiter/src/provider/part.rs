//! The parts of an answer (events or JSON values), and the buffer that assembles one.

use std::fmt;

/// One event of a stream, or one JSON value of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// All bytes of the part.
    Whole(&'a [u8]),
    /// The first bytes of a JSON value. The body ended before the value did. Events are never cut.
    Cut(&'a [u8]),
    /// The part had more than [`MAX_PART_BYTES`] bytes. They were dropped.
    TooLarge,
}

/// The parts of a text that comes in pieces cut anywhere. A byte order mark before them counts as nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts<D> {
    bom: Bom,
    divider: D,
    /// The beginning of an unfinished part.
    begun: PartBuffer,
}

/// A format that divides a text into parts, and hands over each.
pub(crate) trait Divide: Default {
    /// Reads a piece, and hands over each part that ends in it. The unfinished one is added to the buffer.
    fn read(&mut self, piece: &[u8], begun: &mut PartBuffer, each: &mut impl FnMut(Part<'_>));

    /// Hands over the unfinished part, if there is one, at the end of the text.
    fn end(&mut self, begun: &mut PartBuffer, each: &mut impl FnMut(Part<'_>));
}

impl<D: Divide> Parts<D> {
    /// Hands over each part that ends in this piece.
    pub(crate) fn push(&mut self, piece: &[u8], mut each: impl FnMut(Part<'_>)) {
        for piece in self.bom.strip(piece) {
            self.divider.read(piece, &mut self.begun, &mut each);
        }
    }

    /// Hands over the unfinished part, if there is one, at the end of the text.
    pub(crate) fn end(&mut self, mut each: impl FnMut(Part<'_>)) {
        self.divider.end(&mut self.begun, &mut each);
        (self.bom, self.divider) = Default::default();
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl<D: Divide> Parts<D> {
    /// Creates a parser with another bound than [`MAX_PART_BYTES`].
    pub(super) fn bounded(max_bytes: usize) -> Self {
        Self { begun: PartBuffer::bounded(max_bytes), ..Self::default() }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.begun.capacity()
    }
}

/// Drops a UTF-8 byte order mark at the very start of a text that is cut anywhere.
#[derive(Clone, Debug, Default)]
struct Bom {
    /// The number of bytes of the mark so far.
    matched: usize,
    /// Whether the start of the text has passed.
    passed: bool,
}

impl Bom {
    /// Returns the rest of the text up to the end of this piece. Bytes that only looked like a mark come first.
    fn strip<'a>(&mut self, piece: &'a [u8]) -> [&'a [u8]; 2] {
        if self.passed {
            return [&[], piece];
        }
        let held = self.matched;
        let fits = BOM[held..].iter().zip(piece).take_while(|(mark, byte)| mark == byte).count();
        self.matched += fits;
        let (is_mark, may_be_mark) = (self.matched == BOM.len(), fits == piece.len());
        self.passed = is_mark || !may_be_mark;
        match self.passed {
            true if is_mark => [&[], &piece[fits..]],
            true => [&BOM[..held], piece],
            false => [&[], &[]],
        }
    }
}

/// A buffer that assembles one part from several pieces, in bounded memory.
#[derive(Clone)]
pub(crate) struct PartBuffer {
    bytes: Vec<u8>,
    /// Whether a part has begun; it may be empty so far.
    begun: bool,
    /// Whether the part has outgrown the bound.
    too_large: bool,
    max_bytes: usize,
}

impl Default for PartBuffer {
    fn default() -> Self {
        Self::bounded(MAX_PART_BYTES)
    }
}

impl PartBuffer {
    pub(super) const fn bounded(max_bytes: usize) -> Self {
        Self { bytes: Vec::new(), begun: false, too_large: false, max_bytes }
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Adds bytes to the part, and begins it if necessary. Drops all of its bytes once they exceed the bound.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.begun = true;
        let needed = self.bytes.len() + bytes.len();
        self.too_large |= needed > self.max_bytes;
        if self.too_large {
            self.bytes = Vec::new();
            return;
        }
        if needed > self.bytes.capacity() {
            // Doubled, as `Vec` does, but never above the bound.
            let capacity = (2 * self.bytes.capacity()).max(needed).min(self.max_bytes);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Hands over the part that has begun, if one has, and empties the buffer.
    pub(super) fn end(&mut self, is_complete: bool, each: &mut impl FnMut(Part<'_>)) {
        if !self.begun {
            return;
        }
        each(match (self.too_large, is_complete) {
            (true, _) => Part::TooLarge,
            (false, true) => Part::Whole(&self.bytes),
            (false, false) => Part::Cut(&self.bytes),
        });
        (self.begun, self.too_large) = (false, false);
        self.bytes.clear();
        if self.bytes.capacity() > REUSED_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// Returns the part of these bytes, which are in one piece and need no buffer.
    pub(super) const fn whole<'a>(&self, bytes: &'a [u8]) -> Part<'a> {
        if bytes.len() > self.max_bytes { Part::TooLarge } else { Part::Whole(bytes) }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Formats without the text of the answer.
impl fmt::Debug for PartBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartBuffer").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// The byte order mark.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// 8 MiB. `response.completed` of OpenAI's Responses API repeats the whole answer and the instructions, and images come in
/// base64. It bounds the memory that an upstream can take from a call.
pub(crate) const MAX_PART_BYTES: usize = 8 * 1_024 * 1_024;

/// 64 KiB. A buffer is reused up to this size; events of text have some hundred bytes. A larger one is released, so that
/// a stream does not keep the memory of its largest event.
pub(super) const REUSED_BYTES: usize = 64 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_released_and_a_small_one_reused() {
        let mut buffer = PartBuffer::default();
        for (size, reused) in [(1_000, true), (REUSED_BYTES, true), (REUSED_BYTES + 1, false)] {
            buffer.add(&vec![b'x'; size]);
            buffer.end(true, &mut |part| {
                assert!(matches!(part, Part::Whole(bytes) if bytes.len() == size));
            });
            assert_eq!(buffer.capacity() > 0, reused, "after {size} bytes");
        }
    }

    #[test]
    fn the_buffer_never_grows_above_the_bound() {
        let mut buffer = PartBuffer::bounded(1_000);
        for _ in 0..1_001 {
            buffer.add(b"x");
            assert!(buffer.capacity() <= 1_000);
        }
        assert_eq!(buffer.capacity(), 0);
        let mut parts = 0;
        buffer.end(true, &mut |part| parts += usize::from(part == Part::TooLarge));
        assert_eq!(parts, 1);
        buffer.end(true, &mut |part| panic!("{part:?}"));
    }
}
