//! limitador with its Redis storages, measured as `scripts/bench redis` and `lease` measure ours: the stages of `--with-limitador`.
//!
//! Eight limits, four by key and four by key and asset, are checked and updated in one call, whose result has the rest
//! of each. To Redis these are two requests: a script that reads all counters, and a pipeline of one script for each.
//! So it may admit too many, as its documentation says; ours does not.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use limitador::AsyncRateLimiter;
use limitador::limit::Limit;
use limitador::storage::AsyncCounterStorage;
use limitador::storage::redis::{AsyncRedisStorage, CachedRedisStorage};
use limiter_benches::figures::Figures;
use limiter_benches::lease::{self, Admits};
use limiter_benches::limitador::{context, limits, limits_of, namespace};
use limiter_benches::redis::counting;
use limiter_benches::redis::keys::Keys;
use limiter_benches::redis::rates::{self, Client, Load};
use limiter_benches::rounds::median;
use limiter_benches::stages;
use limiter_benches::workload::key_id;
use limiter_test_servers::RedisServer;
use tokio::runtime::Runtime;
use tokio::task::unconstrained;

fn main() -> ExitCode {
    stages::run(|arguments| match *arguments {
        ["count", directory] => count(directory, counting::Effort::FULL),
        ["count", directory, "--quick"] => count(directory, counting::Effort::QUICK),
        ["time", directory] => time(directory, rates::Effort::FULL),
        ["time", directory, "--quick"] => time(directory, rates::Effort::QUICK),
        ["lease", directory] => cached(directory, lease::Effort::FULL),
        ["lease", directory, "--quick"] => cached(directory, lease::Effort::QUICK),
        _ => Err(USAGE.into()),
    })
}

/// Counts the instructions of servers that run under callgrind.
fn count(directory: &str, effort: counting::Effort) -> Result<(), Box<dyn Error>> {
    let mut figures = Figures::default();
    counting::count(&mut figures, "limitador_instructions", effort, |url, decisions| async move {
        let limitador = Limitador::connect(&url).await;
        for _ in 0..decisions {
            limitador.decide(0).await;
        }
    });
    Ok(figures.write(&Path::new(directory).join(REPORT))?)
}

/// Adds its rates, in turns with ours on the same server.
fn time(directory: &str, effort: rates::Effort) -> Result<(), Box<dyn Error>> {
    let path = Path::new(directory).join(REPORT);
    let mut figures = Figures::default();
    figures.read(&path)?;
    let server = RedisServer::run();
    Runtime::new()?.block_on(async {
        let mut ours = Keys::connect(&server.url()).await;
        let mut limitador = Limitador::connect(&server.url()).await;
        for key in 0..Keys::MOST {
            ours.create(key, 1).await;
        }
        for load in Load::ALL {
            let rounds = rates::rounds(&mut limitador, &mut ours, load, effort).await;
            let of = |figure: fn(&[f64; 2]) -> f64| {
                median(&rounds.iter().map(figure).collect::<Vec<_>>())
            };
            figures.add(&format!("limitador_{}", load.name), of(|[theirs, ours]| theirs / ours));
            figures.add(&format!("{}_limitador", load.name), of(|[theirs, _]| *theirs));
        }
    });
    Ok(figures.write(&path)?)
}

/// Adds the rate of its cached storage, with its default settings, in turns with ours decided one by one; and what two of them
/// allow of a limit.
fn cached(directory: &str, effort: lease::Effort) -> Result<(), Box<dyn Error>> {
    let (server, mut figures) = (RedisServer::run(), Figures::default());
    Runtime::new()?.block_on(async {
        let url = server.url();
        let mut limitador = Limitador::cached(&url, limits()).await;
        lease::measure_peer(&mut limitador, &server, effort, &mut figures).await;
        let per_day = || limits_of(effort.limit, 86_400).collect();
        let both =
            [Limitador::cached(&url, per_day()).await, Limitador::cached(&url, per_day()).await];
        let admitted: u64 = lease::use_up(both, 1).await.iter().sum();
        figures.add("limitador_admitted_of_limit", admitted as f64 / (100 * effort.limit) as f64);
    });
    Ok(figures.write(&Path::new(directory).join(LEASES))?)
}

/// A limiter with one connection, shared by clones.
#[derive(Clone)]
struct Limitador {
    limiter: Arc<AsyncRateLimiter>,
    keys: Arc<[String]>,
}

impl Limitador {
    async fn connect(url: &str) -> Self {
        let storage = AsyncRedisStorage::new(url).await.expect("the server accepts limitador");
        Self::with(Box::new(storage), limits())
    }

    async fn cached(url: &str, limits: Vec<Limit>) -> Self {
        let storage = CachedRedisStorage::new(url).await.expect("the server accepts limitador");
        Self::with(Box::new(storage), limits)
    }

    fn with(storage: Box<dyn AsyncCounterStorage>, limits: Vec<Limit>) -> Self {
        let limiter = AsyncRateLimiter::new_with_storage(storage);
        for limit in limits {
            assert!(limiter.add_limit(limit), "limitador takes two limits for the same");
        }
        Self { limiter: Arc::new(limiter), keys: (0..Keys::MOST).map(key_id).collect() }
    }
}

impl Admits for Limitador {
    async fn admits(&self, key: usize) -> bool {
        let (namespace, context) = (namespace(), context(&self.keys[key], ASSET));
        let outcome = self.limiter.check_rate_limited_and_update(&namespace, &context, 1);
        // Its cached storage holds a lock where tokio may give the turn to another task, which then waits for that lock for ever.
        let outcome = unconstrained(outcome).await;
        !outcome.expect("the server counts").limited
    }
}

impl Client for Limitador {
    async fn decide(&self, key: usize) {
        assert!(self.admits(key).await);
    }
}

impl fmt::Debug for Limitador {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limitador").finish_non_exhaustive()
    }
}

const USAGE: &str = "\
usage: peers-redis count DIRECTORY [--quick]
       peers-redis time DIRECTORY [--quick]
       peers-redis lease DIRECTORY [--quick]
scripts/bench redis --with-limitador and scripts/bench lease --with-limitador call them, the first with servers under
callgrind.";

const REPORT: &str = "redis-limitador.json";
const LEASES: &str = "lease-limitador.json";

/// As long as those of ours.
const ASSET: &str = "gpt-5-mini-0000";
