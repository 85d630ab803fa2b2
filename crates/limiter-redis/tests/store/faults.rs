//! The promises of the store when something breaks: each fault on a real server, counted. GUARANTEES.md lists which test
//! shows which promise.

mod bad_input;
mod bad_servers;
mod cluster;
mod exact;
mod flushed;
mod load;
mod lost_changes;
mod lost_replies;
mod no_runtime;
mod nothing_left;
mod refusals;
mod remembered;
mod replication;
mod restarts;
mod rights;
mod sentinel;
mod slots;
mod stalled;
