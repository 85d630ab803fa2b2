//! limitador with its Redis storage, measured as `scripts/bench redis` measures ours: the stages of `--with-limitador`.
//!
//! Eight limits, four by key and four by key and asset, are checked and updated in one call, whose result has the rest
//! of each. To Redis these are two requests: a script that reads all counters, and a pipeline of one script for each.
//! So it may admit too many, as its documentation says; ours does not.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, fmt};

use limitador::AsyncRateLimiter;
use limitador::storage::redis::AsyncRedisStorage;
use limiter_benches::figures::Figures;
use limiter_benches::limitador::{context, limits, namespace};
use limiter_benches::redis::counting;
use limiter_benches::redis::keys::Keys;
use limiter_benches::redis::rates::{self, Client, Load};
use limiter_benches::rounds::median;
use limiter_benches::workload::key_id;
use limiter_test_servers::RedisServer;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["count", directory] => count(directory, counting::Effort::FULL),
        ["count", directory, "--quick"] => count(directory, counting::Effort::QUICK),
        ["time", directory] => time(directory, rates::Effort::FULL),
        ["time", directory, "--quick"] => time(directory, rates::Effort::QUICK),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
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

/// A limiter with one connection, shared by clones.
#[derive(Clone)]
struct Limitador {
    limiter: Arc<AsyncRateLimiter>,
    keys: Arc<[String]>,
}

impl Limitador {
    async fn connect(url: &str) -> Self {
        let storage = AsyncRedisStorage::new(url).await.expect("the server accepts limitador");
        let limiter = AsyncRateLimiter::new_with_storage(Box::new(storage));
        for limit in limits() {
            assert!(limiter.add_limit(limit), "limitador takes two limits for the same");
        }
        Self { limiter: Arc::new(limiter), keys: (0..Keys::MOST).map(key_id).collect() }
    }
}

impl Client for Limitador {
    async fn decide(&self, key: usize) {
        let (namespace, context) = (namespace(), context(&self.keys[key], ASSET));
        let outcome = self.limiter.check_rate_limited_and_update(&namespace, &context, 1).await;
        assert!(!outcome.expect("the server counts").limited);
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
scripts/bench redis --with-limitador calls them, the first with servers under callgrind.";

const REPORT: &str = "redis-limitador.json";

/// As long as those of ours.
const ASSET: &str = "gpt-5-mini-0000";
