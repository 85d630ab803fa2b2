//! Every order in which a few calls can go wrong, and what must hold in each: a model check of reservations.
//!
//! Some callers reserve, amend, settle, cancel, or check under a request id. Each may crash at any step and start
//! again under the same id. The network keeps every message that was ever sent: one may arrive late, again, before
//! an earlier one, or never, and so may its answer. A retry is one more arrival of the same message. The clock stands
//! still within a minute, ticks into the next one, and then past midnight and past the ttl; an admin lowers the limits
//! once, or not.
//!
//! [stateright](https://docs.rs/stateright) walks through all states of this world ([`world`]). What answers in it are
//! the steps of the core itself, on a real state and ledger ([`server`]). What truly happened is written down next to
//! them ([`truth`]), and the properties hold the one against the other ([`properties`]).

mod callers;
mod properties;
mod server;
mod truth;
mod world;

use std::env;
use std::thread;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use server::Bug;
use world::World;

#[test]
fn no_crash_no_retry_no_delay_and_no_turn_of_a_window_breaks_a_promise() {
    let started = Instant::now();
    let world = World::with_callers(callers()).checker().threads(threads()).spawn_bfs().join();
    println!(
        "{} callers: {} unique states of {} reached, up to {} deep, in {:.1?}",
        callers(),
        world.unique_state_count(),
        world.state_count(),
        world.max_depth(),
        started.elapsed()
    );
    world.assert_properties();
}

#[test]
fn a_settlement_that_is_not_fenced_by_its_window_is_found() {
    let story = counterexample(Bug::RefundsTheWindowOfNow, properties::NO_STRAY_REFUND);
    assert!(story.contains("the clock ticks"), "{story}");
}

#[test]
fn a_settlement_that_is_counted_again_is_found() {
    let story = counterexample(Bug::ForgetsThatItSettled, properties::COUNTED_ONCE);
    let last = story.lines().last().and_then(|line| line.split(';').next()).unwrap();
    assert_eq!(story.matches(last).count(), 2, "the same message twice:\n{story}");
}

#[test]
fn a_threshold_that_is_forgotten_with_a_refund_is_found() {
    let story = counterexample(Bug::ForgetsWhatFired, properties::FIRED_ONCE);
    assert!(story.contains("settle at less"), "{story}");
}

/// The shortest way to break a property in a world whose server has this bug, in words, which are printed.
fn counterexample(bug: Bug, property: &'static str) -> String {
    let broken_within = |depth| {
        let world = World { bug: Some(bug), ..World::with_callers(2) };
        let within = world.checker().target_max_depth(depth);
        let within = within.finish_when(HasDiscoveries::AnyOf([property].into()));
        within.spawn_bfs().join().discovery(property)
    };
    let path = (1..=LONGEST_STORY).find_map(broken_within).expect("the bug breaks the property");
    let story = world::story(path);
    println!("{bug:?} breaks \"{property}\":\n{story}");
    story
}

/// Two, or as many as `LIMITER_TEST_CALLERS` says.
fn callers() -> usize {
    match env::var("LIMITER_TEST_CALLERS") {
        Ok(callers) => callers.parse().expect("LIMITER_TEST_CALLERS is a whole number"),
        Err(_) => 2,
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// In states; the bugs that are planted show after a few.
const LONGEST_STORY: usize = 12;
