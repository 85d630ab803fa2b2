//! The stages of `scripts/bench lease`, each a subcommand.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use limiter_benches::figures::Figures;
use limiter_benches::lease;
use limiter_benches::stages;
use limiter_test_servers::RedisServer;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    stages::run(|arguments| match *arguments {
        ["time", directory] => time(directory, lease::Effort::FULL),
        ["time", directory, "--quick"] => time(directory, lease::Effort::QUICK),
        ["report", directory] => report(directory),
        _ => Err(USAGE.into()),
    })
}

fn time(directory: &str, effort: lease::Effort) -> Result<(), Box<dyn Error>> {
    let (server, mut figures) = (RedisServer::run(), Figures::default());
    Runtime::new()?.block_on(lease::measure(&server, effort, &mut figures));
    Ok(figures.write(&Path::new(directory).join(TIMES))?)
}

/// Joins the results of the other stages.
fn report(directory: &str) -> Result<(), Box<dyn Error>> {
    let directory = Path::new(directory);
    let mut figures = Figures::default();
    figures.read(&directory.join(TIMES))?;
    // The results of the peer exist only with `--with-limitador`.
    let peer = directory.join(PEER);
    if peer.exists() {
        figures.read(&peer)?;
    }
    figures.write(&directory.join(REPORT))?;
    let table = lease::table(&figures, &RedisServer::run().version());
    fs::write(directory.join(TABLE), &table)?;
    print!("\n{table}");
    Ok(())
}

const USAGE: &str = "\
usage: lease time DIRECTORY [--quick]
       lease report DIRECTORY
scripts/bench calls them in the right order.";

const TIMES: &str = "lease-times.json";
const PEER: &str = "lease-limitador.json";
const REPORT: &str = "lease.json";
const TABLE: &str = "lease.txt";
