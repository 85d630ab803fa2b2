//! The stages of `scripts/bench redis`, each a subcommand.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use limiter_benches::figures::Figures;
use limiter_benches::redis::cases::Case;
use limiter_benches::redis::{counting, rates, sizes, targets};
use limiter_benches::stages;
use limiter_test_servers::RedisServer;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    stages::run(|arguments| match *arguments {
        ["count", directory] => count(directory, counting::Effort::FULL),
        ["count", directory, "--quick"] => count(directory, counting::Effort::QUICK),
        ["memory", directory] => memory(directory),
        ["time", directory] => time(directory, rates::Effort::FULL),
        ["time", directory, "--quick"] => time(directory, rates::Effort::QUICK),
        ["report", directory] => report(directory),
        _ => Err(USAGE.into()),
    })
}

/// Counts instructions. The servers that it starts must run under callgrind.
fn count(directory: &str, effort: counting::Effort) -> Result<(), Box<dyn Error>> {
    let mut figures = Figures::default();
    for case in Case::ALL {
        counting::count(&mut figures, case.name(), effort, |url, decisions| async move {
            case.run(&url, decisions).await;
        });
    }
    Ok(figures.write(&Path::new(directory).join(COUNTS))?)
}

fn memory(directory: &str) -> Result<(), Box<dyn Error>> {
    let (server, mut figures) = (RedisServer::run(), Figures::default());
    Runtime::new()?.block_on(sizes::measure(&server, &mut figures));
    Ok(figures.write(&Path::new(directory).join(MEMORY))?)
}

fn time(directory: &str, effort: rates::Effort) -> Result<(), Box<dyn Error>> {
    let (server, mut figures) = (RedisServer::run(), Figures::default());
    Runtime::new()?.block_on(rates::measure(&server, effort, &mut figures));
    Ok(figures.write(&Path::new(directory).join(RATES))?)
}

/// Joins the results of the other stages.
fn report(directory: &str) -> Result<(), Box<dyn Error>> {
    let directory = Path::new(directory);
    let mut measured = Figures::default();
    for part in [COUNTS, MEMORY, RATES] {
        let path = directory.join(part);
        measured.read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    // The results of the peer exist only with `--with-limitador`.
    let peer = directory.join(PEER);
    if peer.exists() {
        measured.read(&peer)?;
    }
    targets::report(&measured).write(&directory.join(REPORT))?;
    let table = targets::table(&measured, &RedisServer::run().version());
    fs::write(directory.join(TABLE), &table)?;
    print!("\n{table}");
    Ok(())
}

const USAGE: &str = "\
usage: redis count DIRECTORY [--quick]
       redis memory DIRECTORY
       redis time DIRECTORY [--quick]
       redis report DIRECTORY
scripts/bench calls them in the right order, the first with servers under callgrind.";

const COUNTS: &str = "redis-instructions.json";
const MEMORY: &str = "redis-memory.json";
const RATES: &str = "redis-rates.json";
const PEER: &str = "redis-limitador.json";
const REPORT: &str = "redis.json";
const TABLE: &str = "redis.txt";
