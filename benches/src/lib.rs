//! The cost of one decision, side by side with its peers: in memory, in [`redis`], out of a [`lease`], and in front of a
//! service, over [`http`].
//!
//! In memory, a [`Subject`](subject::Subject) is a rate limiter with its keys, and a [`Workload`](workload::Workload)
//! defines the keys and the order of accesses. Both are written once and measured in four ways, on the same objects:
//!
//! - [`rounds`]: time, all subjects in turns within one process, so that what disturbs one disturbs its neighbours
//!   too and the ratios of a round stay true on a noisy machine;
//! - `decision count` under callgrind: instructions, the same on every machine and in every run;
//! - [`memory`]: what a key adds to the resident set;
//! - [`sampling`]: criterion, one subject after the other.
//!
//! `scripts/bench decision` runs all four and prints one table; `cargo bench -p limiter-benches` runs the last alone,
//! longer, for one subject if you like.

pub mod figures;
mod governor;
pub mod http;
pub mod lease;
pub mod limitador;
pub mod memory;
mod ours;
pub mod redis;
pub mod report;
pub mod rounds;
pub mod sampling;
pub mod stages;
pub mod subject;
pub mod workload;

/// Rules of one decision: requests and tokens, by minute and day, for the key and for the key with one asset.
pub const RULES: usize = 8;

/// The one asset of every request.
pub const ASSET: &str = "6895d6d1d50c89537c1cf237";

/// The page for those who come from `governor`, whose examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from-governor.md")]
struct ComingFromGovernor;
