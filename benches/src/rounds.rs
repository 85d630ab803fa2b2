//! Time: all subjects in turns.
//!
//! The speed of a machine drifts with its clock, its neighbours and its caches, by more than the differences of
//! interest. So every round gives each subject one turn, a fraction of a second long, and subjects are compared within
//! the round. The median over rounds is the figure.

use std::ops::Range;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::subject::{BASELINE, SUBJECTS, Subject};
use crate::workload::{Plan, Workload};

/// The duration of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds for each workload.
    pub rounds: usize,
    /// The duration of a turn of a slow subject. A quick subject ends sooner, after a million decisions.
    pub turn: Duration,
    /// Use only the first accesses, a power of two, and their keys; `None` uses all.
    pub shortened_to: Option<usize>,
}

impl Effort {
    /// For the published figures.
    pub const FULL: Self = Self { rounds: 9, turn: Duration::from_millis(300), shortened_to: None };

    /// A short run that shows that all works. Fewer keys make warmer caches.
    pub const QUICK: Self =
        Self { rounds: 3, turn: Duration::from_millis(30), shortened_to: Some(1 << 13) };
}

/// The times of one subject on one workload.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The subject.
    pub subject: &'static str,
    /// The workload.
    pub workload: Workload,
    /// Decisions of each thread in one turn.
    pub decisions: usize,
    /// Nanoseconds for one decision, one figure for each round, in the order of the rounds.
    pub rounds_ns: Vec<f64>,
    /// The same divided by the baseline's in the same round.
    pub rounds_ratio: Vec<f64>,
}

/// Measures every subject on `workload`. `progress` is called with the current step, and `afterwards` with each
/// subject, filled and warm.
pub fn measure(
    workload: Workload,
    effort: Effort,
    mut progress: impl FnMut(&str),
    mut afterwards: impl FnMut(&str, &dyn Subject),
) -> Vec<Timing> {
    let plan = match effort.shortened_to {
        None => Plan::whole(workload),
        Some(length) => Plan::shortened(workload, length),
    };
    let threads = workload.threads();
    let mut contestants: Vec<Contestant> = SUBJECTS
        .iter()
        .map(|entry| {
            progress(&format!("{}: {}, keys: {}", workload.name(), entry.name, plan.ids.len()));
            let mut subject = (entry.new)(&plan);
            subject.fill(&plan);
            let decisions = turn_decisions(&*subject, threads, effort.turn);
            Contestant { name: entry.name, subject, decisions, rounds_ns: Vec::new() }
        })
        .collect();

    for round in 0..effort.rounds {
        progress(&format!("{}: round {} of {}", workload.name(), round + 1, effort.rounds));
        let first_access = round * plan.accesses.len() / effort.rounds;
        // The order alternates, so that no subject always follows the same neighbour, nor is always later than the
        // baseline.
        contestants.reverse();
        for contestant in &mut contestants {
            contestant.take_turn(first_access, threads);
        }
    }
    if effort.rounds % 2 == 1 {
        contestants.reverse();
    }
    for contestant in &contestants {
        afterwards(contestant.name, &*contestant.subject);
    }
    timings(workload, contestants)
}

/// Returns the time that `threads` threads take when each decides about all `accesses`, from the first start to the
/// last end.
pub fn time(subject: &dyn Subject, accesses: Range<usize>, threads: usize) -> Duration {
    if threads == 1 {
        let start = Instant::now();
        subject.decide_all(accesses);
        return start.elapsed();
    }
    let barrier = Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let start = Instant::now();
                    subject.decide_all(accesses.clone());
                    (start, Instant::now())
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("no decision panics")).collect()
    });
    let start = spans.iter().map(|span| span.0).min().expect("at least one thread");
    let end = spans.iter().map(|span| span.1).max().expect("at least one thread");
    end - start
}

/// Returns the middle figure, or the mean of the two in the middle.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

struct Contestant {
    name: &'static str,
    subject: Box<dyn Subject>,
    decisions: usize,
    rounds_ns: Vec<f64>,
}

impl Contestant {
    /// Warms up: the caches hold data of the previous subject, so some decisions come before the clock starts.
    fn take_turn(&mut self, first_access: usize, threads: usize) {
        let timed_from = first_access + self.decisions / LEAD_IN_DIVISOR;
        time(&*self.subject, first_access..timed_from, threads);
        let took = time(&*self.subject, timed_from..timed_from + self.decisions, threads);
        self.rounds_ns.push(took.as_nanos() as f64 / self.decisions as f64);
    }
}

/// Returns the number of decisions that fit in `turn`, found by doubling.
fn turn_decisions(subject: &dyn Subject, threads: usize, turn: Duration) -> usize {
    let mut decisions = TURN_DECISIONS_MIN;
    while decisions < TURN_DECISIONS_MAX && time(subject, 0..decisions, threads) * 2 < turn {
        decisions *= 2;
    }
    decisions
}

fn timings(workload: Workload, contestants: Vec<Contestant>) -> Vec<Timing> {
    let baseline_ns = contestants
        .iter()
        .find(|contestant| contestant.name == BASELINE)
        .expect("the baseline is a subject")
        .rounds_ns
        .clone();
    contestants
        .into_iter()
        .map(|contestant| Timing {
            subject: contestant.name,
            workload,
            decisions: contestant.decisions,
            rounds_ratio: contestant
                .rounds_ns
                .iter()
                .zip(&baseline_ns)
                .map(|(ns, baseline)| ns / baseline)
                .collect(),
            rounds_ns: contestant.rounds_ns,
        })
        .collect()
}

/// All requests of a workload once; a power of two times [`TURN_DECISIONS_MIN`].
const TURN_DECISIONS_MAX: usize = 1 << 20;

/// Makes the time to read the clock and to start the threads negligible.
const TURN_DECISIONS_MIN: usize = 1 << 10;

/// The part of a turn that is added before it, untimed.
const LEAD_IN_DIVISOR: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }
}
