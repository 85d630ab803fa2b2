//! The cost that a layer adds to a bare axum handler, called in process: ours, side by side with `tower_governor`.
//!
//! A [`Subject`] is a router with one handler, behind one layer or none. All get the same request, with an access key
//! in `x-api-key`, and their answers are read to the end. The cost of a layer is the difference between its router and
//! the bare one: in instructions, counted by callgrind, and in time, in turns within one process.
//!
//! The preset for gateways is compared with a layer that reads the body of a request and passes it on.

mod chat;
mod governor;
mod ours;
mod subject;
mod turns;

pub use subject::{GATEWAY, READS_BODY, SUBJECTS, Subject};
pub use turns::{Effort, Turns, measure};
