//! What holds for every history: random ones are tried, and one that fails is shrunk and shown.

use std::env;
use std::ops::Range;

use limiter_core::{LedgerBounds, ManualClock, Timestamp};
use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRunner,
};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::StoreUnderTest;
use super::world::engine;
use crate::generate;
use crate::model::Bounds;
use crate::player::Player;
use crate::replay::{Operation, to_jsonl};

/// Why something does not hold, in a sentence or two.
pub(super) type Broken = String;

/// Tries random histories. Shrunk failures are remembered, for all properties alike, in a file of the crate that runs
/// the suite; it belongs into version control.
pub(super) fn holds_for_histories<Outcome>(cases: u32, property: impl Fn(Vec<Operation>) -> Outcome)
where
    Outcome: Future<Output = Result<(), Broken>>,
{
    holds_for(generate::histories(STEPS), REGRESSIONS, cases, property);
}

/// The same for histories with reservations, whose failures have a file of their own.
pub(super) fn holds_for_reservations<Outcome>(
    cases: u32,
    property: impl Fn(Vec<Operation>) -> Outcome,
) where
    Outcome: Future<Output = Result<(), Broken>>,
{
    holds_for(generate::histories_with_reservations(STEPS), RESERVED_REGRESSIONS, cases, property);
}

fn holds_for<Outcome>(
    histories: impl Strategy<Value = Vec<Operation>>,
    regressions: &'static str,
    cases: u32,
    property: impl Fn(Vec<Operation>) -> Outcome,
) where
    Outcome: Future<Output = Result<(), Broken>>,
{
    let outcome = |history| block_in_place(|| Handle::current().block_on(property(history)));
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_iters: SHRINK_STEPS,
        // Most of the time goes into making histories: it is half that of the default.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    };
    let run = TestRunner::new(config)
        .run(&histories, |history| outcome(history).map_err(TestCaseError::fail));
    match run {
        Ok(()) => {}
        Err(TestError::Fail(reason, history)) => {
            panic!(
                "{reason}\nThe history, to be saved in crates/limiter-conformance/histories:\n{}",
                to_jsonl(&history)
            )
        }
        Err(error @ TestError::Abort(_)) => panic!("{error}"),
    }
}

/// A player on an empty store.
pub(super) async fn player<T: StoreUnderTest>(store: &T) -> Player<T::Store> {
    bounded_player(store, LedgerBounds::default()).await
}

/// A player on an empty store with these ledger bounds.
pub(super) async fn bounded_player<T: StoreUnderTest>(
    store: &T,
    bounds: LedgerBounds,
) -> Player<T::Store> {
    let clock = ManualClock::at(Timestamp::from_unix_ms(0));
    let engine = engine(store.with_bounds(clock.clone(), bounds).await);
    Player::new(engine, clock).await.expect("an empty store takes an admin key")
}

/// The bounds of the model as a store takes them.
pub(super) fn ledger_bounds(Bounds { open, ended, checks }: Bounds) -> LedgerBounds {
    LedgerBounds { open, ended, checks, ..LedgerBounds::default() }
}

/// How many random histories to try on this store, where a test tries one in `share` of them.
pub(super) fn cases<T: StoreUnderTest>(_: &T, share: u32) -> u32 {
    let cases = number_from("LIMITER_TEST_CASES").unwrap_or(DEFAULT_CASES);
    (cases / share / T::SLOWNESS.max(1)).max(1)
}

/// A number that whoever runs the suite may set in the environment.
pub(super) fn number_from(variable: &str) -> Option<u32> {
    let text = env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable} is {text:?}, but must be a whole number"),
    }
}

/// Tests run in the directory of their crate.
const REGRESSIONS: &str = "proptest-regressions/histories.txt";
const RESERVED_REGRESSIONS: &str = "proptest-regressions/reservations.txt";
/// Long enough for limits to change, windows to pass and keys to expire within one history.
const STEPS: Range<usize> = 1..60;
/// With them the whole suite takes half a minute on two cores, unoptimised, for a store in memory.
const DEFAULT_CASES: u32 = 2_000;
/// A history of sixty operations is small after a few thousand.
const SHRINK_STEPS: u32 = 5_000;
