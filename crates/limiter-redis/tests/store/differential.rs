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
use std::iter;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use limiter_core::{KeyId, Timestamp};
use limiter_test_servers::RedisServer;

use case::{Case, Family, Script, some_time};
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
    let servers = [(); CLIENTS].map(|()| RedisServer::run());
    let next = AtomicU64::new(0);
    let total = Mutex::new(Tally::default());
    let work = |number: usize| {
        let mut server = Server::connect(&servers[number].url(), str::to_owned);
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
        assert!(total.begun > wanted / 500, "few levels begin: {total}");
        for verdict in VERDICTS {
            assert!(total.verdicts.contains_key(verdict), "none is {verdict}: {total}");
        }
    }
}

/// A limit of tokens that came into force at once was one off if it was odd: the script summed the account beyond 2^53, where a
/// double holds no odd number.
#[test]
fn batches_that_once_diverged_agree() {
    let redis = RedisServer::run();
    let mut server = Server::connect(&redis.url(), str::to_owned);
    for seed in ONCE_DIVERGED {
        compare(&mut server, *seed, &mut Tally::default()).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Each is a small mistake that a programmer could make.
#[test]
fn a_mistake_in_a_script_is_found() {
    type Plant = fn(&str) -> String;
    let plants: [(&str, Plant); 28] = [
        ("take: more than the least", |text| text.replace(" >= l1", " > l1")),
        ("take: marks stay as a window rolls", |text| text.replace(", 0, 0 end", ", 0, 1 end")),
        ("take: a later window rolls", |text| text.replace(" < 0 and e1 < w1)", " < 0)")),
        ("apply: more than the least", |text| {
            text.replace("left < of_record[take]", "left <= of_record[take]")
        }),
        ("apply: marks stay as a window begins", |text| {
            text.replace("= starts[at], 0 end", "= starts[at], 1 end")
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
        ("apply: a day that counted nothing is closed", |text| {
            text.replace("if old_v[cell] ~= MAX then", "if true then")
        }),
        ("apply: another window of the record is closed", |text| {
            text.replace("+ before + 7 * old\n", "+ before\n")
        }),
        ("apply: a day that was far ahead is closed as it was", |text| {
            text.replace("math.min(stored_e, next_e)", "stored_e")
        }),
        ("apply: a day that is kept is dropped", |text| {
            text.replace("'-inf', kept_after)", "'-inf', kept_after + 86400)")
        }),
        ("apply: the account is that of another unit", |text| {
            text.replace("for other = old + first + 1,", "for other = old + first,")
        }),
        ("apply: the account is counted from below", |text| {
            text.replace("used + (MAX - old_v[other])", "used - MAX + old_v[other]")
        }),
        ("apply: two accounts exceed the largest count", |text| {
            text.replace("(used < MAX and used or MAX)", "used")
        }),
        ("take: a record of the level before is written", |text| {
            text.replace(
                "redis.call('HSET', KEYS[keys + 3], 'g'",
                "redis.call('HSET', KEYS[keys + 1], 'g'",
            )
        }),
        ("take: the field of the level before is read", |text| {
            text.replace("'g', ARGV[args + 2]) local", "'g', ARGV[args + 1]) local")
        }),
        ("take: the limits of the first level alone are shown", |text| {
            text.replace("for key = keys + 1, keys + ", "for key = keys + 1, keys + 2 + 0 * ")
        }),
        ("apply: a soft level is charged although short", |text| {
            text.replace("short[level_of[n]] and 0 or counts[n]", "counts[n]")
        }),
        ("apply: a level is treated as soft that is not", |text| {
            text.replace("if soft % (2 * bit) < bit then", "if soft % (2 * bit) < 0 then")
        }),
        ("apply: the level after is soft", |text| {
            text.replace("if soft % (2 * bit) < bit then", "if soft % bit < bit / 2 then")
        }),
        ("apply: a call is done that fits nowhere", |text| {
            text.replace("(all_short > 0 or spared == 0)", "true")
        }),
        ("apply: days of the second level are those of the first", |text| {
            text.replace("KEYS[history + level_of[n] - 1]", "KEYS[history]")
        }),
        ("apply: records of the second level are written to the first", |text| {
            text.replace(
                "redis.call('HSET', KEYS[2 * level - 1], all(",
                "redis.call('HSET', KEYS[1], all(",
            )
        }),
        ("apply: an entry does not say which levels did not admit it", |text| {
            text.replace("'<i7B', ends, spared)", "'<i7B', ends, 0)")
        }),
        ("apply: what comes after the records that came along is one of them", |text| {
            text.replace("local given = first_begun + begun", "local given = first_begun")
        }),
        ("apply: the level before begins", |text| {
            text.replace("if level == begins then", "if level == begins - 1 then")
        }),
        ("apply: a key that is there is absent", |text| {
            text.replace("redis.call('PTTL', key) ~= -2", "redis.call('PTTL', key) == -2")
        }),
        ("apply: what passes now is remembered", |text| {
            text.replace("entry) > now", "entry) >= now")
        }),
    ];
    for (mistake, plant) in plants {
        let redis = RedisServer::run();
        let mut server = Server::connect(&redis.url(), plant);
        let mut tally = Tally::default();
        let mut seeds = 0..PLANTED;
        let found = seeds.find_map(|seed| compare(&mut server, seed, &mut tally).err());
        assert!(server.is_planted(), "{mistake}: no script has such a place");
        let why = found.unwrap_or_else(|| panic!("{mistake}: not found by {tally}"));
        assert!(why.contains("expected"), "{why}");
        println!(
            "{mistake}: found after {} operations, by seed {}",
            tally.operations,
            seeds.start - 1
        );
    }
}

/// Lua has room for 200 variables, and for few more numbers at once.
#[test]
fn every_script_that_takes_can_be_compiled() {
    let redis = RedisServer::run();
    let mut server = Server::connect(&redis.url(), str::to_owned);
    let now = Timestamp::from_unix_ms(1_760_011_200_000);
    let mut compiled = [0; KeyId::MAX_SEGMENTS];
    for number in 0..COMPILED {
        let random = &mut Random::from_seed(number);
        let levels = 1 + random.index(KeyId::MAX_SEGMENTS);
        let family = Family::of_many_limits(levels, random);
        let cases = iter::repeat_with(|| Case::random(Script::Take, now, &family, random));
        let is_possible = |case: &Case| case.taken().is_some();
        let cases: Vec<_> = cases.take(TRIED).filter(is_possible).take(8).collect();
        compiled[levels - 1] += cases.len();
        let expected: Vec<_> = cases.iter().map(Expected::of).collect();
        for found in server.run(&cases, &expected) {
            found.unwrap_or_else(|why| panic!("family {number}: {why}"));
        }
    }
    println!("scripts by their levels: {compiled:?}");
    assert!(compiled.iter().all(|count| *count > COMPILED as usize / 10), "{compiled:?}");
}

/// Compares a batch of random operations.
fn compare(server: &mut Server, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let random = &mut Random::from_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let script = if random.percent(60) { Script::Take } else { Script::Apply };
    let (now, family) = (some_time(random), Family::numbered(random.below(FAMILIES)));
    let case = || Case::random(script, now, &family, random);
    let is_possible = |case: &Case| script == Script::Apply || case.taken().is_some();
    let cases: Vec<_> = iter::repeat_with(case).filter(is_possible).take(BATCH).collect();
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
const ONCE_DIVERGED: &[u64] = &[2];

const OPERATIONS: u64 = 2_000_000;
/// Enough that sending them costs little, and few enough that no script occupies the server for long.
const BATCH: usize = 128;
/// Each has a server of its own. While one prepares a batch, another's server works.
const CLIENTS: usize = 4;
/// So few that most scripts are loaded already.
const FAMILIES: u64 = 64;
/// The most batches in which a planted mistake is looked for.
const PLANTED: u64 = 2_000;
/// How many families' scripts are compiled.
const COMPILED: u64 = 300;
/// How many operations of each are tried: most of those that roll many windows are none for `take`.
const TRIED: usize = 40;
const VERDICTS: [&str; 12] = [
    "applied",
    "applied but to some levels",
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
