//! The store in memory, as its callers see it.

mod common;
mod flood;
mod journal;
mod many_keys;
mod memory_bound;
mod no_allocation;
mod plans;
mod remembered;
mod snapshot;
