//! The protocol between clients and the place where the records of keys and groups lie, checked in small worlds: every order in
//! which two clients' requests can arrive, with caches that are stale in every way, and in which messages, clients and the
//! clock can go wrong.
//!
//! limiter-redis prepares an operation from what it has at hand, which may be old; the server compares and adds; the client
//! explains what comes back, or tries again. Here the clients ([`client`]) use the core's `prepare`, `explain` and `change`
//! as limiter-redis does, and the server ([`server`]) the core's `apply`. [stateright](https://docs.rs/stateright) walks
//! through all states of some small [`worlds`]. An oracle that shares no code with them ([`oracle`]) replays what took
//! effect, and the properties hold the one against the other ([`world`]). Bugs that are planted show that each part of the
//! protocol is needed, and that the check would notice ([`bug`]).
//!
//! The worlds are of keys without a group, of keys beneath a group, and of parallel limits. Shadow mode, limits of other assets,
//! changes that take effect at once, and ttls are not in them; the histories with stale clients of limiter-redis have those.

mod bug;
mod client;
mod oracle;
mod path;
mod server;
mod world;
mod worlds;

use std::env;
use std::thread;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use bug::Bug;
use world::{Sight, World};

#[test]
fn no_order_of_requests_breaks_a_promise() {
    let mut sights = [0; Sight::ALL.len()];
    for world in worlds::all() {
        let world = world.with_more_calls(more_calls());
        let (name, seen, started) = (world.name, world.seen.clone(), Instant::now());
        let checker = world.checker().threads(threads()).finish_when(HasDiscoveries::Any);
        let checked = checker.spawn_bfs().join();
        println!(
            "{name}: {} unique states of {} reached, all of them, up to {} deep, in {:.1?}",
            checked.unique_state_count(),
            checked.state_count(),
            checked.max_depth(),
            started.elapsed()
        );
        for (property, path) in checked.discoveries() {
            println!("{property}:\n{}", world::story(path));
        }
        checked.assert_properties();
        for (sum, sight) in sights.iter_mut().zip(Sight::ALL) {
            *sum += seen.count(sight);
        }
    }
    println!("seen: {:?}", Sight::ALL.iter().zip(sights).collect::<Vec<_>>());
    assert!(sights.iter().all(|sight| *sight > 0), "the worlds are too small");
}

#[test]
fn a_least_value_that_is_not_compared_is_found() {
    counterexample(Bug::ComparesSums, worlds::thresholds(), world::ADMITS);
}

#[test]
fn marks_that_are_guarded_are_found() {
    counterexample(Bug::GuardsMarks, worlds::stops(), world::STARVES_NOBODY);
}

#[test]
fn a_roll_that_takes_the_clients_rebases_is_found() {
    counterexample(Bug::TakesTheClientsRebases, worlds::rebases(), world::CORRECTS);
}

#[test]
fn a_correction_that_is_fenced_by_the_roll_is_found() {
    counterexample(Bug::FencesByTheRoll, worlds::rebases(), world::CORRECTS);
}

#[test]
fn windows_that_the_client_believes_in_are_found() {
    counterexample(Bug::BelievesTheClientsWindows, worlds::rebases(), world::CORRECTS);
}

#[test]
fn stamps_that_are_used_again_are_found() {
    counterexample(Bug::UsesStampsAgain, worlds::reborn(), world::ADMITS);
}

#[test]
fn generations_that_are_used_again_are_found() {
    counterexample(Bug::UsesGenerationsAgain, worlds::relisted(), world::CORRECTS);
}

#[test]
fn a_stamp_that_is_not_compared_is_found() {
    counterexample(Bug::ComparesNoStamp, worlds::limits(), world::ADDS_UP);
}

#[test]
fn a_stamp_of_the_group_that_is_not_compared_is_found() {
    counterexample(Bug::ComparesTheKeysStampAlone, worlds::groups::levels(), world::ADDS_UP);
}

#[test]
fn a_group_that_is_deleted_with_keys_beneath_it_is_found() {
    counterexample(Bug::DeletesGroupsOfKeys, worlds::groups::regrouped(), world::ADMITS);
}

#[test]
fn a_level_that_is_charged_though_the_other_refuses_is_found() {
    counterexample(Bug::ChargesEachLevelAlone, worlds::groups::sharing(), world::ADDS_UP);
}

#[test]
fn a_time_that_is_not_compared_is_found() {
    counterexample(Bug::ComparesNoTime, worlds::rolls(), world::ADDS_UP);
}

#[test]
fn a_reservation_that_is_not_compared_is_found() {
    counterexample(Bug::ComparesNoEntry, worlds::network(), world::CORRECTS);
}

#[test]
fn a_denial_that_stores_no_rebase_is_found() {
    counterexample(Bug::StoresNoRebase, worlds::far(), world::THAWS);
}

#[test]
fn a_count_that_leaves_the_range_is_found() {
    counterexample(Bug::StopsAtNoEnd, worlds::ends(), world::CORRECTS);
}

#[test]
fn windows_that_roll_together_are_found() {
    counterexample(Bug::RollsAllAtOnce, worlds::rolls(), world::ADDS_UP);
}

#[test]
fn slots_that_are_counted_without_their_holders_are_found() {
    counterexample(Bug::CountsSlotsWithoutIds, worlds::slots::slots(), world::HOLDS);
}

#[test]
fn a_slot_that_is_looked_for_before_the_id_is_found() {
    counterexample(Bug::LooksForSlotsFirst, worlds::slots::given_up(), world::DECIDES);
}

#[test]
fn an_answer_by_old_parallel_limits_is_found() {
    counterexample(Bug::ExplainsByOldSlots, worlds::slots::resized(), world::DECIDES);
}

#[test]
fn expired_slots_that_are_counted_are_found() {
    counterexample(Bug::CountsExpiredSlots, worlds::slots::expiries(), world::DECIDES);
}

#[test]
fn expired_slots_that_come_back_are_found() {
    counterexample(Bug::RenewsExpiredSlots, worlds::slots::expiries(), world::HOLDS);
}

#[test]
fn an_end_that_frees_no_slot_is_found() {
    counterexample(Bug::FreesNoSlot, worlds::slots::slots(), world::HOLDS);
}

#[test]
fn slots_that_outlive_their_key_are_found() {
    counterexample(Bug::KeepsSlotsOfDeletedKeys, worlds::slots::emptied(), world::HOLDS);
}

/// Finds and prints a path on which this bug breaks the property. It is at most one step longer than the shortest one.
fn counterexample(bug: Bug, world: World, property: &'static str) {
    let (name, started) = (world.name, Instant::now());
    let world = World { bug: Some(bug), ..world };
    let broken_within = |depth| {
        let checker = world.clone().checker().threads(threads()).target_max_depth(depth);
        let checker = checker.finish_when(HasDiscoveries::AnyOf([property].into()));
        checker.spawn_bfs().join().discovery(property)
    };
    let path = (2..=LONGEST_STORY)
        .step_by(2)
        .find_map(broken_within)
        .expect("the bug breaks the property");
    println!(
        "{bug:?} in \"{name}\" breaks \"{property}\", in {:.1?}:\n{}",
        started.elapsed(),
        world::story(path)
    );
}

/// The number of additional calls in each world: `LIMITER_TEST_MORE_CALLS`, or 0 if it is not set.
fn more_calls() -> u8 {
    match env::var("LIMITER_TEST_MORE_CALLS") {
        Ok(calls) => calls.parse().expect("LIMITER_TEST_MORE_CALLS is a whole number"),
        Err(_) => 0,
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The most states of a counterexample.
const LONGEST_STORY: usize = 16;
