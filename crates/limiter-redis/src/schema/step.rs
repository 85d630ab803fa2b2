//! Operations as `apply.lua` takes them.

use limiter_core::operation::{Guard, Operation, Origin, Step, WindowStep};
use limiter_core::{Ladder, STOPS, Span, Stops, Timestamp, Window};

use super::Stamp;
use super::bytes::push_int;
use super::hot::{push_end, push_span};

/// How much of each kind comes with an operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// The fields that are shown if nothing was compared.
    pub(crate) shown: usize,
    pub(crate) guards: usize,
    pub(crate) puts: usize,
    pub(crate) drops: usize,
    /// The keys that are to live for a while.
    pub(crate) lives: usize,
    /// The number of the level, from 1, that is not there yet, so that its records come along; 0 for none.
    pub(crate) begins: u8,
    pub(crate) ledger: u8,
    /// The number of the key of closed days of the outermost level, which those of the others follow, and the end of the last one that is not kept.
    pub(crate) history: Option<(usize, Timestamp)>,
}

/// An operation on the records of levels, of which the first of each, the global one, has these stamps: the one that must be
/// there, and the next. It must not be done after this time of the server; 0 stands for any.
pub(crate) fn packed(
    operation: &Operation,
    stamps: &[[Stamp; 2]],
    not_after: u64,
    counted: Counted,
) -> Vec<u8> {
    let Operation { from, until, steps, soft, calls } = operation;
    let records = |level| steps.iter().filter(|step| step.level == level).count();
    let records: Vec<_> = (0..stamps.len()).map(records).collect();
    let mut bytes = head(*from, *until, not_after, &records, soft.bits(), calls.len(), counted);
    let mut last = None;
    for step in steps {
        let is_first = last != Some(step.level);
        last = Some(step.level);
        push_step(&mut bytes, step, stamps.get(step.level).copied().filter(|_| is_first));
    }
    for takes in calls.iter().flatten().flatten() {
        push_int::<7>(&mut bytes, takes.least);
        push_int::<7>(&mut bytes, takes.less);
    }
    bytes
}

/// An operation that is never done, to see these fields of so many levels, and the ledger.
pub(crate) fn look(levels: usize, shown: usize, ledger: u8) -> Vec<u8> {
    let never = Timestamp::START_OF_1970;
    head(never, never, 0, &vec![0; levels], 0, 0, Counted { shown, ledger, ..Counted::default() })
}

fn head(
    from: Timestamp,
    until: Timestamp,
    not_after: u64,
    records: &[usize],
    soft: u8,
    calls: usize,
    counted: Counted,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    push_int::<7>(&mut bytes, from.unix_ms());
    // An end of a window may lie after the last instant; the largest number stands for no end.
    push_int::<7>(&mut bytes, until.unix_ms().min(NO_END));
    push_int::<7>(&mut bytes, i64::try_from(not_after).unwrap_or(NO_END).min(NO_END));
    let Counted { shown, guards, puts, drops, lives, begins, ledger, history } = counted;
    let short = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
    for count in [records.iter().sum(), shown, calls, guards, puts, drops] {
        bytes.extend(short(count));
    }
    let (key, kept_after) = history.unwrap_or((0, Timestamp::START_OF_1970));
    bytes.extend([ledger, key as u8]);
    push_end(&mut bytes, kept_after);
    bytes.extend([records.len() as u8, soft, begins, lives as u8]);
    bytes.extend(records.iter().flat_map(|count| short(*count)));
    bytes
}

fn push_step(bytes: &mut Vec<u8>, step: &Step, stamps: Option<[Stamp; 2]>) {
    // Windows that are only compared belong to the bytes that a record must begin with.
    let ending = || step.windows.iter().filter(|of| of.window.ends());
    let as_seen = ending().all(|of| matches!(of.guard, Guard::Same(seen, next) if seen == next));
    let blocks: &[WindowStep] = if as_seen { &[] } else { &step.windows };
    for at in 0..2 {
        let stamp = stamps.map(|stamps| stamps[at]);
        let start = bytes.len();
        bytes.push(0);
        bytes.extend(stamp.into_iter().flat_map(|stamp| stamp.0));
        bytes.extend(step.generation.to_le_bytes());
        for of in ending().filter(|_| as_seen) {
            if let Guard::Same(span, _) = of.guard {
                push_span(bytes, span);
            }
        }
        bytes[start] = (bytes.len() - start - 1) as u8;
    }
    let cells: Vec<_> = step.cells().collect();
    let before: usize = step.windows.iter().map(|of| of.before).sum();
    let reshaped = step.windows.iter().any(|of| {
        let kept = |(place, cell): (usize, &limiter_core::operation::CellStep)| {
            cell.origin == Origin::Kept(place)
        };
        of.before != of.cells.len() || !of.cells.iter().enumerate().all(kept)
    });
    let blocks: &[WindowStep] = if reshaped { &step.windows } else { blocks };
    let begins =
        |of: &WindowStep| matches!(of.guard, Guard::Roll(_) | Guard::Anew(..) | Guard::Begin(_));
    let starts = reshaped || step.windows.iter().any(begins);
    let ladders: &[_] = if step.stops { &cells } else { &[] };
    let moves = ladders.iter().any(|cell| cell.ladder != Ladder::same(cell.ladder.to));
    let stride = 1 + ladders.iter().map(|cell| stops_of(&cell.ladder)).max().unwrap_or(0);
    let kind = match (step.stops, moves) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let compared =
        blocks.iter().filter(|of| of.window.ends() && !matches!(of.guard, Guard::Begin(_)));
    let spans = if as_seen { 0 } else { compared.count() };
    let [reshaped, starts] = [reshaped, starts].map(usize::from);
    let header = [spans, before, cells.len(), blocks.len(), reshaped, starts, kind, stride];
    bytes.extend(header.map(|number| number as u8));
    if starts > 0 {
        for cell in &cells {
            push_int::<7>(bytes, cell.ladder.from.full());
        }
    }
    // Of each cell what must be left by mark, and at last the cap.
    if step.stops {
        push_stops(bytes, stride, ladders.iter().map(|cell| &cell.ladder.to));
        if moves {
            push_stops(bytes, stride, ladders.iter().map(|cell| &cell.ladder.from));
            for cell in ladders {
                bytes.extend_from_slice(&cell.ladder.start[..stride - 1]);
            }
        }
    }
    for of in blocks {
        push_block(bytes, of, as_seen, reshaped > 0);
    }
}

/// The number of stops that say anything: those at the end that do not are left out.
pub(crate) fn stops_of(ladder: &Ladder) -> usize {
    let Ladder { from, start, to } = ladder;
    let says = |at: &usize| (from.floors()[*at], start[*at], to.floors()[*at]) != (0, *at as u8, 0);
    (0..STOPS).rev().find(says).map_or(0, |last| last + 1)
}

/// Of each cell what must be left by mark, and at last the cap.
pub(crate) fn push_stops<'a>(
    bytes: &mut Vec<u8>,
    stride: usize,
    stops: impl Iterator<Item = &'a Stops>,
) {
    for stops in stops {
        for floor in &stops.floors()[..stride - 1] {
            push_int::<7>(bytes, *floor);
        }
        push_int::<7>(bytes, stops.cap());
    }
}

fn push_block(bytes: &mut Vec<u8>, of: &WindowStep, as_seen: bool, reshaped: bool) {
    let (mode, seen, next) = match of.guard {
        Guard::Keep => (KEEP, NO_SPAN, NO_SPAN),
        Guard::Same(..) if as_seen => (KEEP, NO_SPAN, NO_SPAN),
        Guard::Same(seen, next) => (SAME, seen, next),
        Guard::Roll(end) => (ROLL, Span { end, rebases: 0 }, NO_SPAN),
        Guard::Anew(seen, next) => (ANEW, seen, next),
        Guard::Begin(next) => (BEGIN, NO_SPAN, next),
        Guard::End(seen) => (END, seen, NO_SPAN),
    };
    let ends =
        of.window.ends() && !as_seen || matches!(of.guard, Guard::Begin(_)) && of.window.ends();
    let is_day = of.window == Window::Day;
    let cells = if matches!(of.guard, Guard::End(_)) { 0 } else { of.cells.len() };
    bytes.extend([mode, u8::from(ends), u8::from(is_day), of.before as u8, cells as u8]);
    if ends {
        push_span(bytes, seen);
        push_span(bytes, next);
    }
    if !reshaped {
        return;
    }
    for cell in of.cells.iter().take(cells) {
        match cell.origin {
            Origin::Kept(place) => bytes.push(place as u8),
            Origin::Started => bytes.push(STARTED),
            Origin::Account { first, count } => {
                bytes.extend([ACCOUNT, first as u8, count as u8]);
            }
        }
    }
}

const KEEP: u8 = 0;
const SAME: u8 = 1;
const ROLL: u8 = 2;
const ANEW: u8 = 3;
const BEGIN: u8 = 4;
const END: u8 = 5;
/// In place of the place of a cell before.
const STARTED: u8 = 255;
const ACCOUNT: u8 = 254;
const NO_SPAN: Span = Span { end: Timestamp::START_OF_1970, rebases: 0 };
/// Fits into seven bytes, and a script reads it exactly.
const NO_END: i64 = 1 << 54;
