//! The scripts against the core: the same sequences at the same instants give the same decisions and the same state.
//!
//! Random histories run on stores beside each other, each with a clock of its own that stands, goes, jumps and steps
//! back. Each decision is compared whole, with all that explains it, and every few rounds the state that is stored.
//!
//! | environment | |
//! |---|---|
//! | `LIMITER_TEST_DECISIONS` | at least how many decisions, 500,000 by default; of operations on ids a fiftieth |
//! | `LIMITER_TEST_SEED` | the seed of the first history; each one after it has the next |

mod clock;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod common;
mod history;
mod order;
mod random;
mod remembering;
mod shrink;
mod tally;
mod world;

use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use std::{env, thread};

use limiter_conformance::servers;

use history::{About, History};
use shrink::shrunk;
use tally::Tally;
use world::World;

#[test]
fn the_scripts_decide_and_store_as_the_core_does() {
    agree(About::Calls, "", |tally| tally.decisions);
}

#[test]
fn the_scripts_remember_as_the_core_does() {
    agree(About::Ids, " (of ids)", |tally| tally.on_ids * 50);
}

/// Runs histories until so much was compared.
fn agree(about: About, which: &str, compared: fn(&Tally) -> u64) {
    let wanted = number_from("LIMITER_TEST_DECISIONS").unwrap_or(DECISIONS);
    let seed = number_from("LIMITER_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("LIMITER_TEST_SEED={seed}{which}");
    let (begun, url) = (Instant::now(), servers::shared().url());
    let (next, enough) = (AtomicU64::new(seed), AtomicBool::new(false));
    let total = Mutex::new(Tally::default());
    let work = || {
        // One thread, so that calls which are spawned together reach the batcher together.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut world = World::new(url).await;
            while !enough.load(Ordering::Relaxed) {
                let tally = checked(&mut world, about, next.fetch_add(1, Ordering::Relaxed)).await;
                let mut total = total.lock().expect("no thread has failed");
                *total += tally;
                if compared(&total) >= wanted {
                    enough.store(true, Ordering::Relaxed);
                }
            }
        });
    };
    thread::scope(|scope| (0..STORES).for_each(|_| drop(scope.spawn(work))));

    let (total, elapsed) = (total.into_inner().expect("no thread has failed"), begun.elapsed());
    println!("{total}");
    println!("{} histories in {elapsed:.1?}: 0 divergences", next.into_inner().wrapping_sub(seed));
    assert!(compared(&total) >= wanted, "{} decisions are too few", compared(&total));
}

async fn checked(world: &mut World, about: About, seed: u64) -> Tally {
    let history = History::random(about, seed);
    match world.run(&history).await {
        Ok(tally) => tally,
        Err(divergence) => {
            let (small, again) = shrunk(world, history.clone(), divergence.clone()).await;
            panic!(
                "1 divergence. To repeat it: LIMITER_TEST_SEED={seed} LIMITER_TEST_DECISIONS=1\n{divergence}\n\n\
                 The history:\n{history:#?}\n\nMade smaller:\n{small:#?}\n{again}"
            )
        }
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, but must be a number")))
}

const DECISIONS: u64 = 500_000;
/// Each waits for the server most of the time.
const STORES: usize = 6;
