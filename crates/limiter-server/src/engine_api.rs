//! The engine over HTTP, for services that are not written in Rust.
//!
//! The access key of a request is that of the key to be charged. A decision is an answer: 200, whether it allows or denies,
//! with the engine's own words, and with the headers of the dialects that are configured. Only what is wrong with the request
//! or its key is an error, as `application/problem+json`.

mod answer;
pub(crate) mod check;
pub(crate) mod key;
pub(crate) mod keys;
pub(crate) mod plans;
pub(crate) mod problems;
pub(crate) mod reservations;
pub(crate) mod usage;
