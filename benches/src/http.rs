//! What a layer adds to a bare axum handler, called in process: ours, beside `tower_governor`.
//!
//! A [`Subject`] is a router with one handler, behind one layer or none. All get the same request, with an access key in
//! `x-api-key`, and are read to the end of their answer. What a layer costs is what its router takes more than the bare
//! one: in instructions, counted by callgrind, and in time, in turns within one process.
//!
//! The preset for gateways is compared with a layer that reads the body of a request and passes it on.

mod chat;
mod governor;
mod ours;
mod subject;
mod turns;

pub use subject::{GATEWAY, READS_BODY, SUBJECTS, Subject};
pub use turns::{Effort, Turns, measure};
