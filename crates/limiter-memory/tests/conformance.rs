//! The suite that every store passes, on a store in memory.

use limiter_conformance::suite::{self, StoreUnderTest};
use limiter_core::{LedgerBounds, ManualClock};
use limiter_memory::MemoryStore;

#[derive(Debug)]
struct Memory;

impl StoreUnderTest for Memory {
    type Store = MemoryStore;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> MemoryStore {
        MemoryStore::builder().clock(clock).ledger_bounds(bounds).build()
    }
}

fn main() {
    suite::main(Memory);
}
