//! The promises of each policy under faults: 64 tasks, a real server, and a proxy before it. GUARANTEES.md lists the
//! test of each promise.

mod cluster;
mod faults;
#[cfg(feature = "metrics")]
mod figures;
mod load;
mod local_share;
mod startup;
mod world;
