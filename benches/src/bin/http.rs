//! The stages of `scripts/bench http`, each a subcommand.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use limiter_benches::figures::Figures;
use limiter_benches::http::{Effort, GATEWAY, READS_BODY, SUBJECTS, Subject, Turns, measure};
use limiter_benches::stages;

fn main() -> ExitCode {
    stages::run(|arguments| match *arguments {
        ["layer", "list"] => list(),
        ["layer", "count", subject, calls] => count(subject, calls),
        ["layer", "time", directory] => time(directory, Effort::FULL),
        ["layer", "time", directory, "--quick"] => time(directory, Effort::QUICK),
        _ => Err(USAGE.into()),
    })
}

/// Lists the subjects to count, a line each.
fn list() -> Result<(), Box<dyn Error>> {
    SUBJECTS.iter().for_each(|(name, _)| println!("{name}"));
    Ok(())
}

/// Calls a subject, for callgrind to count.
fn count(subject: &str, calls: &str) -> Result<(), Box<dyn Error>> {
    let mut subject = Subject::named(subject).ok_or("no such subject")?;
    counted_decisions(&mut subject, calls.parse()?);
    Ok(())
}

/// Makes the calls whose instructions callgrind counts. It finds this function by its name.
#[inline(never)]
fn counted_decisions(subject: &mut Subject, calls: usize) {
    subject.call(calls);
}

/// Measures the times, adds the counts in the directory, and reports.
fn time(directory: &str, effort: Effort) -> Result<(), Box<dyn Error>> {
    let counts = counts(&Path::new(directory).join(COUNTS))?;
    let instructions = |name: &str| {
        let count = counts.iter().find(|(other, _)| other == name);
        count.map(|(_, count)| *count).ok_or_else(|| format!("{name} is not counted"))
    };
    let bare = instructions(BARE)?;
    let mut figures = Figures::default();
    let mut table =
        format!("{:32} {:>8} {:>8} {:>10} {:>10}\n", "", "ns", "added", "instr.", "added");
    for Turns { name, ns, added_ns } in measure(effort) {
        let counted = instructions(name)?;
        let added = counted - bare;
        table += &format!("{name:32} {ns:>8.0} {added_ns:>8.0} {counted:>10.0} {added:>10.0}\n");
        let (ns, counted) = if name == BARE { (ns, counted) } else { (added_ns, added) };
        figures.add(&format!("{name}_ns"), ns.round());
        figures.add(&format!("{name}_instructions"), counted.round());
    }
    let ratio = instructions(GATEWAY)? / instructions(READS_BODY)?;
    figures.add("gateway_over_reading", (ratio * 100.0).round() / 100.0);
    table += &format!("\n{GATEWAY} takes {ratio:.2} times the instructions of {READS_BODY}\n");
    table += LEGEND;
    figures.merge_into(&Path::new(directory).join(REPORT))?;
    fs::write(Path::new(directory).join(TABLE), &table)?;
    print!("\n{table}");
    Ok(())
}

/// Reads a line for each subject: its name, calls, and all their instructions.
fn counts(path: &Path) -> Result<Vec<(String, f64)>, Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parse = |line: &str| -> Result<(String, f64), Box<dyn Error>> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, calls, instructions] = fields[..] else {
            return Err(format!("not a count: {line}").into());
        };
        Ok((name.to_owned(), instructions.parse::<f64>()? / calls.parse::<f64>()?))
    };
    text.lines().map(parse).collect()
}

const USAGE: &str = "\
usage: http layer list
       http layer count SUBJECT CALLS
       http layer time DIRECTORY [--quick]
scripts/bench calls them in the right order.";

const LEGEND: &str = "
ns, instr.: one call of a router in process, with its request and the whole answer; times are medians of rounds in which
the subjects take turns. added: what is more than bare, for time the median of the rounds' own differences.
chat_gateway and chat_reads_body get a chat completion of 2 kB: the preset for gateways, and a layer that reads the body.
Headers: ours are RateLimit-Limit, -Remaining and -Reset, tower_governor's x-ratelimit-limit and -remaining.
";

const BARE: &str = "bare";
const COUNTS: &str = "http-layer-instructions.tsv";
const REPORT: &str = "http.json";
const TABLE: &str = "http-layer.txt";
