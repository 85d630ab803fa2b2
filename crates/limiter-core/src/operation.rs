//! The one operation on stored records: compare, then add, all of it or nothing.
//!
//! [`prepare`](crate::prepare) writes an operation, [`apply`] does it, and [`explain`](crate::explain) makes the answer.
//! `apply` contains no rules: a remote store does the same on its server. The records are those of one call: the global one,
//! then the asset's if it is counted.

use smallvec::SmallVec;

use crate::charge::Amount;
use crate::clock::Timestamp;
use crate::meter::{Ladder, Take};
use crate::record::{METERS, Record, Span, WINDOWS, meters_of};
use crate::window::Window;

/// The comparisons and additions for stored records, valid from `from` until just before `until`.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The first instant at which it may be done.
    pub from: Timestamp,
    /// The first instant at which it may not be done any more.
    pub until: Timestamp,
    /// The step of each record, before any call.
    pub steps: SmallVec<[Step; 2]>,
    /// The calls in their order, with the amounts that each takes from each record. Each call is done in full or not at all.
    /// Without any call the steps alone are stored.
    pub calls: SmallVec<[SmallVec<[Takes; 2]>; 1]>,
}

/// The amounts that a call takes from the meters of a record.
pub type Takes = [Take; METERS];

/// The part of an operation that concerns one record.
#[derive(Clone, Debug)]
pub struct Step {
    /// The generation that the record must have, and the one that it has afterwards.
    pub generations: [u32; 2],
    /// The guards of its windows.
    pub guards: [Guard; WINDOWS],
    /// The values of meters whose window begins, expressed in the stops before. Their marks are zero.
    pub start: [i64; METERS],
    /// Whether the record has windows before.
    pub has_windows: bool,
    /// The amount of a charge that each meter counts afterwards.
    pub counts: [Amount; METERS],
    /// The stops of the meters. Without them a take is compared with the value itself, and no mark moves.
    pub ladders: Option<[Ladder; METERS]>,
}

/// A comparison of a stored window, and the window afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is compared, and the window stays as it is stored.
    Keep,
    /// The window must be the first of these, and is the second afterwards: the same, or rebased.
    Same(Span, Span),
    /// The window that ends here is current: it replaces an older one, and stays if it is stored already. A later window must
    /// not be stored.
    Roll(Timestamp),
    /// The window must be the first of these. A new counting of the scope begins, in the second.
    Anew(Span, Span),
    /// The scope was not counted: this window begins.
    Begin(Span),
    /// The window must be this one. The scope is not counted any more.
    End(Span),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done; whether each call was done, in their order.
    Applied(SmallVec<[bool; 1]>),
    /// In every call, some meter has less than the required least value: nothing was done.
    Refused,
    /// A record has changed since the operation was prepared: nothing was done.
    Stale,
    /// It is too early or too late: nothing was done.
    Untimely,
}

/// Does an operation on the records, all of it or nothing.
pub fn apply(records: &mut [&mut Record], operation: &Operation, now: Timestamp) -> Verdict {
    if now < operation.from || now >= operation.until {
        return Verdict::Untimely;
    }
    let mut moved = SmallVec::<[Record; 2]>::new();
    for (record, step) in records.iter().zip(&operation.steps) {
        match step.moved(record) {
            Some(record) => moved.push(record),
            None => return Verdict::Stale,
        }
    }
    let mut done = SmallVec::new();
    for call in &operation.calls {
        let mut taken = moved.clone();
        let mut parts = taken.iter_mut().zip(&operation.steps).zip(call);
        let fits = parts.all(|((record, step), takes)| step.take(record, takes));
        if fits {
            moved = taken;
        }
        done.push(fits);
    }
    if !operation.calls.is_empty() && !done.contains(&true) {
        return Verdict::Refused;
    }
    for (record, moved) in records.iter_mut().zip(moved) {
        **record = moved;
    }
    Verdict::Applied(done)
}

impl Step {
    /// Ends the windows of a scope that is not counted any more, if they are those that were seen.
    pub(crate) fn end(&mut self, seen: [Span; WINDOWS]) {
        self.generations[1] = 0;
        self.guards = seen.map(Guard::End);
        for meter in Window::ALL.into_iter().flat_map(meters_of) {
            self.start[meter] = Record::UNCOUNTED.values[meter];
            self.counts[meter] = Amount::Nothing;
        }
    }

    /// Returns the record with its windows moved, if they are as expected.
    fn moved(&self, record: &Record) -> Option<Record> {
        let [seen, next] = self.generations;
        if record.generation != seen {
            return None;
        }
        let mut moved = Record { generation: next, ..*record };
        for (window, guard) in Window::ALL.into_iter().zip(self.guards) {
            let stored = record.span(window);
            let (span, begins) = match guard {
                Guard::Keep => continue,
                Guard::Same(seen, next) if seen == stored => (next, false),
                Guard::Roll(end) if stored.end <= end => (Span { end, ..stored }, stored.end < end),
                Guard::Anew(seen, next) if seen == stored => (next, true),
                Guard::Begin(next) => (next, true),
                Guard::End(seen) if seen == stored => (Record::UNCOUNTED.span(window), true),
                _ => return None,
            };
            moved.set_span(window, span);
            if begins {
                for meter in meters_of(window) {
                    (moved.values[meter], moved.marks[meter]) = (self.start[meter], 0);
                }
            }
        }
        Some(moved)
    }

    /// Takes from all meters, or stops at the first that has too little.
    fn take(&self, record: &mut Record, takes: &Takes) -> bool {
        for meter in (0..METERS).filter(|meter| self.counts[*meter] != Amount::Nothing) {
            let take = takes[meter];
            let (value, mark) = (record.values[meter], record.marks[meter]);
            let taken = match &self.ladders {
                Some(ladders) => ladders[meter].take(value, mark, take),
                None => (value >= take.least).then(|| (value.saturating_sub(take.less), mark)),
            };
            let Some(taken) = taken else { return false };
            (record.values[meter], record.marks[meter]) = taken;
        }
        true
    }
}
