//! Instructions of the server, as callgrind counts them.
//!
//! Each server that is started here must run under callgrind, which `scripts/bench` ensures, and logs the number of
//! instructions in its life. Each case is run twice, with few and with many decisions, on a new server each time. The
//! difference is that of the decisions alone.

use limiter_test_servers::RedisServer;
use tokio::runtime;

use crate::figures::Figures;

/// The numbers of decisions to count.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    few: usize,
    many: usize,
}

impl Effort {
    /// For the published figures.
    pub const FULL: Self = Self { few: 640, many: 3_200 };

    /// A short run that shows that all works.
    pub const QUICK: Self = Self { few: 64, many: 320 };
}

/// Adds the instructions of one decision to the figures. `work` gets the URL of a server, and the number of decisions
/// to make there.
///
/// # Panics
/// If the server is not under callgrind.
pub fn count<W: Future<Output = ()>>(
    figures: &mut Figures,
    name: &str,
    effort: Effort,
    work: impl Fn(String, usize) -> W,
) {
    let Effort { few, many } = effort;
    let counted = executed(|url| work(url, many)).saturating_sub(executed(|url| work(url, few)));
    let each = counted as f64 / (many - few) as f64;
    eprintln!("  {name:30} {each:>9.0}");
    figures.add(name, each);
}

/// Returns the instructions of a server that lives for this work.
fn executed<W: Future<Output = ()>>(work: impl Fn(String) -> W) -> u64 {
    // The server does its own work once a second instead of ten times.
    let server = RedisServer::with(&["hz 1"]);
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(work(server.url()));
    server.stop_gracefully();
    let log = server.log();
    let collected = log.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected.and_then(|figure| figure.trim().parse().ok());
    collected.unwrap_or_else(|| panic!("the server was not under callgrind:\n{log}"))
}
