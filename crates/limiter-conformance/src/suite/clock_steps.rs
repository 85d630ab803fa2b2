//! The effects of a clock that steps back and forth on windows.

use limiter_core::{Charge, Store, Timestamp};

use super::StoreUnderTest;
use super::world::{MINUTE, NOON, World, named, requests_per_minute};

/// A step back by up to one window keeps the stored window; the step forth keeps it too.
pub async fn a_clock_that_steps_back_by_one_window_and_forth_again_refills_nothing(
    store: impl StoreUnderTest,
) {
    let counted = admitted_at(&store, &[NOON, before_noon(1), NOON]).await;
    assert_eq!(counted, [LIMIT, 0, 0]);
}

/// The price of never freezing a key: a step back by more than one window rebases the counts, and the step forth starts
/// the window again. The same minute is counted twice. The step back itself refills nothing.
pub async fn a_clock_that_steps_back_by_two_windows_and_forth_again_counts_its_window_twice(
    store: impl StoreUnderTest,
) {
    let counted = admitted_at(&store, &[NOON, before_noon(2), NOON]).await;
    assert_eq!(counted, [LIMIT, 0, LIMIT]);
}

/// Calls a key of `LIMIT` requests per minute at each instant until it is denied, and returns how many were admitted.
async fn admitted_at<S: Store>(
    store: &impl StoreUnderTest<Store = S>,
    instants: &[Timestamp],
) -> Vec<u64> {
    let world = World::at_noon(store).await;
    let key = world.member(named("ci").with_global(requests_per_minute(LIMIT))).await;
    let mut counted = Vec::new();
    for instant in instants {
        world.clock.set(*instant);
        let mut admitted = 0;
        while world.check(&key, None, Charge::request()).await.is_allowed() {
            admitted += 1;
            assert!(admitted <= LIMIT, "one window admits more than its limit");
        }
        counted.push(admitted);
    }
    counted
}

fn before_noon(minutes: i64) -> Timestamp {
    let minute_ms = i64::try_from(MINUTE.as_millis()).expect("a minute is short");
    Timestamp::from_unix_ms(NOON.unix_ms() - minutes * minute_ms)
}

const LIMIT: u64 = 10;
