//! The scripts against `apply` of the core: the same operation on the same records ends alike, and leaves the same bytes.
//!
//! Random operations, on records that are whole, damaged or not there, are done by `take` and by `apply` on real servers,
//! and by the core on the same records in memory. The other parts of `apply` are written out in `ledger.rs`.
//!
//! | environment | |
//! |---|---|
//! | `LIMITER_TEST_OPERATIONS` | at least how many operations, two million by default |
//! | `LIMITER_TEST_SEED` | the seed of the first batch; each one after it has the next |

mod case;
mod ledger;
mod random;
mod reference;
mod server;
mod shrink;
mod tally;

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use limiter_test_servers::{RedisServer, shared};

use case::{Case, Script, some_time, some_types};
use random::Random;
use reference::Expected;
use server::Server;
use shrink::shrunk;
use tally::Tally;

#[test]
fn the_scripts_do_what_the_core_does() {
    let wanted = number_from("LIMITER_TEST_OPERATIONS").unwrap_or(OPERATIONS);
    let seed = number_from("LIMITER_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("LIMITER_TEST_SEED={seed}");
    let begun = Instant::now();
    let servers = [(); SERVERS].map(|()| RedisServer::run());
    let next = AtomicU64::new(0);
    let total = Mutex::new(Tally::default());
    let work = |number: usize| {
        let url = servers[number % SERVERS].url();
        let mut server = Server::connect(&url, &format!("{number}-"), str::to_owned);
        let mut tally = Tally::default();
        loop {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            if batch * BATCH as u64 >= wanted {
                break;
            }
            compare(&mut server, seed.wrapping_add(batch), &mut tally)
                .unwrap_or_else(|why| panic!("{why}"));
        }
        *total.lock().expect("no thread has failed") += tally;
    };
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || work(number));
        }
    });
    let total = total.into_inner().expect("no thread has failed");
    println!("{total}\nin {:.1?}: 0 divergences", begun.elapsed());
    assert!(total.operations >= wanted, "{} operations are too few", total.operations);
    if wanted >= OPERATIONS {
        assert!(total.damaged > wanted / 20, "few records are damaged: {total}");
        for verdict in VERDICTS {
            assert!(total.verdicts.contains_key(verdict), "none is {verdict}: {total}");
        }
    }
}

/// Near the largest count, a script that took before it added was one off: a double holds no odd number beyond 2^53.
#[test]
fn batches_that_once_diverged_agree() {
    let mut server = Server::connect(shared().url(), "once-", str::to_owned);
    for seed in ONCE_DIVERGED {
        compare(&mut server, *seed, &mut Tally::default()).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Each is a small mistake that a programmer could make.
#[test]
fn a_mistake_in_a_script_is_found() {
    type Plant = fn(&str) -> String;
    let plants: [(&str, Plant); 8] = [
        ("take: more than the least", |text| text.replace(" >= l1", " > l1")),
        ("take: marks stay as a window rolls", |text| text.replace(", 0, 0 end", ", 0, 1 end")),
        ("take: a later window rolls", |text| text.replace(" < 0 and e1 < w1)", " < 0)")),
        ("apply: more than the least", |text| {
            text.replace("left < of_record[take]", "left <= of_record[take]")
        }),
        ("apply: marks stay as a window begins", |text| {
            text.replace("= starts[new + meter], 0\n", "= starts[new + meter], 1\n")
        }),
        ("apply: a rolled window forgets its rebases", |text| {
            text.replace(
                "begins, next_e, next_b = stored_e < e, e, stored_b",
                "begins, next_e, next_b = stored_e < e, e, 0",
            )
        }),
        ("apply: a stop is passed as it is met", |text| {
            text.replace("left < to[base + mark] do", "left <= to[base + mark] do")
        }),
        ("apply: what passes now is remembered", |text| {
            text.replace("entry) > now", "entry) >= now")
        }),
    ];
    for (mistake, plant) in plants {
        let mut server = Server::connect(shared().url(), "planted-", plant);
        let mut tally = Tally::default();
        let found = (0..PLANTED).find_map(|seed| compare(&mut server, seed, &mut tally).err());
        assert!(server.is_planted(), "{mistake}: no script has such a place");
        let why = found.unwrap_or_else(|| panic!("{mistake}: not found by {tally}"));
        assert!(why.contains("expected"), "{why}");
        println!("{mistake}: found after {} operations", tally.operations);
    }
}

/// Compares a batch of random operations.
fn compare(server: &mut Server, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let random = &mut Random::from_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let script = if random.percent(60) { Script::Take } else { Script::Apply };
    let (now, types) = (some_time(random), some_types(random));
    let cases: Vec<_> = (0..BATCH).map(|_| Case::random(script, now, types, random)).collect();
    let expected: Vec<_> = cases.iter().map(Expected::of).collect();
    for ((case, expected), found) in cases.iter().zip(&expected).zip(server.run(&cases, &expected))
    {
        tally.add(case, expected);
        if let Err(divergence) = found {
            let (small, again) = shrunk(server, case.clone(), divergence.clone());
            return Err(format!(
                "1 divergence. To repeat it: LIMITER_TEST_SEED={seed} LIMITER_TEST_OPERATIONS=1\n{divergence}\n\n\
                 Made smaller:\n{small:#?}\n{again}"
            ));
        }
    }
    Ok(())
}

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, but must be a number")))
}

/// The seeds of batches that a fixed mistake made diverge.
const ONCE_DIVERGED: &[u64] = &[770_926_035_423_421_476];

const OPERATIONS: u64 = 2_000_000;
/// Enough that sending them costs little, and few enough that no script occupies the server for long.
const BATCH: usize = 128;
/// One for each core of a small machine.
const SERVERS: usize = 2;
/// While one prepares a batch, the server works for the other.
const CLIENTS: usize = 4;
/// The most batches in which a planted mistake is looked for.
const PLANTED: u64 = 2_000;
const VERDICTS: [&str; 11] = [
    "applied",
    "applied in part",
    "refused",
    "untimely",
    "late",
    "stale",
    "guarded",
    "listed",
    "full",
    "of another type",
    "of another size",
];
