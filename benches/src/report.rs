//! The report of a run: a table to read and JSON to keep.

use std::fmt::Write;

use serde::Serialize;

use crate::memory::Footprint;
use crate::rounds::{Timing, median};
use crate::subject::{BASELINE, BY_HANDLE, BY_STRING, SUBJECTS};
use crate::workload::Workload;

/// One line of the table, one object of `decision.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The subject.
    pub subject: &'static str,
    /// The workload.
    pub workload: &'static str,
    /// Nanoseconds for one decision, the median of the rounds.
    pub ns: f64,
    /// Instructions for one decision; none where threads race, since each run differs.
    pub instructions: Option<f64>,
    /// The median, over the rounds, of the time divided by the baseline's time in the same round.
    pub ns_ratio: f64,
    /// The instructions divided by the baseline's.
    pub instructions_ratio: Option<f64>,
}

/// The instructions of one decision, as counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    subject: String,
    workload: String,
    instructions: f64,
}

/// Reads the output of `scripts/bench`: a line for each count, with subject, workload, decisions and instructions.
///
/// # Errors
/// The first line of another form.
pub fn parse_counts(text: &str) -> Result<Vec<Count>, String> {
    text.lines()
        .map(|line| {
            let mut fields = line.split_whitespace();
            let mut next = || fields.next().ok_or_else(|| format!("a field is missing: {line}"));
            let (subject, workload) = (next()?.to_owned(), next()?.to_owned());
            let mut number = || {
                next()?.parse::<u32>().map_err(|error| format!("{error}: {line}")).map(f64::from)
            };
            let (decisions, instructions) = (number()?, number()?);
            Ok(Count { subject, workload, instructions: instructions / decisions })
        })
        .collect()
}

/// Joins times and counts.
#[must_use]
pub fn rows(timings: &[Timing], counts: &[Count]) -> Vec<Row> {
    let instructions = |subject: &str, workload: Workload| {
        counts
            .iter()
            .find(|count| count.subject == subject && count.workload == workload.name())
            .map(|count| count.instructions)
    };
    timings
        .iter()
        .map(|timing| {
            let own = instructions(timing.subject, timing.workload);
            let baseline = instructions(BASELINE, timing.workload);
            Row {
                subject: timing.subject,
                workload: timing.workload.name(),
                ns: rounded(median(&timing.rounds_ns), 1),
                instructions: own.map(|own| rounded(own, 1)),
                ns_ratio: rounded(median(&timing.rounds_ratio), 3),
                instructions_ratio: own
                    .zip(baseline)
                    .map(|(own, baseline)| rounded(own / baseline, 3)),
            }
        })
        .collect()
}

/// The most that our limiter may take, as a multiple of the baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Target {
    ns_ratio: f64,
    instructions_ratio: Option<f64>,
}

impl Target {
    fn of(subject: &str, workload: Workload) -> Option<Self> {
        let (ns_ratio, instructions_ratio) = match (subject, workload) {
            (BY_STRING, Workload::Hot) => (0.65, Some(0.65)),
            (BY_STRING, Workload::Uniform100k | Workload::Zipf1m) => (0.80, Some(0.65)),
            (BY_STRING, Workload::Hot2Threads) => (0.80, None),
            (BY_HANDLE, Workload::Hot) => (0.40, Some(0.30)),
            (BY_HANDLE, Workload::Uniform100k | Workload::Zipf1m) => (0.60, Some(0.30)),
            _ => return None,
        };
        Some(Self { ns_ratio, instructions_ratio })
    }
}

/// Returns whether a ratio meets its target.
fn verdict(ratio: Option<f64>, target: Option<f64>) -> String {
    match (ratio, target) {
        (Some(ratio), Some(target)) if ratio <= target => format!("<= {target:.2} met"),
        (Some(_), Some(target)) => format!("<= {target:.2} MISSED"),
        _ => String::new(),
    }
}

/// Formats the table, and the notes that a reader needs. `samples` are criterion's medians, one for each row.
#[must_use]
pub fn table(
    timings: &[Timing],
    rows: &[Row],
    samples: &[f64],
    footprints: &[Footprint],
) -> String {
    let mut text = format!(
        "{:14} {:15} {:>9} {:>17} {:>9} {:>8} {:14} {:>9} {:>8} {:14}\n",
        "workload",
        "subject",
        "ns",
        "(fastest-slowest)",
        "criterion",
        "x time",
        "target",
        "instr.",
        "x instr.",
        "target"
    );
    for ((timing, row), sample) in timings.iter().zip(rows).zip(samples) {
        if row.subject == SUBJECTS[0].name {
            text.push('\n');
        }
        let fastest = timing.rounds_ns.iter().copied().fold(f64::INFINITY, f64::min);
        let slowest = timing.rounds_ns.iter().copied().fold(0.0, f64::max);
        let target = Target::of(row.subject, timing.workload);
        let line = format!(
            "{:14} {:15} {:>9.1} {:>17} {sample:>9.1} {:>8.3} {:14} {:>9} {:>8} {:14}",
            row.workload,
            row.subject,
            row.ns,
            format!("({fastest:.0}-{slowest:.0})"),
            row.ns_ratio,
            verdict(Some(row.ns_ratio), target.map(|target| target.ns_ratio)),
            row.instructions.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}")),
            row.instructions_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
            verdict(row.instructions_ratio, target.and_then(|target| target.instructions_ratio)),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = writeln!(
        text,
        "\nns: time of one decision, the median of {} rounds in which the subjects take turns; with two threads, in \
         each.\ncriterion: its median, in ns, of the same subjects sampled one after the other.\n\
         x: times {BASELINE}, for time the median of the rounds' own ratios.\n\
         instr.: as callgrind counts. It does not see the kernel's vDSO, where ours reads the clock: single-stepped \
         on\nLinux 6.18.44, that is {VDSO_INSTRUCTIONS} more for each decision of ours. {BASELINE} reads the \
         processor's counter, which is counted.\n\
         Every decision is allowed. limitador_8 includes making its context, which holds the request.",
        timings.first().map_or(0, |timing| timing.rounds_ns.len()),
    );
    if !footprints.is_empty() {
        text.push_str(
            "\nresident bytes for each key, with one limited asset, after one decision:\n",
        );
    }
    for footprint in footprints {
        let _ = writeln!(
            text,
            "  {:15} {:>6}   ({:>7} keys)  {}",
            footprint.subject, footprint.bytes_per_key, footprint.keys, footprint.what
        );
    }
    text
}

/// Counted a few times with gdb's `stepi`, between the start and the end of `counted_decisions`, by the program
/// counter.
const VDSO_INSTRUCTIONS: &str = "66 to 84";

/// Rounds a figure, so that its digits do not suggest more precision than it has.
fn rounded(figure: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (figure * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_per_decision() {
        assert_eq!(
            parse_counts("governor_keyed hot 1000 447250\n"),
            Ok(vec![Count {
                subject: "governor_keyed".to_owned(),
                workload: "hot".to_owned(),
                instructions: 447.25
            }])
        );
        assert!(parse_counts("governor_keyed hot 1000\n").is_err());
        assert!(parse_counts("governor_keyed hot 1000 many\n").is_err());
    }

    #[test]
    fn a_target_is_met_up_to_itself() {
        assert_eq!(verdict(Some(0.65), Some(0.65)), "<= 0.65 met");
        assert_eq!(verdict(Some(0.651), Some(0.65)), "<= 0.65 MISSED");
        assert_eq!(verdict(None, Some(0.65)), "");
        assert_eq!(Target::of(BASELINE, Workload::Hot), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let timing = |subject, rounds_ratio: [f64; 3]| Timing {
            subject,
            workload: Workload::Hot,
            decisions: 1,
            rounds_ns: vec![100.0, 300.0, 200.0],
            rounds_ratio: rounds_ratio.to_vec(),
        };
        let timings = [timing(BASELINE, [1.0; 3]), timing("other", [3.0, 0.5, 0.6])];
        let counts = parse_counts("other hot 10 2000\ngovernor_keyed hot 10 1000\n").unwrap();
        let rows = rows(&timings, &counts);
        assert_eq!((rows[1].ns, rows[1].ns_ratio), (200.0, 0.6));
        assert_eq!((rows[1].instructions, rows[1].instructions_ratio), (Some(200.0), Some(2.0)));
    }
}
