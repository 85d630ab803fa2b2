//! A store of the user's own, behind boxed futures, gives the same answers as any other.

use limiter::{LedgerBounds, ManualClock, MemoryStore, WatchedStore};
use limiter_conformance::suite::{self, StoreUnderTest};

#[derive(Debug)]
struct Custom;

impl StoreUnderTest for Custom {
    type Store = WatchedStore;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> WatchedStore {
        WatchedStore::custom(MemoryStore::builder().clock(clock).ledger_bounds(bounds).build())
    }
}

fn main() {
    suite::main(Custom);
}
