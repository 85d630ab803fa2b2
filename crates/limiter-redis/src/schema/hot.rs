//! Hot records: the numbers that a call looks at.
//!
//! | part | bytes |
//! |---|---|
//! | the stamp, in the global record alone | 8 |
//! | the generation | 4 |
//! | of each window the number of its end, and how often it was rebased | 5 + 1 |
//! | of each meter the mark | 1 |
//! | of each meter the value | 7 |
//!
//! No record has more than 64 bytes, so that Redis keeps the hash in one compact piece.

use limiter_core::{METERS, Record, Span, Timestamp, WINDOWS, Window};

use super::bytes::{Reader, push_int};
use super::{Misread, Stamp};

/// The shape of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    /// Whether it is the global record.
    pub(crate) global: bool,
    pub(crate) windows: usize,
    pub(crate) meters: usize,
}

impl Layout {
    pub(crate) fn of(record: &Record) -> Self {
        let counted = record.counted().count();
        let windows = if record.has_windows() { WINDOWS } else { 0 };
        Self { global: record.has_credits(), windows, meters: counted }
    }

    /// The number of bytes of stamp and generation.
    pub(crate) const fn prefix(&self) -> usize {
        if self.global { STAMP + GENERATION } else { GENERATION }
    }

    /// The number of bytes of stamp, generation and windows.
    pub(crate) const fn identity(&self) -> usize {
        self.prefix() + self.windows * (END + 1)
    }

    /// The number of bytes of a record.
    pub(crate) const fn size(&self) -> usize {
        self.identity() + self.meters * (1 + VALUE)
    }

    pub(crate) fn write(&self, stamp: Stamp, record: &Record) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        if self.global {
            bytes.extend(stamp.0);
        }
        bytes.extend(record.generation().to_le_bytes());
        for window in Window::ALL.into_iter().take(self.windows) {
            push_span(&mut bytes, window, record.span(window));
        }
        bytes.extend(record.counted().map(|meter| record.marks()[meter]));
        for meter in record.counted() {
            push_int::<VALUE>(&mut bytes, record.values()[meter]);
        }
        bytes
    }

    /// Reads a record. The limits in force are those of another one of the same layout.
    pub(crate) fn read(&self, bytes: &[u8], limits: &Record) -> Result<(Stamp, Record), Misread> {
        if bytes.len() != self.size() {
            return Err(Misread::Corrupt("a record of another size"));
        }
        let mut reader = Reader::new(bytes);
        let stamp = if self.global { Stamp(reader.array()?) } else { Stamp::default() };
        let generation = u32::from_le_bytes(reader.array()?);
        let mut spans = Window::ALL.map(|window| limits.span(window));
        for (window, span) in Window::ALL.into_iter().zip(&mut spans).take(self.windows) {
            *span = read_span(&mut reader, window)?;
        }
        let (mut values, mut marks) = ([0; METERS], [0; METERS]);
        for meter in limits.counted() {
            marks[meter] = reader.byte()?;
        }
        for meter in limits.counted() {
            values[meter] = reader.int::<VALUE>()?;
        }
        reader.end()?;
        let record = limits.with_stored(generation, spans, values, marks);
        record.map(|record| (stamp, record)).map_err(|_| IMPOSSIBLE)
    }
}

/// Appends the number of a window that ends then.
pub(crate) fn push_end(bytes: &mut Vec<u8>, window: Window, end: Timestamp) {
    push_int::<END>(bytes, window.number_of_end(end));
}

pub(super) fn push_span(bytes: &mut Vec<u8>, window: Window, span: Span) {
    push_end(bytes, window, span.end);
    bytes.push(span.rebases);
}

pub(super) fn read_span(reader: &mut Reader<'_>, window: Window) -> Result<Span, Misread> {
    let end = window.end_of_number(reader.int::<END>()?).ok_or(IMPOSSIBLE)?;
    Ok(Span { end, rebases: reader.byte()? })
}

/// The widths of parts in bytes.
const STAMP: usize = 8;
pub(crate) const GENERATION: usize = 4;
const END: usize = 5;
const VALUE: usize = 7;
const IMPOSSIBLE: Misread = Misread::Corrupt("numbers that contradict each other or the limits");
