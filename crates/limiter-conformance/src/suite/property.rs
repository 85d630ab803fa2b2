//! Properties of every history: random ones are tried, and one that fails is shrunk and shown.

use std::env;
use std::ops::Range;

use limiter_core::{LedgerBounds, ManualClock, Timestamp};
use proptest::strategy::Strategy;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRunner,
};

use super::Source;
use super::world::World;
use crate::generate;
use crate::model::Bounds;
use crate::player::Player;
use crate::replay::{Answer, Operation, to_jsonl};
use crate::waiting::Wait;

/// The reason why a property does not hold, in a sentence or two.
pub(super) type Broken = String;

/// Tries random histories, one in `share` of the usual number. A shrunk failure is remembered, for all properties alike, in a
/// file of the crate that runs the suite; it belongs into version control.
pub(super) fn holds_for_histories(
    world: &World,
    share: u32,
    property: impl Fn(&[Operation]) -> Result<(), Broken>,
) {
    holds_for(world, generate::histories(STEPS), REGRESSIONS, share, property);
}

/// The same for histories with reservations, whose failures have a file of their own.
pub(super) fn holds_for_reservations(
    world: &World,
    share: u32,
    property: impl Fn(&[Operation]) -> Result<(), Broken>,
) {
    let histories = generate::histories_with_reservations(STEPS);
    holds_for(world, histories, RESERVED_REGRESSIONS, share, property);
}

/// The same for histories of keys in groups.
pub(super) fn holds_for_groups(
    world: &World,
    share: u32,
    property: impl Fn(&[Operation]) -> Result<(), Broken>,
) {
    let histories = generate::histories_with_groups(STEPS);
    holds_for(world, histories, GROUPED_REGRESSIONS, share, property);
}

/// The same for histories in which keys and groups have plans.
pub(super) fn holds_for_plans(
    world: &World,
    share: u32,
    property: impl Fn(&[Operation]) -> Result<(), Broken>,
) {
    let histories = generate::histories_with_plans(STEPS);
    holds_for(world, histories, PLANNED_REGRESSIONS, share, property);
}

/// The same for histories of unregistered keys, beneath open groups.
pub(super) fn holds_for_open_groups(
    world: &World,
    share: u32,
    property: impl Fn(&[Operation]) -> Result<(), Broken>,
) {
    let histories = generate::histories_with_open_groups(STEPS);
    holds_for(world, histories, OPEN_REGRESSIONS, share, property);
}

fn holds_for(
    world: &World,
    histories: impl Strategy<Value = Vec<Operation>>,
    regressions: &'static str,
    share: u32,
    property: impl Fn(&[Operation]) -> Result<(), Broken>,
) {
    let cases = number_from("LIMITER_TEST_CASES").unwrap_or(DEFAULT_CASES);
    let config = Config {
        cases: (cases / share / world.source.slowness.max(1)).max(1),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_iters: SHRINK_STEPS,
        // Drawn again are, for instance, more than twelve limits.
        max_local_rejects: u32::MAX,
        // Most of the time goes into making histories: it is half that of the default.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    };
    let run = TestRunner::new(config)
        .run(&histories, |history| property(&history).map_err(TestCaseError::fail));
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

/// Creates a player on an empty store.
pub(super) fn player(world: &World) -> Player {
    bounded_player(&world.source, Bounds::default())
}

/// Creates a player on an empty store with these ledger bounds.
pub(super) fn bounded_player(source: &Source, bounds: Bounds) -> Player {
    let Bounds { open, ended, checks } = bounds;
    let bounds = LedgerBounds { open, ended, checks, ..LedgerBounds::default() };
    let clock = ManualClock::at(Timestamp::from_unix_ms(0));
    let store = (source.empty)(clock.clone(), bounds);
    Player::new(store, clock).wait().expect("an empty store takes an admin key")
}

pub(super) async fn play(player: &mut Player, operation: &Operation) -> Result<Answer, Broken> {
    let answer = player.play(operation).await;
    answer.map_err(|error| format!("{} has no answer: {error}", operation.to_line()))
}

/// Reads a number from an environment variable, if it is set.
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
const GROUPED_REGRESSIONS: &str = "proptest-regressions/groups.txt";
const PLANNED_REGRESSIONS: &str = "proptest-regressions/plans.txt";
const OPEN_REGRESSIONS: &str = "proptest-regressions/open.txt";
/// Long enough for limits to change, windows to pass and keys to expire within one history.
const STEPS: Range<usize> = 1..60;
/// With them the whole suite takes half a minute on two cores, unoptimised, for a store in memory.
const DEFAULT_CASES: u32 = 2_000;
/// A history of sixty operations is small after a few thousand.
const SHRINK_STEPS: u32 = 5_000;
