//! Counts of the comparisons.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use limiter_core::KeyId;

use super::case::{Case, Script};
use super::reference::Expected;

/// How often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    takes: u64,
    calls: u64,
    /// By the number of levels, from one.
    levels: [u64; KeyId::MAX_SEGMENTS],
    pub(crate) verdicts: BTreeMap<&'static str, u64>,
    pub(crate) damaged: u64,
    inexact: u64,
    /// With a level that begins, and applied.
    pub(crate) begun: u64,
    ledgers: [u64; 3],
}

impl Tally {
    pub(crate) fn add(&mut self, case: &Case, expected: &Expected) {
        self.operations += 1;
        self.takes += u64::from(case.script == Script::Take);
        self.calls += case.operation.calls.len() as u64;
        self.levels[case.levels.len() - 1] += 1;
        self.damaged += u64::from(case.is_damaged());
        if let Some(ledger) = &case.extras.ledger {
            self.ledgers[usize::from(ledger.kind) - 1] += 1;
        }
        if expected.inexact {
            self.inexact += 1;
            return;
        }
        let letters = &expected.letters;
        let is_applied = letters.contains(|letter| matches!(letter, 'A' | 'b'..='p'));
        self.begun += u64::from(is_applied && case.extras.begins.is_some());
        let verdict = match letters.as_bytes().first() {
            _ if letters.contains(|letter| matches!(letter, 'b'..='p')) => {
                "applied but to some levels"
            }
            Some(b'A' | b'R') if is_applied && letters.contains('R') => "applied in part",
            Some(b'A') => "applied",
            Some(b'R') => "refused",
            Some(b'T') => "untimely",
            Some(b'X') => "late",
            Some(b'S') => "stale",
            Some(b'G') => "guarded",
            Some(b'L') => "listed",
            Some(b'N') => "full",
            Some(b'W') => "of another type",
            _ => "of another size",
        };
        *self.verdicts.entry(verdict).or_default() += 1;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.takes += other.takes;
        self.calls += other.calls;
        self.damaged += other.damaged;
        self.inexact += other.inexact;
        self.begun += other.begun;
        for (all, more) in self.levels.iter_mut().zip(other.levels) {
            *all += more;
        }
        for (verdict, count) in other.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
        for (all, more) in self.ledgers.iter_mut().zip(other.ledgers) {
            *all += more;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, takes, calls, damaged, inexact, begun, .. } = self;
        let [ids, new, known] = self.ledgers;
        let applies = operations - takes;
        writeln!(
            f,
            "{operations} operations of {calls} calls: {takes} by take, {applies} by apply"
        )?;
        let [one, two, three, four] = self.levels;
        writeln!(f, "{one} of one level, {two} of two, {three} of three, {four} of four")?;
        let verdicts = self.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}"));
        writeln!(f, "{}", verdicts.collect::<Vec<_>>().join(", "))?;
        writeln!(f, "{begun} of those that were applied began a level")?;
        writeln!(
            f,
            "{damaged} on damaged records; {inexact} of them have a number that no record has"
        )?;
        write!(f, "with a ledger: {ids} on ids, {new} on new reservations, {known} on known ones")
    }
}
