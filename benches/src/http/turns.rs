//! Time: all subjects in turns, and the time that each adds to the bare one within the round.

use std::time::{Duration, Instant};

use super::subject::{SUBJECTS, Subject};
use crate::rounds::median;

/// The duration of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rounds: usize,
    turn: Duration,
}

impl Effort {
    /// For the published figures.
    pub const FULL: Self = Self { rounds: 41, turn: Duration::from_millis(50) };

    /// A short run that shows that all works.
    pub const QUICK: Self = Self { rounds: 5, turn: Duration::from_millis(5) };
}

/// The times of one subject.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Its name.
    pub name: &'static str,
    /// Nanoseconds for one call, the median of the rounds.
    pub ns: f64,
    /// The time added to the bare one in the same round, the median of the rounds.
    pub added_ns: f64,
}

/// Measures all subjects.
#[must_use]
pub fn measure(effort: Effort) -> Vec<Turns> {
    let mut subjects: Vec<Subject> =
        SUBJECTS.iter().filter_map(|(name, _)| Subject::named(name)).collect();
    // The same number for all subjects, since differences are compared.
    let calls = calls_in(&mut subjects[0], effort.turn);
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    for round in 0..effort.rounds {
        // The order alternates, so that no subject always follows the same neighbour.
        let order: Vec<usize> = match round % 2 {
            0 => (0..subjects.len()).collect(),
            _ => (0..subjects.len()).rev().collect(),
        };
        for index in order {
            // The caches hold data of the previous subject.
            subjects[index].call(calls / LEAD_IN_DIVISOR);
            rounds[index].push(time(&mut subjects[index], calls));
        }
    }
    let added = |own: &[f64]| {
        let added: Vec<f64> = own.iter().zip(&rounds[0]).map(|(own, bare)| own - bare).collect();
        median(&added)
    };
    let names = subjects.iter().map(|subject| subject.name);
    names
        .zip(&rounds)
        .map(|(name, own)| Turns { name, ns: median(own), added_ns: added(own) })
        .collect()
}

/// Returns the nanoseconds for one call.
fn time(subject: &mut Subject, calls: usize) -> f64 {
    let start = Instant::now();
    subject.call(calls);
    start.elapsed().as_nanos() as f64 / calls as f64
}

/// Returns the number of calls that fit, found by doubling.
fn calls_in(subject: &mut Subject, turn: Duration) -> usize {
    let mut calls = FEWEST_CALLS;
    while Duration::from_nanos((time(subject, calls) * calls as f64) as u64) < turn {
        calls *= 2;
    }
    calls
}

/// The part of a turn that is added before it, untimed.
const LEAD_IN_DIVISOR: usize = 8;

/// Makes the time to read the clock negligible.
const FEWEST_CALLS: usize = 256;
