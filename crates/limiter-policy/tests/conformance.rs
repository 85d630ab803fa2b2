//! A guarded store that works gives the same answers as the store in it.

use limiter_conformance::suite::{self, StoreUnderTest};
use limiter_core::{LedgerBounds, ManualClock};
use limiter_memory::MemoryStore;
use limiter_policy::{FailurePolicy, GuardedStore, GuardedStoreBuilder};

#[derive(Debug)]
struct Guarded;

impl StoreUnderTest for Guarded {
    type Store = GuardedStore;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> Self::Store {
        let store = MemoryStore::builder().clock(clock).ledger_bounds(bounds).build();
        GuardedStoreBuilder::new(FailurePolicy::FailOpen).guard(store)
    }
}

fn main() {
    suite::main(Guarded);
}
