//! The cost of one decision in Redis, side by side with the least cost of a script there.
//!
//! Measured in three ways, all of them with the store as applications use it:
//!
//! - [`counting`]: instructions of the server, under callgrind, for each of the [`cases`]; they repeat to within 2 %;
//! - [`sizes`]: bytes that a key takes in the server;
//! - [`rates`]: decisions a second, in turns with a [`plain`] client, so that ratios hold also on a busy machine.
//!
//! Each writes [`figures`](crate::figures), of which the last stage makes one table and one JSON object.
//! `scripts/bench redis` runs all of them.

pub mod cases;
pub mod counting;
pub mod keys;
pub(crate) mod minute;
pub mod plain;
pub mod rates;
mod remembered;
pub mod sizes;
pub mod targets;
