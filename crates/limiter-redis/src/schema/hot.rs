//! Hot records: the numbers that a call looks at.
//!
//! One table, [`PARTS`], has the parts of a record in their order; sizes, formats of the scripts, writing and reading come
//! from it. No record has more than 64 bytes, so that Redis keeps the hash in one compact piece.

use limiter_core::{METERS, Record, Span, Timestamp, WINDOWS, Window};

use super::bytes::{Reader, push_int};
use super::{Misread, Stamp};

/// A part of a record, and its width in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// In the global record alone.
    Stamp,
    Generation,
    /// Of each window: the number of its end, and how often it was rebased.
    End,
    Rebases,
    /// Of each meter.
    Mark,
    Value,
}

/// How often a part is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Once,
    EachWindow,
    EachMeter,
}

/// The parts of a record, in their order: each group is repeated as a whole.
const PARTS: [(Times, &[(Part, usize)]); 4] = [
    (Times::Once, &[(Part::Stamp, 8), (Part::Generation, 4)]),
    (Times::EachWindow, &[(Part::End, 5), (Part::Rebases, 1)]),
    (Times::EachMeter, &[(Part::Mark, 1)]),
    (Times::EachMeter, &[(Part::Value, 7)]),
];

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

    fn times(&self, times: Times, part: Part) -> usize {
        match times {
            Times::Once => usize::from(part != Part::Stamp || self.global),
            Times::EachWindow => self.windows,
            Times::EachMeter => self.meters,
        }
    }

    /// The number of bytes of the parts before the first that `is_end` names.
    fn bytes_before(&self, is_end: impl Fn(Part) -> bool) -> usize {
        let mut bytes = 0;
        for (times, parts) in PARTS {
            for (part, width) in parts {
                if is_end(*part) {
                    return bytes;
                }
                bytes += width * self.times(times, *part);
            }
        }
        bytes
    }

    /// The number of bytes of a record.
    pub(crate) fn size(&self) -> usize {
        self.bytes_before(|_| false)
    }

    /// The number of bytes of stamp and generation.
    pub(crate) fn prefix(&self) -> usize {
        self.bytes_before(|part| part == Part::End)
    }

    /// The number of bytes of stamp, generation and windows.
    pub(crate) fn identity(&self) -> usize {
        self.bytes_before(|part| part == Part::Mark)
    }

    pub(crate) fn write(&self, stamp: Stamp, record: &Record) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        for (times, parts) in PARTS {
            let most = parts.iter().map(|(part, _)| self.times(times, *part)).max().unwrap_or(0);
            for at in 0..most {
                for (part, _) in parts.iter().filter(|(part, _)| at < self.times(times, *part)) {
                    self.write_part(&mut bytes, *part, at, stamp, record);
                }
            }
        }
        bytes
    }

    fn write_part(
        &self,
        bytes: &mut Vec<u8>,
        part: Part,
        at: usize,
        stamp: Stamp,
        record: &Record,
    ) {
        let meter = || record.counted().nth(at).unwrap_or(0);
        let span = || record.span(Window::ALL[at]);
        match part {
            Part::Stamp => bytes.extend(stamp.0),
            Part::Generation => bytes.extend(record.generation().to_le_bytes()),
            Part::End => push_end(bytes, Window::ALL[at], span().end),
            Part::Rebases => bytes.push(span().rebases),
            Part::Mark => bytes.push(record.marks()[meter()]),
            Part::Value => push_int::<7>(bytes, record.values()[meter()]),
        }
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
            *span = Span { end: read_end(&mut reader, window)?, rebases: reader.byte()? };
        }
        let (mut values, mut marks) = ([0; METERS], [0; METERS]);
        for meter in limits.counted() {
            marks[meter] = reader.byte()?;
        }
        for meter in limits.counted() {
            values[meter] = reader.int::<7>()?;
        }
        reader.end()?;
        let record = limits.with_stored(generation, spans, values, marks);
        record.map(|record| (stamp, record)).map_err(|_| IMPOSSIBLE)
    }
}

/// Appends the number of a window that ends then.
pub(crate) fn push_end(bytes: &mut Vec<u8>, window: Window, end: Timestamp) {
    push_int::<5>(bytes, window.number_of_end(end));
}

pub(crate) fn read_end(reader: &mut Reader<'_>, window: Window) -> Result<Timestamp, Misread> {
    window.end_of_number(reader.int::<5>()?).ok_or(IMPOSSIBLE)
}

const IMPOSSIBLE: Misread = Misread::Corrupt("numbers that contradict each other or the limits");
