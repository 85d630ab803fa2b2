//! Hot records: the numbers that a call looks at.
//!
//! | part | bytes |
//! |---|---|
//! | the stamp, in the global record alone | 8 |
//! | the generation | 4 |
//! | of each window that ends: its end in seconds, and how often it was rebased | 6 + 1 |
//! | of each cell the mark | 1 |
//! | of each cell the value | 7 |
//!
//! Windows come the shorter first, and so do their cells: of a day the account, then the limits.

use limiter_core::{Cell, Record, Span, Stored, StoredWindow, TimeZone, Timestamp, Window};

use super::bytes::{Reader, push_int};
use super::{Misread, Stamp};

/// The shape of one record: its windows, and the number of cells of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    /// Whether it is the global record.
    pub(crate) global: bool,
    pub(crate) windows: Vec<(Window, usize)>,
}

impl Layout {
    pub(crate) fn of(global: bool, record: &Record) -> Self {
        let windows = record.windows().map(|window| (window, record.counted_in(window).count()));
        Self { global, windows: windows.collect() }
    }

    /// The number of bytes of stamp and generation.
    pub(crate) const fn prefix(&self) -> usize {
        if self.global { STAMP + GENERATION } else { GENERATION }
    }

    /// The number of bytes of stamp, generation and windows.
    pub(crate) fn identity(&self) -> usize {
        let ending = self.windows.iter().filter(|(window, _)| window.ends()).count();
        self.prefix() + ending * (END + 1)
    }

    pub(crate) fn cells(&self) -> usize {
        self.windows.iter().map(|(_, cells)| cells).sum()
    }

    /// The number of bytes of a record.
    pub(crate) fn size(&self) -> usize {
        self.identity() + self.cells() * (1 + VALUE)
    }

    pub(crate) fn write(&self, stamp: Stamp, record: &Stored) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        if self.global {
            bytes.extend(stamp.0);
        }
        bytes.extend(record.generation.to_le_bytes());
        for window in record.windows.iter().filter(|of| of.window.ends()) {
            push_span(&mut bytes, window.span);
        }
        let cells = || record.windows.iter().flat_map(|window| &window.cells);
        bytes.extend(cells().map(|cell| cell.mark));
        for cell in cells() {
            push_int::<VALUE>(&mut bytes, cell.value);
        }
        bytes
    }

    /// Reads a record. The limits in force are those of another one of the same layout.
    pub(crate) fn read(
        &self,
        bytes: &[u8],
        limits: &Record,
        zone: &TimeZone,
    ) -> Result<(Stamp, Record), Misread> {
        if bytes.len() != self.size() {
            return Err(Misread::Corrupt("a record of another size"));
        }
        let mut reader = Reader::new(bytes);
        let stamp = if self.global { Stamp(reader.array()?) } else { Stamp::default() };
        let generation = u32::from_le_bytes(reader.array()?);
        let mut stored = Stored { generation, windows: Default::default() };
        for (window, cells) in &self.windows {
            let span = if window.ends() { read_span(&mut reader)? } else { Span::EVER };
            let cells = (0..*cells).map(|_| Cell { value: 0, mark: 0 }).collect();
            stored.windows.push(StoredWindow { window: *window, span, cells });
        }
        for cell in stored.windows.iter_mut().flat_map(|window| &mut window.cells) {
            cell.mark = reader.byte()?;
        }
        for cell in stored.windows.iter_mut().flat_map(|window| &mut window.cells) {
            cell.value = reader.int::<VALUE>()?;
        }
        reader.end()?;
        let record = limits.with_stored(&stored, zone);
        record.map(|record| (stamp, record)).map_err(|_| IMPOSSIBLE)
    }
}

/// Appends the end of a window.
pub(crate) fn push_end(bytes: &mut Vec<u8>, end: Timestamp) {
    push_int::<END>(bytes, end.unix_ms().div_euclid(1_000));
}

pub(super) fn push_span(bytes: &mut Vec<u8>, span: Span) {
    push_end(bytes, span.end);
    bytes.push(span.rebases);
}

pub(super) fn read_span(reader: &mut Reader<'_>) -> Result<Span, Misread> {
    let end = reader.int::<END>()?.checked_mul(1_000).ok_or(IMPOSSIBLE)?;
    Ok(Span { end: super::bytes::window_end(end)?, rebases: reader.byte()? })
}

/// The widths of parts in bytes.
const STAMP: usize = 8;
pub(crate) const GENERATION: usize = 4;
const END: usize = 6;
const VALUE: usize = 7;
pub(super) const IMPOSSIBLE: Misread =
    Misread::Corrupt("numbers that contradict each other or the limits");
