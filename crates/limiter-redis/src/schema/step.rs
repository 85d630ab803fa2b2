//! Operations as `apply.lua` takes them.

use limiter_core::operation::{Guard, Operation, Step};
use limiter_core::{
    Amount, CREDITS, Ladder, METERS, STOPS, Span, Stops, Timestamp, WINDOWS, Window,
};

use super::Stamp;
use super::bytes::push_int;
use super::hot::push_span;

/// How much of each kind comes with an operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) guards: usize,
    pub(crate) puts: usize,
    pub(crate) drops: usize,
    pub(crate) ledger: u8,
}

/// An operation on records, of which the first, the global one, has these stamps: the one that must be there, and the next. It
/// must not be done after this time of the server; 0 stands for any.
pub(crate) fn packed(
    operation: &Operation,
    stamps: [Stamp; 2],
    not_after: u64,
    counted: Counted,
) -> Vec<u8> {
    let Operation { from, until, steps, calls } = operation;
    let mut bytes = head(*from, *until, not_after, steps.len(), calls.len(), counted);
    for (number, step) in steps.iter().enumerate() {
        push_step(&mut bytes, step, (number == 0).then_some(stamps));
    }
    for call in calls {
        for (step, takes) in steps.iter().zip(call) {
            for meter in counted_meters(step) {
                push_int::<7>(&mut bytes, takes[meter].least);
                push_int::<7>(&mut bytes, takes[meter].less);
            }
        }
    }
    bytes
}

/// An operation that is never done, to see this many records and the ledger.
pub(crate) fn look(records: usize, ledger: u8) -> Vec<u8> {
    let never = Timestamp::START_OF_1970;
    head(never, never, 0, records, 0, Counted { ledger, ..Counted::default() })
}

fn head(
    from: Timestamp,
    until: Timestamp,
    not_after: u64,
    records: usize,
    calls: usize,
    counted: Counted,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    push_int::<7>(&mut bytes, from.unix_ms());
    // An end of a window may lie after the last instant; the largest number stands for no end.
    push_int::<7>(&mut bytes, until.unix_ms().min(NO_END));
    push_int::<7>(&mut bytes, i64::try_from(not_after).unwrap_or(NO_END).min(NO_END));
    let Counted { guards, puts, drops, ledger } = counted;
    for count in [records, calls, guards, puts, drops] {
        bytes.extend(u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
    }
    bytes.push(ledger);
    bytes
}

/// The numbers of the meters that are counted afterwards.
pub(crate) fn counted_meters(step: &Step) -> impl Iterator<Item = usize> + '_ {
    (0..METERS).filter(|meter| step.counts[*meter] != Amount::Nothing)
}

fn push_step(bytes: &mut Vec<u8>, step: &Step, stamps: Option<[Stamp; 2]>) {
    // Windows that are only compared belong to the bytes that a record must begin with.
    let as_seen = |guard: &Guard| matches!(guard, Guard::Same(seen, next) if seen == next);
    let as_seen = step.has_windows && step.guards.iter().all(as_seen);
    for (at, generation) in step.generations.into_iter().enumerate() {
        let stamp = stamps.map(|stamps| stamps[at]);
        let start = bytes.len();
        bytes.push(0);
        bytes.extend(stamp.into_iter().flat_map(|stamp| stamp.0));
        bytes.extend(generation.to_le_bytes());
        for (window, guard) in Window::ALL.into_iter().zip(step.guards) {
            if let Guard::Same(span, _) = guard
                && as_seen
            {
                push_span(bytes, window, span);
            }
        }
        bytes[start] = (bytes.len() - start - 1) as u8;
    }
    let has = |is: fn(&Guard) -> bool| step.guards.iter().any(is);
    let (begins, ends) =
        (has(|it| matches!(it, Guard::Begin(_))), has(|it| matches!(it, Guard::End(_))));
    let starts = begins || has(|it| matches!(it, Guard::Roll(_) | Guard::Anew(..)));
    let windows = if step.has_windows && !as_seen { WINDOWS } else { 0 };
    let blocks = if windows > 0 || begins { WINDOWS } else { 0 };
    let meters = if step.has_windows { 2 * WINDOWS } else { 0 };
    let ever = usize::from(step.counts[CREDITS] != Amount::Nothing);
    let count = counted_meters(step).count();
    let ladders = step.ladders.as_ref();
    let moves =
        ladders.is_some_and(|ladders| counted_meters(step).any(|meter| !is_same(&ladders[meter])));
    let stride = 1 + ladders.map_or(0, |ladders| {
        counted_meters(step).map(|meter| stops_of(&ladders[meter])).max().unwrap_or(0)
    });
    let kind = match ladders {
        None => 0,
        Some(_) if moves => 2,
        Some(_) => 1,
    };
    let [changes_shape, started] = [begins || ends, starts].map(usize::from);
    let stored = [windows, meters + ever, count, blocks, ever];
    let header = stored.into_iter().chain([changes_shape, started, kind, stride]);
    bytes.extend(header.map(|number| number as u8));
    if starts {
        for meter in counted_meters(step) {
            push_int::<7>(bytes, step.start[meter]);
        }
    }
    for (window, guard) in Window::ALL.into_iter().zip(step.guards).take(blocks) {
        push_guard(bytes, window, guard);
    }
    if let Some(ladders) = ladders {
        push_stops(bytes, stride, counted_meters(step).map(|meter| &ladders[meter].to));
        if moves {
            push_stops(bytes, stride, counted_meters(step).map(|meter| &ladders[meter].from));
            for meter in counted_meters(step) {
                bytes.extend_from_slice(&ladders[meter].start[..stride - 1]);
            }
        }
    }
}

fn is_same(ladder: &Ladder) -> bool {
    *ladder == Ladder::same(ladder.to)
}

/// The number of stops that say anything: those at the end that do not are left out.
pub(crate) fn stops_of(ladder: &Ladder) -> usize {
    let Ladder { from, start, to } = ladder;
    let says = |at: &usize| (from.floors()[*at], start[*at], to.floors()[*at]) != (0, *at as u8, 0);
    (0..STOPS).rev().find(says).map_or(0, |last| last + 1)
}

/// Of each meter what must be left by mark, and at last the cap.
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

fn push_guard(bytes: &mut Vec<u8>, window: Window, guard: Guard) {
    let (mode, seen, next) = match guard {
        Guard::Keep => (KEEP, NO_SPAN, NO_SPAN),
        Guard::Same(seen, next) => (SAME, seen, next),
        Guard::Roll(end) => (ROLL, Span { end, rebases: 0 }, NO_SPAN),
        Guard::Anew(seen, next) => (ANEW, seen, next),
        Guard::Begin(next) => (BEGIN, NO_SPAN, next),
        Guard::End(seen) => (END, seen, NO_SPAN),
    };
    bytes.extend([mode, METERS_OF_WINDOW]);
    push_span(bytes, window, seen);
    push_span(bytes, window, next);
}

const METERS_OF_WINDOW: u8 = 2;
const KEEP: u8 = 0;
const SAME: u8 = 1;
const ROLL: u8 = 2;
const ANEW: u8 = 3;
const BEGIN: u8 = 4;
const END: u8 = 5;
const NO_SPAN: Span = Span { end: Timestamp::START_OF_1970, rebases: 0 };
/// Fits into seven bytes, and a script reads it exactly.
const NO_END: i64 = 1 << 54;
