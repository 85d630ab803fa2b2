//! What the store promises when something breaks: each fault on a real server, counted. GUARANTEES.md tells which test
//! shows which promise.

mod bad_input;
mod bad_servers;
mod cluster;
mod exact;
mod load;
mod lost_changes;
mod lost_replies;
mod nothing_left;
mod refusals;
mod remembered;
mod replication;
mod restarts;
mod rights;
mod sentinel;
mod stalled;
