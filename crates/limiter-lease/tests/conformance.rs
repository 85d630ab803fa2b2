//! The suite that every store passes, on leases of a store in memory.

mod common;

use limiter_conformance::suite::{self, StoreUnderTest};
use limiter_core::{LedgerBounds, ManualClock};
use limiter_lease::LeasedStore;
use limiter_memory::MemoryStore;

struct LeasedMemory;

impl StoreUnderTest for LeasedMemory {
    type Store = LeasedStore;
    const LEASES: bool = true;
    /// Each call asks for a lease, and whenever the time passes all go back.
    const SLOWNESS: u32 = 2;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> LeasedStore {
        let store = MemoryStore::builder().clock(clock.clone()).ledger_bounds(bounds).build();
        common::leased(store, clock)
    }
}

fn main() {
    suite::main(LeasedMemory);
}
