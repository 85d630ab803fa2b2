//! The suite that every store passes, on a store in memory.

use limiter_conformance::suite::StoreUnderTest;
use limiter_core::ManualClock;
use limiter_memory::MemoryStore;

#[derive(Debug)]
struct Memory;

impl StoreUnderTest for Memory {
    type Store = MemoryStore;

    async fn fresh(&self, clock: ManualClock) -> MemoryStore {
        MemoryStore::builder().clock(clock).build()
    }
}

limiter_conformance::conformance_tests!(Memory);
