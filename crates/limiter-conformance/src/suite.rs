//! The suite that every store passes.
//!
//! A test target without a harness of its own puts a store under test. Each story of the suite is a test there, with a name
//! such as `races::a_budget_is_spent_exactly`:
//!
//! ```no_run
//! use limiter_conformance::suite::{self, StoreUnderTest};
//! use limiter_core::{LedgerBounds, ManualClock};
//! use limiter_memory::MemoryStore;
//!
//! struct Memory;
//!
//! impl StoreUnderTest for Memory {
//!     type Store = MemoryStore;
//!
//!     async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> MemoryStore {
//!         MemoryStore::builder().clock(clock).ledger_bounds(bounds).build()
//!     }
//! }
//!
//! fn main() {
//!     suite::main(Memory);
//! }
//! ```
//!
//! Its manifest says so:
//!
//! ```toml
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! Two environment variables set how much is tried: `LIMITER_TEST_CASES`, the number of random histories (2,000 by
//! default; some stories try a share of it), and `LIMITER_TEST_DEPTH`, the length of the enumerated ones (4). With
//! `cargo test --release`, fifty times as many and a depth of 5 take two minutes for a store in memory.

mod admins;
mod bounds;
mod calendars;
mod changing_now;
mod changing_thresholds;
mod creating_many;
mod days;
mod deleting;
mod describing;
mod extremes;
mod firing_once;
mod granting;
mod group_changes;
mod group_levels;
mod group_races;
mod group_reservations;
mod group_rights;
mod group_shadow;
mod group_thresholds;
mod groups;
mod histories;
mod identities;
mod key;
mod key_races;
mod making_groups;
mod managing_plans;
mod open_groups;
mod other_assets;
mod owning;
mod parallel;
mod peeking;
mod plans;
mod prelude;
mod property;
mod races;
mod repeating;
mod reservation_races;
mod reserving;
mod resetting;
mod retrying;
mod rights;
mod rotating;
mod schedule;
mod searching;
mod secrecy;
mod settling;
mod shadow;
mod thresholds;
mod upserting;
mod versions;
mod workspaces;
mod world;

use std::process;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use limiter_core::{LedgerBounds, ManualClock, Store};

use self::key::Key;
use self::world::World;
use crate::waiting::{self, Wait};

/// A source of empty stores.
pub trait StoreUnderTest: Send + Sync + 'static {
    /// The store.
    type Store: Store;

    /// How much slower than a store in memory it is: the number of random histories is divided by it. The enumerated
    /// ones are shorter by one operation if it is slower at all, and by two from 100 on, where stories of many keys use
    /// fewer.
    const SLOWNESS: u32 = 1;

    /// Whether it decides checks out of leases. Then the answer to a check is compared without its figures: what it shows as used
    /// and left is as of the lease, a denial may be that of an earlier call, and thresholds count what is leased. All that
    /// is read is compared as always.
    const LEASES: bool = false;

    /// An empty store that shares nothing with any other, with this clock and these ledger bounds.
    fn with_bounds(
        &self,
        clock: ManualClock,
        bounds: LedgerBounds,
    ) -> impl Future<Output = Self::Store> + Send;
}

/// Runs the stories that the command line selects as tests, and exits.
pub fn main(store: impl StoreUnderTest) -> ! {
    let conclusion = libtest_mimic::run(&Arguments::from_args(), stories(store));
    process::exit(if conclusion.has_failed() { 101 } else { 0 })
}

/// Runs all stories in one test, several at once, for stores that share a slow setup.
///
/// # Panics
/// If a story fails.
pub fn run_all(store: impl StoreUnderTest, at_once: usize) {
    let arguments = Arguments { test_threads: Some(at_once), ..Arguments::default() };
    let conclusion = libtest_mimic::run(&arguments, stories(store));
    assert!(!conclusion.has_failed(), "{conclusion:?}");
}

/// All stories, as tests of this store.
pub fn stories<T: StoreUnderTest>(store: T) -> Vec<Trial> {
    let source = Source {
        slowness: T::SLOWNESS,
        leases: T::LEASES,
        empty: Box::new(move |clock, bounds| Arc::new(store.with_bounds(clock, bounds).wait())),
    };
    let mut suite = Suite { source: Arc::new(source), module: "", stories: Vec::new() };
    let modules: &[(&'static str, Stories)] = &[
        ("admins", admins::stories),
        ("bounds", bounds::stories),
        ("calendars", calendars::stories),
        ("changing_now", changing_now::stories),
        ("changing_thresholds", changing_thresholds::stories),
        ("creating_many", creating_many::stories),
        ("days", days::stories),
        ("deleting", deleting::stories),
        ("describing", describing::stories),
        ("extremes", extremes::stories),
        ("firing_once", firing_once::stories),
        ("granting", granting::stories),
        ("group_changes", group_changes::stories),
        ("group_levels", group_levels::stories),
        ("group_races", group_races::stories),
        ("group_reservations", group_reservations::stories),
        ("group_rights", group_rights::stories),
        ("group_shadow", group_shadow::stories),
        ("group_thresholds", group_thresholds::stories),
        ("groups", groups::stories),
        ("histories", histories::stories),
        ("identities", identities::stories),
        ("key_races", key_races::stories),
        ("making_groups", making_groups::stories),
        ("managing_plans", managing_plans::stories),
        ("open_groups", open_groups::stories),
        ("other_assets", other_assets::stories),
        ("owning", owning::stories),
        ("parallel", parallel::stories),
        ("peeking", peeking::stories),
        ("plans", plans::stories),
        ("races", races::stories),
        ("repeating", repeating::stories),
        ("reservation_races", reservation_races::stories),
        ("resetting", resetting::stories),
        ("retrying", retrying::stories),
        ("rights", rights::stories),
        ("rotating", rotating::stories),
        ("schedule", schedule::stories),
        ("searching", searching::stories),
        ("secrecy", secrecy::stories),
        ("settling", settling::stories),
        ("shadow", shadow::stories),
        ("thresholds", thresholds::stories),
        ("upserting", upserting::stories),
        ("versions", versions::stories),
        ("workspaces", workspaces::stories),
    ];
    for (module, stories) in modules {
        suite.module = module;
        stories(&mut suite);
    }
    suite.stories
}

/// Adds the stories of a module.
type Stories = fn(&mut Suite);

/// The store under test, without its type: so the stories are compiled once, and not for each store.
struct Source {
    slowness: u32,
    leases: bool,
    empty: Box<dyn Fn(ManualClock, LedgerBounds) -> Arc<dyn Store> + Send + Sync>,
}

/// The stories so far.
struct Suite {
    source: Arc<Source>,
    module: &'static str,
    stories: Vec<Trial>,
}

impl Suite {
    /// Adds a story that begins at noon in a workspace with one admin key. It fails if it panics.
    fn story(&mut self, name: &str, story: impl FnOnce(&World) + Send + 'static) {
        let source = Arc::clone(&self.source);
        let run = move || {
            waiting::on_a_runtime(|| story(&World::at_noon(&source)));
            Ok(())
        };
        self.stories.push(Trial::test(format!("{}::{name}", self.module), run));
    }

    /// Adds a story that compares figures in the answers to checks: for a store that decides none out of leases.
    fn exact_story(&mut self, name: &str, story: impl FnOnce(&World) + Send + 'static) {
        if !self.source.leases {
            self.story(name, story);
        }
    }

    /// Adds a story of one member key, which may make 10 requests and 100 tokens a minute, and 1,000 tokens a day.
    fn calls(&mut self, name: &str, story: impl FnOnce(Key<'_>) + Send + 'static) {
        self.story(name, |world| story(world.generous()));
    }
}
