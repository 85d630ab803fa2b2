//! `take` and `apply` as a store sends them, so that a test can compare what they do with the core.

use limiter_core::operation::Operation;
use limiter_core::{ManualClock, Record, Stored, Timestamp};

use crate::keys::{Listed, Request, arguments};
use crate::schema::{Layout, Stamp};
use crate::scripts::{Scripts, time_of};
use crate::shape::Shape;

/// The text of a script of `take` for records of one shape, by that shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TakeShape(Shape);

/// The other data that is compared and stored with an operation.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// The time of the server after which nothing may be done; 0 for none.
    pub not_after: u64,
    /// The number of a key, a field, and the value that it must have; nothing for none. Without a field, a key that must not be
    /// there.
    pub guards: Vec<(usize, Vec<u8>, Vec<u8>)>,
    /// The number of a key, a field, and its value.
    pub puts: Vec<(usize, Vec<u8>, Vec<u8>)>,
    /// The number of a key and a field; nothing for the whole key.
    pub drops: Vec<(usize, Vec<u8>)>,
    /// The number of a level that begins with the operation, from 1, and its records; 0 for none.
    pub begins: (usize, Vec<Vec<u8>>),
    /// The kind of ledger operation, and its parameters.
    pub ledger: Option<(u8, Vec<Vec<u8>>)>,
    /// The number of the key of closed days of the outermost level, which those of the others follow; and the end of the last
    /// one that is not kept.
    pub history: Option<(usize, Timestamp)>,
}

impl TakeShape {
    /// The text of the script, with the time as its last two arguments.
    pub fn text(&self) -> String {
        scripts().of_shape(&self.0).text
    }
}

/// The shape and the argument of an operation for `take`, with a kind of ledger operation or 0; none if only `apply` does it.
/// There is a stamp for each level. Each record comes with its level, and whether it is the global one.
pub fn take(
    operation: &Operation,
    stamps: &[[u8; 8]],
    records: &[(usize, bool, &Record)],
    ledger: u8,
) -> Option<(TakeShape, Vec<u8>)> {
    let stamps: Vec<_> = stamps.iter().copied().map(Stamp).collect();
    let (shape, argument) = Shape::at_any_time(operation, &stamps, records, ledger)?;
    Some((TakeShape(shape), argument))
}

/// The parameters of a ledger operation, as arguments of a script.
pub fn ledger(kind: u8, given: &[Vec<u8>]) -> Vec<Vec<u8>> {
    listed(kind, given).arguments()
}

fn listed(kind: u8, given: &[Vec<u8>]) -> Listed {
    let number = |at: usize| {
        let text = given.get(at).and_then(|text| str::from_utf8(text).ok());
        text.and_then(|text| text.parse::<i64>().ok())
    };
    let texts = |from: usize, count| (0..count).map(move |at| given.get(from + at).cloned());
    let (numbers, texts) = match kind {
        1 => ([number(2), number(4)], texts(3, 1)),
        2 => ([number(2), number(3)], texts(4, 2)),
        _ => ([None; 2], texts(3, 2)),
    };
    Listed {
        kind,
        id: given.first().cloned().unwrap_or_default(),
        life: number(1),
        numbers: numbers.map(Option::unwrap_or_default),
        texts: texts.map(Option::unwrap_or_default).collect(),
        slots: None,
    }
}

/// The text of `apply`, with the time as its last two arguments.
pub fn apply_text() -> String {
    scripts().apply.text
}

/// The arguments of `apply` for an operation on the records in these fields, up to the time. If nothing is compared, it shows
/// others of each level. Each level has the stamp that must be there, and the next.
pub fn apply(
    operation: &Operation,
    fields: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
    stamps: &[[[u8; 8]; 2]],
    extras: Extras,
) -> Vec<Vec<u8>> {
    let Extras { not_after, guards, puts, drops, begins, ledger, history } = extras;
    let ledger = ledger.map(|(kind, given)| listed(kind, &given));
    let request =
        Request { not_after, guards, puts, drops, begins, ledger, history, ..Request::default() };
    let stamps: Vec<_> = stamps.iter().map(|of_level| of_level.map(Stamp)).collect();
    arguments(operation, fields, shown, &stamps, request)
}

/// An instant, as the last two arguments of a script.
pub fn time(now: Timestamp) -> [Vec<u8>; 2] {
    time_of(now)
}

/// A record as it is stored: the global one with a stamp.
pub fn write(global: bool, stamp: [u8; 8], record: &Stored) -> Vec<u8> {
    layout(global, record).write(Stamp(stamp), record)
}

/// The numbers of bytes of a record: of stamp and generation, of these and windows, of all.
pub fn sizes(global: bool, record: &Stored) -> [usize; 3] {
    let layout = layout(global, record);
    [layout.prefix(), layout.identity(), layout.size()]
}

fn layout(global: bool, record: &Stored) -> Layout {
    let windows = record.windows.iter().map(|of| (of.window, of.cells.len()));
    Layout { global, windows: windows.collect() }
}

fn scripts() -> Scripts {
    Scripts::new(Some(ManualClock::at(Timestamp::START_OF_1970)), false)
}
