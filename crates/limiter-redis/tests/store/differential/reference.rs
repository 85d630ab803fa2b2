//! The expected outcome, by `apply` of the core.

use limiter_core::operation::{Guard, Operation, Step, Verdict, apply};
use limiter_core::{Amount, METERS, Record, Span, Timestamp, Window};
use limiter_redis::fuzzing::scripts;

use super::case::{Case, Dropped, MOST, Script, Stored, counted};
use super::ledger::Ledger;

/// How a case must end.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) letters: String,
    /// The entry of the ledger, or the time at which it has room, where the answer has one.
    pub(crate) entry: Option<Vec<u8>>,
    /// The field of each record afterwards.
    pub(crate) hot: Vec<Option<Vec<u8>>>,
    /// The field of the third hash afterwards.
    pub(crate) field: Option<Vec<u8>>,
    pub(crate) ledger: Option<Ledger>,
    /// Whether a stored number is so large that Lua rounds it. No valid record has such a number: whatever a script computes
    /// from it, the client refuses the answer as an impossible record.
    pub(crate) inexact: bool,
}

impl Expected {
    pub(crate) fn of(case: &Case) -> Self {
        let before = Self {
            letters: String::new(),
            entry: None,
            hot: case.records.iter().map(|record| record.bytes.clone()).collect(),
            field: case.extras.field.clone(),
            ledger: case.extras.ledger.clone(),
            inexact: false,
        };
        if let Some(letter) = refusal_of_extras(case) {
            let ledger = case.extras.ledger.as_ref().filter(|_| letter == 'L');
            let entry = ledger.and_then(|ledger| ledger.refusal(case.now)).flatten();
            return Self { letters: letter.into(), entry, ..before };
        }
        let records = match records(case) {
            Ok(records) => records,
            Err(Unlike(letter)) => return Self { letters: letter.into(), ..before },
        };
        let Some(mut records) = records else {
            return Self { inexact: true, ..before };
        };
        let inexact = !is_exact(case, &records);
        let operation = at_any_time(&case.operation, case.operation.steps.len());
        let mut parts: Vec<_> = records.iter_mut().collect();
        let letters: String = match apply(&mut parts, &operation, case.now) {
            Verdict::Applied(done) if done.is_empty() => "A".into(),
            Verdict::Applied(done) => {
                done.iter().map(|done| if *done { 'A' } else { 'R' }).collect()
            }
            Verdict::Refused => "R".repeat(operation.calls.len()),
            verdict => unreachable!("{verdict:?} of records that are as believed"),
        };
        if !letters.contains('A') {
            return Self { letters, inexact, ..before };
        }
        let mut ledger = before.ledger.clone();
        // Making room may drop it.
        let has_entry = ledger.as_ref().is_some_and(|ledger| ledger.entry().is_some());
        if let Some(ledger) = &mut ledger
            && let Some(full) = ledger.full(case.now)
        {
            let (letters, ledger) = ("N".into(), Some(ledger.clone()));
            return Self { letters, entry: Some(full), ledger, inexact, ..before };
        }
        let stamp = case.stamps[1];
        let hot: Vec<_> = case
            .records
            .iter()
            .zip(&records)
            .map(|(stored, record)| {
                let spans = Window::ALL.map(|window| record.span(window));
                let after = stored.after.with_unchecked(
                    record.generation(),
                    spans,
                    *record.values(),
                    *record.marks(),
                );
                scripts::write(stamp, &after)
            })
            .collect();
        if let Some(ledger) = &mut ledger {
            let identity = |(stored, bytes): (&Stored, &Vec<u8>)| {
                let [prefix, identity, _] = scripts::sizes(&stored.after);
                bytes[prefix - 4..identity].to_vec()
            };
            let identities: Vec<_> = case.records.iter().zip(&hot).map(identity).collect();
            ledger.remember(&identities.concat(), has_entry, case.now);
        }
        let mut field = case.extras.put.clone().or(before.field);
        if matches!(case.extras.drop, Some(Dropped::Field | Dropped::Whole)) {
            field = None;
        }
        let hot = hot.into_iter().map(Some).collect();
        Self { letters, entry: None, hot, field, ledger, inexact }
    }
}

/// The letter of a refusal for other data than the records, or for the time.
fn refusal_of_extras(case: &Case) -> Option<char> {
    let Case { operation, now, extras, .. } = case;
    if case.other_type {
        return Some('W');
    }
    if extras.ledger.as_ref().is_some_and(|ledger| ledger.refusal(*now).is_some()) {
        return Some('L');
    }
    let untimely = match case.script {
        Script::Apply => *now < operation.from || *now >= operation.until,
        // In whole seconds.
        Script::Take => {
            let second = now.unix_ms().div_euclid(1_000);
            let from = (operation.from.unix_ms() + 999).div_euclid(1_000);
            second < from || second >= operation.until.unix_ms().div_euclid(1_000)
        }
    };
    if untimely {
        return Some('T');
    }
    // The clock of the server itself is between the two.
    if extras.not_after == 1 {
        return Some('X');
    }
    let guarded = extras.guard.as_ref();
    guarded.filter(|guard| **guard != extras.field.clone().unwrap_or_default()).map(|_| 'G')
}

/// A record that is not as believed, and the letter that says so.
struct Unlike(char);

/// The records as they are, if they are as believed; none if one has a window that does not exist.
fn records(case: &Case) -> Result<Option<Vec<Record>>, Unlike> {
    let mut records = Vec::new();
    for (number, stored) in case.records.iter().enumerate() {
        let [prefix, identity, size] = scripts::sizes(&stored.believed);
        let believed = scripts::write(case.stamps[0], &stored.believed);
        let bytes = stored.bytes.as_ref().ok_or(Unlike('S'))?;
        if case.script == Script::Take && bytes.len() != size {
            return Err(Unlike('S'));
        }
        // Windows that must stay as they are belong to what `apply` compares first.
        let step = &case.operation.steps[number];
        let stays = |guard: &Guard| matches!(guard, Guard::Same(seen, next) if seen == next);
        let is_identity = step.has_windows && step.guards.iter().all(stays);
        let first = if is_identity { identity } else { prefix };
        if bytes.get(..first) != Some(&believed[..first]) {
            return Err(Unlike('S'));
        }
        if bytes.len() != size {
            return Err(Unlike('C'));
        }
        let Some(record) = read(&stored.believed, &bytes[prefix..]) else { return Ok(None) };
        records.push(record);
        let mut moved = records.clone();
        let mut steps_alone = at_any_time(&case.operation, number + 1);
        steps_alone.calls.clear();
        let mut parts: Vec<_> = moved.iter_mut().collect();
        if apply(&mut parts, &steps_alone, case.now) == Verdict::Stale {
            return Err(Unlike('S'));
        }
    }
    Ok(Some(records))
}

/// A record from its bytes after stamp and generation.
fn read(believed: &Record, bytes: &[u8]) -> Option<Record> {
    let mut rest = bytes;
    let mut int = |width: usize| {
        let (number, after) = rest.split_at(width);
        rest = after;
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(number);
        i64::from_le_bytes(wide) >> (64 - 8 * width)
    };
    let mut spans = Window::ALL.map(|window| believed.span(window));
    if believed.has_windows() {
        for (window, span) in Window::ALL.into_iter().zip(&mut spans) {
            let end = window.end_of_number(int(5))?;
            *span = Span { end, rebases: int(1) as u8 };
        }
    }
    let (mut values, mut marks) = ([0; METERS], [0; METERS]);
    for meter in counted(believed) {
        marks[meter] = int(1) as u8;
    }
    for meter in counted(believed) {
        values[meter] = int(7);
    }
    Some(believed.with_unchecked(believed.generation(), spans, values, marks))
}

fn at_any_time(operation: &Operation, records: usize) -> Operation {
    let mut operation = operation.clone();
    (operation.from, operation.until) = (Timestamp::MIN, Window::Day.end(Timestamp::MAX));
    operation.steps.truncate(records);
    operation
}

/// Whether Lua can compute with all numbers without rounding.
fn is_exact(case: &Case, records: &[Record]) -> bool {
    let steps = case.operation.steps.iter();
    steps.zip(records).all(|(step, record)| {
        (0..METERS).filter(|meter| step.counts[*meter] != Amount::Nothing).all(|meter| {
            let [value, start] =
                [(record.values()[meter], record.marks()[meter]), (step.start[meter], 0)]
                    .map(|(value, mark)| left(step, meter, value, mark));
            [value, start].into_iter().all(|left| left.abs() <= MOST)
                && record.values()[meter].abs() <= MOST
        })
    })
}

fn left(step: &Step, meter: usize, value: i64, mark: u8) -> i64 {
    let floors = step.ladders.as_ref().map(|ladders| *ladders[meter].from.floors());
    let floor = floors.and_then(|floors| floors.get(usize::from(mark)).copied());
    value + floor.unwrap_or(0)
}
