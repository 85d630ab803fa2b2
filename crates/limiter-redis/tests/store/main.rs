//! The store on real servers, in one binary: linking many takes longer than running them.

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod corruption;
mod delete_everything;
#[cfg(feature = "fuzzing")]
mod differential;
mod faults;
#[cfg(feature = "metrics")]
mod figures;
mod groups;
mod open_groups;
mod plans;
mod rotation;
mod sentinel;
#[cfg(feature = "fuzzing")]
mod stale;
#[cfg(feature = "fuzzing")]
mod trips;
mod update;
