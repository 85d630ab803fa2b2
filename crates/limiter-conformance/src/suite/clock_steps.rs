//! The effects of a clock that steps back and forth on windows.

use limiter_core::Timestamp;

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // A step back by up to one window keeps the stored window; the step forth keeps it too.
    suite.story("a_clock_that_steps_back_by_one_window_and_forth_again_refills_nothing", |world| {
        assert_eq!(admitted_at(world, [NOON, at_noon_and(-60_000), NOON]), [LIMIT, 0, 0]);
    });

    // The price of never freezing a key: a step back by more than one window rebases the counts, and the step forth starts
    // the window again. The step back itself refills nothing.
    suite.story("a_clock_that_steps_back_by_two_windows_counts_a_window_twice", |world| {
        assert_eq!(admitted_at(world, [NOON, at_noon_and(-120_000), NOON]), [LIMIT, 0, LIMIT]);
    });
}

/// Calls a key of `LIMIT` requests per minute at each instant until it is denied, and returns how many were admitted.
fn admitted_at(world: &World, instants: [Timestamp; 3]) -> [u64; 3] {
    let key = world.limited(requests_per_minute(LIMIT));
    instants.map(|instant| {
        world.clock.set(instant);
        let mut admitted = 0;
        while key.check(None, requests(1)).is_allowed() {
            admitted += 1;
            assert!(admitted <= LIMIT, "one window admits more than its limit");
        }
        admitted
    })
}

const LIMIT: u64 = 10;
