//! The stages of `scripts/bench decision`, each a subcommand.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, io, thread};

use limiter_benches::memory::{Footprint, MEASURED, Measured};
use limiter_benches::report::{parse_counts, rows, table};
use limiter_benches::rounds::{self, Effort};
use limiter_benches::sampling;
use limiter_benches::stages;
use limiter_benches::subject::{Entry, SUBJECTS, Subject};
use limiter_benches::workload::{Plan, Workload};

fn main() -> ExitCode {
    stages::run(|arguments| match *arguments {
        ["list"] => list(),
        ["count", subject, workload, decisions] => count(subject, workload, decisions),
        ["footprint", subject, keys] => footprint(subject, keys),
        ["memory", directory] => memory(directory, 1),
        ["memory", directory, "--quick"] => memory(directory, QUICK_DIVISOR),
        ["time", directory] => time(directory, Effort::FULL, false),
        ["time", directory, "--quick"] => time(directory, Effort::QUICK, true),
        _ => Err(USAGE.into()),
    })
}

/// Lists the counts to make: a line for each subject and workload of one thread.
fn list() -> Result<(), Box<dyn Error>> {
    for workload in Workload::ALL.into_iter().filter(|workload| workload.threads() == 1) {
        for subject in SUBJECTS {
            println!("{} {}", subject.name, workload.name());
        }
    }
    Ok(())
}

/// Decides, for callgrind to count.
fn count(subject: &str, workload: &str, decisions: &str) -> Result<(), Box<dyn Error>> {
    let workload = Workload::named(workload).ok_or("no such workload")?;
    let plan = Plan::shortened(workload, decisions.parse()?);
    await_a_young_minute();
    let mut subject = (entry(subject)?.new)(&plan);
    subject.fill(&plan);
    counted_decisions(&*subject, plan.accesses.len());
    Ok(())
}

/// Waits until enough is left of this minute for callgrind to fill a subject and count.
///
/// Our limiter counts by minutes. If one ends between the two, the next decision of every key starts a new window, and
/// the count would include that.
fn await_a_young_minute() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = MINUTE_SECONDS - since_1970.as_secs() % MINUTE_SECONDS;
    if left <= COUNT_SECONDS {
        thread::sleep(Duration::from_secs(left));
    }
}

/// Makes the decisions whose instructions callgrind counts. It finds this function by its name.
#[inline(never)]
fn counted_decisions(subject: &dyn Subject, decisions: usize) {
    subject.decide_all(0..decisions);
}

/// Prints the memory of one thing that is measured, in JSON.
fn footprint(name: &str, keys: &str) -> Result<(), Box<dyn Error>> {
    let measured = Measured::named(name).ok_or("nothing of that name is measured")?;
    println!("{}", serde_json::to_string(&measured.footprint(keys.parse()?))?);
    Ok(())
}

/// Measures all memory, each in a process of its own.
fn memory(directory: &str, divisor: usize) -> Result<(), Box<dyn Error>> {
    let mut footprints = Vec::new();
    for measured in MEASURED {
        let keys = measured.keys / divisor;
        eprintln!("  {}, keys: {keys}", measured.name);
        let output = Command::new(env::current_exe()?)
            .args(["footprint", measured.name, &keys.to_string()])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        footprints.push(serde_json::from_slice::<Footprint>(&output.stdout)?);
    }
    Ok(fs::write(
        format!("{directory}/{MEMORY}"),
        serde_json::to_string_pretty(&footprints)? + "\n",
    )?)
}

/// Measures the times, adds the results of the other stages in the directory, and reports.
fn time(directory: &str, effort: Effort, quick: bool) -> Result<(), Box<dyn Error>> {
    let read = |name| {
        let path = format!("{directory}/{name}");
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    };
    let counts = parse_counts(&read(COUNTS)?)?;
    let footprints: Vec<Footprint> = serde_json::from_str(&read(MEMORY)?)?;

    let reports = Path::new(directory).join(CRITERION);
    let mut criterion = sampling::brief(&reports, quick);
    let mut timings = Vec::new();
    for workload in Workload::ALL {
        let mut progress = Progress::start();
        let mut group = sampling::group(&mut criterion, workload);
        timings.extend(rounds::measure(
            workload,
            effort,
            |step| progress.step(step),
            |name, subject| sampling::sample(&mut group, workload, name, || subject),
        ));
        group.finish();
    }
    let samples: Result<Vec<f64>, String> = timings
        .iter()
        .map(|timing| sampling::median_ns(&reports, timing.workload, timing.subject))
        .collect();

    let rows = rows(&timings, &counts);
    fs::write(format!("{directory}/{REPORT}"), serde_json::to_string_pretty(&rows)? + "\n")?;
    let table = table(&timings, &rows, &samples?, &footprints);
    fs::write(format!("{directory}/{TABLE}"), &table)?;
    print!("\n{table}");
    Ok(io::stdout().flush()?)
}

fn entry(name: &str) -> Result<Entry, String> {
    Entry::named(name).ok_or_else(|| {
        let names: Vec<&str> = SUBJECTS.iter().map(|entry| entry.name).collect();
        format!("no subject {name}; there are: {}", names.join(", "))
    })
}

/// Prints the current step on stderr, but not more often than a reader can use.
struct Progress {
    last: Option<Instant>,
}

impl Progress {
    const fn start() -> Self {
        Self { last: None }
    }

    fn step(&mut self, step: &str) {
        if self.last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL) {
            eprintln!("  {step}");
            self.last = Some(Instant::now());
        }
    }
}

const USAGE: &str = "\
usage: decision list
       decision count SUBJECT WORKLOAD DECISIONS
       decision footprint SUBJECT KEYS
       decision memory DIRECTORY [--quick]
       decision time DIRECTORY [--quick]
scripts/bench calls them in the right order.";

const COUNTS: &str = "decision-instructions.tsv";
const MEMORY: &str = "decision-memory.json";
const REPORT: &str = "decision.json";
const TABLE: &str = "decision.txt";
const CRITERION: &str = "criterion";

const MINUTE_SECONDS: u64 = 60;

/// The most time that callgrind needs to fill one of our subjects and to count.
const COUNT_SECONDS: u64 = 10;

/// A quick run has this many times fewer keys.
const QUICK_DIVISOR: usize = 100;

/// A new line now and then shows that the run goes on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
