//! Policies for outages of the store: no call is allowed silently, and no call hangs.
//!
//! [`GuardedStore`] wraps a store of any kind. A call has a deadline. The answer when the store gives none is the
//! caller's explicit choice, the [`FailurePolicy`], and every answer given without the store is flagged as
//! [degraded](limiter_core::Allowed::degraded).
//!
//! ```
//! use limiter_core::{Charge, Store};
//! use limiter_memory::MemoryStore;
//! use limiter_policy::{BreakerState, FailurePolicy, GuardedStore, GuardedStoreBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A store that cannot be connected to, from the start.
//! let store: GuardedStore = GuardedStoreBuilder::new(FailurePolicy::FailOpen)
//!     .connect(async || Err::<MemoryStore, _>("the database is on fire"))
//!     .await;
//! assert_eq!(store.breaker(), BreakerState::Open);
//!
//! let decision = store.check_and_consume(&"ci".parse()?, None, &Charge::request()).await?;
//! assert!(decision.is_allowed() && decision.is_degraded());
//! # Ok(())
//! # }
//! ```
//!
//! # What an outage costs
//! A circuit breaker counts failures: errors that leave the answer unknown, deadlines that passed, and callers that
//! left after a tenth of the deadline without an answer. After three in a row (a setting) the store is given up. From
//! then on calls are answered at once, and one task sends probes, which charge nothing. The first probe is sent at
//! once, unless the store has just come back; the others follow each second. No caller waits for them. The first
//! answered probe brings the store back.
//!
//! A store whose parts fail on their own has a breaker for each part
//! ([`failure_domain`](limiter_core::Store::failure_domain)), such as each master of a Redis cluster. While a
//! part is given up, keys of the other parts are decided as usual. Calls about several keys, such as a listing or a
//! change of keys, are sent while the store is connected, and count for no part.
//!
//! A call is sent once. A call without an answer may have been charged; a policy that goes on allows it even so. Only
//! idempotent operations are sent again: ends of reservations, and payments.
//!
//! # Going on with a share
//! Under [`LocalShare`](FailurePolicy::LocalShare) the process decides by the rules of the core, with a [`Share`] of
//! each limit, as last known, in its own windows, by its own clock. Of a limit that holds for ever, such as the budget,
//! what is left is shared. The keys beneath a group have its share together, and a key is decided only if all its
//! groups are known too. The allowed calls are charged to the store when it is back, in one payment for each key and
//! asset, at every level of the key, in the windows open then: past the limit if need be, as debt. Assets that neither
//! a key nor its groups list share one payment. A payment is sent under its own id until it is confirmed, so that it
//! counts once. The store remembers that id for a day ([a setting](GuardedStoreBuilder::payments_remembered_for)). A
//! payment that may have been charged and is nearly that old is given up with a warning, and never sent again. A
//! payment that the store refuses is tried again with growing pauses, and delays no other. A call under way when the
//! outage began may count twice, and never less than once. Calls of a key that was deleted meanwhile are not charged.
//!
//! # Reservations
//! A policy that goes on answers `Ok` when an earlier reservation ends in an outage, and sends the end when the store
//! is back, if the reservation's ttl has not passed. The queue of ends is bounded; one more end is the store's error. A
//! call reserved without the store is amended and settled without it: under `FailOpen` it is not charged at all, under
//! `LocalShare` its final cost is. The number of such reservations is [bounded](GuardedStoreBuilder::most_remembered).
//! Under `FailOpen` it is 10,000 by default, and settling a forgotten one is an error after the outage. Under
//! `LocalShare` it is [100,000 over all keys](GuardedStoreBuilder::most_calls_remembered), and one more is refused. An
//! amendment of an earlier reservation is allowed under `FailOpen`, and the store's error under `LocalShare`.
//!
//! # At the end of a process
//! [`GuardedStore::flush`] sends the store all late operations and returns those that are left. Debts that remain when
//! the last owner of a guarded store is dropped are lost, and a warning states their sum.
//!
//! # Metrics
//! With the feature `metrics`, `limiter_breaker_state` counts the breakers of this process in each `state`: one for
//! each guarded store, and one more for each part that was called.
//! `limiter_breaker_changes_total` counts the changes, `limiter_degraded_answers_total` the answers without the store,
//! by `policy` and `outcome`, and `limiter_reconciliations_total` late operations, by `operation` and `outcome`.
//! Install the recorder before the store is guarded.

mod asking;
mod breaker;
mod breakers;
mod builder;
mod calls;
mod catch_up;
mod debt;
mod error;
mod here;
mod known;
mod later;
mod level;
mod local;
#[cfg(test)]
mod messages;
mod metrics;
mod pause;
mod policy;
mod recovery;
mod runtime;
mod share;
mod store;

pub use breaker::BreakerState;
pub use builder::GuardedStoreBuilder;
pub use error::Outage;
pub use policy::FailurePolicy;
pub use share::Share;
pub use store::GuardedStore;
