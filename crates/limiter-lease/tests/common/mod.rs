//! Stores that lease wherever they can: each call but the first of a key and an asset asks for a lease.

use std::sync::Mutex;
use std::time::Duration;

use limiter_core::{ManualClock, Store};
use limiter_lease::LeasedStore;

/// Leases from this store, whose clock this is.
pub(crate) fn leased(store: impl Store, clock: ManualClock) -> LeasedStore {
    // Unlike that of the store, it never steps back: whenever that moves, time has passed.
    let passed = Mutex::new((clock.now(), Duration::ZERO));
    let since_start = move || {
        let (now, mut passed) = (clock.now(), passed.lock().expect("no test has failed here"));
        let (before, since_start) = *passed;
        *passed = (now, since_start + now.since(before) + before.since(now));
        passed.1
    };
    LeasedStore::builder(store).clock(since_start).from_rate(0).build()
}
