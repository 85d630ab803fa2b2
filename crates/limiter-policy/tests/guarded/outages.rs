//! What each policy promises when something breaks: 64 tasks, a real server, and a proxy on the way to it. GUARANTEES.md tells
//! which test shows which promise.

mod cluster;
mod faults;
#[cfg(feature = "metrics")]
mod figures;
mod load;
mod local_share;
mod startup;
mod world;
