//! The expected outcome, by `apply` of the core.

use std::collections::BTreeSet;

use limiter_core::operation::{Closed, Guard, Operation, Origin, Step, Verdict, apply};
use limiter_core::{Cell, LevelSet, Span, Stored, TimeZone, Timestamp, Window};
use limiter_redis::fuzzing::scripts;

use super::case::{Case, Dropped, FIELDS, Level, MOST, Script, StoredRecord};
use super::ledger::Ledger;

/// How a case must end.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) letters: String,
    /// The entry of the ledger, or the time at which it has room, where the answer has one.
    pub(crate) entry: Option<Vec<u8>>,
    /// The records as they were, or the records and the limits in the fields to show.
    pub(crate) shown: Vec<Option<Vec<u8>>>,
    /// Of each level the [`FIELDS`] afterwards.
    pub(crate) hot: Vec<Fields>,
    /// The field of the hash more afterwards.
    pub(crate) field: Option<Vec<u8>>,
    pub(crate) ledger: Option<Ledger>,
    /// Of each level the closed days afterwards.
    pub(crate) days: Vec<BTreeSet<(i64, Vec<u8>)>>,
    /// Whether a stored number is so large that Lua rounds it. No valid record has such a number: whatever a script computes
    /// from it, the client refuses the answer as an impossible record.
    pub(crate) inexact: bool,
}

/// The values of [`FIELDS`].
pub(crate) type Fields = [Option<Vec<u8>>; FIELDS.len()];

impl Expected {
    pub(crate) fn of(case: &Case) -> Self {
        let mut hot = vec![FIELDS.map(|_| None); case.levels.len()];
        for record in case.records.iter().filter(|record| case.stores(record)) {
            hot[record.level][record.field].clone_from(&record.bytes);
        }
        let days = |level: &Level| {
            level.closed.iter().map(|end| (*end, end.to_string().into_bytes())).collect()
        };
        let mut expected = Self {
            letters: String::new(),
            entry: None,
            shown: Vec::new(),
            hot,
            field: case.extras.field.clone(),
            ledger: case.extras.ledger.clone(),
            days: case.levels.iter().map(days).collect(),
            inexact: false,
        };
        let before = expected.hot.clone();
        expected.run(case);
        let first = expected.letters.as_bytes().first();
        expected.shown = if matches!(first, Some(b'A' | b'R' | b'N' | b'b'..=b'p')) {
            case.records.iter().map(|record| record.bytes.clone()).collect()
        } else {
            shown(case, &before, &mut expected.letters)
        };
        expected
    }

    fn run(&mut self, case: &Case) {
        if let Some(letter) = refusal_of_extras(case) {
            let ledger = case.extras.ledger.as_ref().filter(|_| letter == 'L');
            self.entry = ledger.and_then(|ledger| ledger.refusal(case.now)).flatten();
            self.letters = letter.into();
            return;
        }
        let mut records = match records(case) {
            Ok(Some(records)) => records,
            Ok(None) => {
                self.inexact = true;
                return;
            }
            Err(Unlike(letter)) => {
                self.letters = letter.into();
                return;
            }
        };
        self.inexact = !is_exact(case, &records);
        let operation = at_any_time(&case.operation, case.operation.steps.len());
        let mut closed = Vec::new();
        let verdict = apply(&mut records, &operation, case.now, &mut closed);
        let done = match verdict {
            Verdict::Applied(done) => done,
            Verdict::Refused => {
                self.letters = "R".repeat(operation.calls.len());
                return;
            }
            verdict => unreachable!("{verdict:?} of records that are as believed"),
        };
        self.letters = done.iter().map(letter).collect();
        if done.is_empty() {
            self.letters.push('A');
        }
        // Making room may drop it.
        let has_entry = self.ledger.as_ref().is_some_and(|ledger| ledger.entry().is_some());
        if let Some(ledger) = &mut self.ledger
            && let Some(full) = ledger.full(case.now)
        {
            (self.letters, self.entry) = ("N".into(), Some(full));
            return;
        }
        let mut identities = Vec::new();
        for (stored, record) in case.records.iter().zip(&records) {
            let stamp = case.levels[stored.level].stamps[1];
            let bytes = scripts::write(stored.is_global(), stamp, record);
            let [prefix, identity, _] = scripts::sizes(stored.is_global(), record);
            identities.extend_from_slice(&bytes[prefix - 4..identity]);
            self.hot[stored.level][stored.field] = Some(bytes);
        }
        if let Some(ledger) = &mut self.ledger {
            let spared = done.first().copied().flatten().unwrap_or(LevelSet::NONE);
            ledger.remember(&identities, spared, has_entry, case.now);
        }
        match case.extras.drop {
            Some(Dropped::Field | Dropped::Whole) => self.field = None,
            Some(Dropped::Record) => {
                if let Some(last) = case.records.last() {
                    self.hot[last.level][last.field] = None;
                }
            }
            None => {}
        }
        // What is dropped may be put anew.
        self.field = case.extras.put.clone().or_else(|| self.field.clone());
        if let Some(kept_after) = case.extras.kept_after.filter(|_| !closed.is_empty()) {
            let kept_after = kept_after.unix_ms().div_euclid(1_000);
            for day in &closed {
                let days = &mut self.days[case.records[day.record].level];
                days.insert(closed_day(case, &records, day));
                days.retain(|(end, _)| *end > kept_after);
            }
        }
    }
}

/// The letter of a call.
fn letter(done: &Option<LevelSet>) -> char {
    match done {
        None => 'R',
        Some(short) if short.is_empty() => 'A',
        Some(short) => char::from(b'a' + short.bits()),
    }
}

/// Of each level the records and the limits in the fields that the script shows, as nothing was compared. If any are of another
/// type, that is its answer.
fn shown(case: &Case, hot: &[Fields], letters: &mut String) -> Vec<Option<Vec<u8>>> {
    let places: Vec<_> = match case.script {
        // It always shows those of all calls, of the asset and of others.
        Script::Take => (0..FIELDS.len()).map(|at| case.names_field(at).then_some(at)).collect(),
        Script::Apply => case.extras.shown.iter().copied().map(Some).collect(),
    };
    let is_read = |(level, it): (usize, &Level)| {
        let is_read_first = case.records.iter().any(|record| record.level == level);
        it.other_type && (is_read_first || !places.is_empty())
    };
    if case.levels.iter().enumerate().any(is_read) {
        *letters = "W".to_owned();
        return Vec::new();
    }
    let levels = hot.iter().zip(&case.levels);
    let fields = levels.flat_map(|(hot, level)| [hot, &level.cold]);
    fields.flat_map(|of| places.iter().map(|at| at.and_then(|at| of[at].clone()))).collect()
}

/// The end of a closed day in seconds, and its account as a member of a set.
fn closed_day(case: &Case, records: &[Stored], day: &Closed) -> (i64, Vec<u8>) {
    let int = |bytes: &mut Vec<u8>, number: i64, width: usize| {
        bytes.extend_from_slice(&number.to_le_bytes()[..width]);
    };
    let end = day.span.end.unix_ms().div_euclid(1_000);
    let mut member = Vec::new();
    int(&mut member, end, 6);
    member.push(day.span.rebases);
    member.extend(records[day.record].generation.to_le_bytes());
    for left in day.left {
        int(&mut member, left, 7);
    }
    member.extend_from_slice(FIELDS[case.records[day.record].field]);
    (end, member)
}

/// The letter of a refusal for other data than the records, or for the time.
fn refusal_of_extras(case: &Case) -> Option<char> {
    let Case { operation, now, extras, .. } = case;
    if case.records.iter().any(|record| case.levels[record.level].other_type) {
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
    let differs = guarded.is_some_and(|it| *it != extras.field.clone().unwrap_or_default());
    (differs || extras.is_absent && extras.field.is_some()).then_some('G')
}

/// A record that is not as believed, and the letter that says so.
struct Unlike(char);

/// The records as they are, if they are as believed; none if one has a window that does not exist.
fn records(case: &Case) -> Result<Option<Vec<Stored>>, Unlike> {
    let mut records = Vec::new();
    for (number, stored) in case.records.iter().enumerate() {
        let template = stored.believed.stored();
        let [prefix, identity, size] = scripts::sizes(stored.is_global(), &template);
        let stamp = case.levels[stored.level].stamps[0];
        let believed = scripts::write(stored.is_global(), stamp, &template);
        let bytes = stored.bytes.as_ref().ok_or(Unlike('S'))?;
        if case.script == Script::Take && bytes.len() != size {
            return Err(Unlike('S'));
        }
        // Windows that must stay as they are belong to what `apply` compares first.
        let step = &case.operation.steps[number];
        let mut ending = step.windows.iter().filter(|of| of.window.ends());
        let stays = ending.all(|of| matches!(of.guard, Guard::Same(seen, next) if seen == next));
        let first = if stays { identity } else { prefix };
        if bytes.get(..first) != Some(&believed[..first]) {
            return Err(Unlike('S'));
        }
        if bytes.len() != size {
            return Err(Unlike('C'));
        }
        let Some(record) = read(&template, &bytes[prefix..]) else { return Ok(None) };
        records.push(record);
        let mut moved = records.clone();
        let mut steps_alone = at_any_time(&case.operation, number + 1);
        steps_alone.calls.clear();
        if apply(&mut moved, &steps_alone, case.now, &mut Vec::new()) == Verdict::Stale {
            return Err(Unlike('S'));
        }
    }
    Ok(Some(records))
}

/// A record from its bytes after stamp and generation.
fn read(believed: &Stored, bytes: &[u8]) -> Option<Stored> {
    let mut rest = bytes;
    let mut int = |width: usize| {
        let (number, after) = rest.split_at(width);
        rest = after;
        let mut wide = [0; 8];
        wide[8 - width..].copy_from_slice(number);
        i64::from_le_bytes(wide) >> (64 - 8 * width)
    };
    let mut record = believed.clone();
    for of in record.windows.iter_mut().filter(|of| of.window.ends()) {
        let end = Timestamp::from_stored_end(int(6) * 1_000)?;
        of.span = Span { end, rebases: int(1) as u8 };
    }
    let cells = |record: &mut Stored, set: &mut dyn FnMut(&mut Cell)| {
        record.windows.iter_mut().flat_map(|of| &mut of.cells).for_each(set);
    };
    cells(&mut record, &mut |cell| cell.mark = int(1) as u8);
    cells(&mut record, &mut |cell| cell.value = int(7));
    Some(record)
}

fn at_any_time(operation: &Operation, records: usize) -> Operation {
    let mut operation = operation.clone();
    let last = Window::Day.end(Timestamp::MAX, &TimeZone::UTC);
    (operation.from, operation.until) = (Timestamp::MIN, last);
    operation.steps.truncate(records);
    operation
}

/// Whether Lua can compute with all numbers without rounding.
fn is_exact(case: &Case, records: &[Stored]) -> bool {
    let steps = case.operation.steps.iter();
    steps.zip(records).all(|(step, record)| {
        let cells = || record.windows.iter().flat_map(|of| &of.cells);
        cells().all(|cell| cell.value.abs() <= MOST) && lefts(step, record).all(is_small)
    })
}

const fn is_small(left: i64) -> bool {
    left.unsigned_abs() <= MOST.unsigned_abs()
}

/// What is left by the cells of a step, those that start and those that go on.
fn lefts<'a>(step: &'a Step, record: &'a Stored) -> impl Iterator<Item = i64> + 'a {
    step.windows.iter().flat_map(move |of| {
        let before = record.windows.iter().find(|it| it.window == of.window);
        let before = before.map(|before| before.cells.as_slice()).unwrap_or_default();
        of.cells.iter().flat_map(move |cell| {
            let floor = |mark: u8| {
                let floors = step.stops.then(|| *cell.ladder.from.floors());
                floors.and_then(|floors| floors.get(usize::from(mark)).copied()).unwrap_or(0)
            };
            let goes_on = match cell.origin {
                Origin::Kept(place) => before.get(place).map(|it| it.value + floor(it.mark)),
                Origin::Account { first, count } => {
                    // No account is below zero.
                    let summed = before[first..first + count].iter().map(|it| it.value);
                    summed.min().filter(|left| *left < 0).map(|_| i64::MAX)
                }
                Origin::Started => None,
            };
            [Some(cell.ladder.to.full() + floor(0)), goes_on].into_iter().flatten()
        })
    })
}

/// Whether a case is about this field.
impl Case {
    fn names_field(&self, at: usize) -> bool {
        // `take` is told the asset of the call, which may meet the limits of others.
        at != 1 || self.asset().is_some()
    }

    /// The field of the asset of the call.
    pub(crate) fn asset(&self) -> Option<&'static [u8]> {
        let of_asset = |record: &StoredRecord| record.field > 0;
        self.records.iter().any(of_asset).then_some(FIELDS[1])
    }
}
