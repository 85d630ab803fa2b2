//! What one decision costs, beside what peers take for theirs: in memory, in [`redis`], and in front of a service, over
//! [`http`].
//!
//! In memory, a [`Subject`](subject::Subject) is a rate limiter with its keys, a [`Workload`](workload::Workload) says which
//! keys exist and who is asked for when. Both are written once and measured in four ways, on the same objects:
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
pub mod limitador;
pub mod memory;
mod ours;
pub mod redis;
pub mod report;
pub mod rounds;
pub mod sampling;
pub mod subject;
pub mod workload;

/// Rules of one decision: requests and tokens, by minute and day, for the key and for the key with one asset.
pub const RULES: usize = 8;

/// The one asset that every request asks for.
pub const ASSET: &str = "6895d6d1d50c89537c1cf237";
