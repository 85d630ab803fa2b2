//! A guarded store that works gives the same answers as the store in it.

use limiter_conformance::suite::StoreUnderTest;
use limiter_core::ManualClock;
use limiter_memory::MemoryStore;
use limiter_policy::{FailurePolicy, GuardedStore, GuardedStoreBuilder};

#[derive(Debug)]
struct Guarded;

impl StoreUnderTest for Guarded {
    type Store = GuardedStore<MemoryStore>;

    async fn fresh(&self, clock: ManualClock) -> Self::Store {
        let store = MemoryStore::builder().clock(clock).build();
        GuardedStoreBuilder::new(FailurePolicy::FailOpen).guard(store)
    }
}

limiter_conformance::conformance_tests!(Guarded);
