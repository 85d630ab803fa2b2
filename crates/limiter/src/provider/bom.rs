//! A byte order mark before a text.

/// Drops a UTF-8 byte order mark at the very start of a text that is cut anywhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Bom {
    /// The number of bytes of the mark so far.
    matched: usize,
    /// Whether the start of the text has passed.
    passed: bool,
}

impl Bom {
    /// Returns the rest of the text up to the end of this piece. Bytes that only looked like a mark come first.
    pub(super) fn strip<'a>(&mut self, piece: &'a [u8]) -> [&'a [u8]; 2] {
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

const BOM: &[u8] = b"\xEF\xBB\xBF";
