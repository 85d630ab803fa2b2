//! What happens when the store cannot answer: never a silent allow, never a call that hangs.
//!
//! [`GuardedStore`] wraps a store of any kind. A call has a deadline. What is answered when the store gives none is the
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
//! A call is sent once. What was sent and not answered may have been charged; a policy that goes on allows it all the same. Only what is
//! idempotent is told again: the end of a reservation, and what is paid.
//!
//! # Going on with a share
//! Under [`LocalShare`](FailurePolicy::LocalShare) the process decides by the rules of the core, with a [`Share`] of each limit as it was
//! last known and of what is left of the budget, in windows of its own, by its own clock. What it allowed is charged to the store when that is
//! back, in one step for each key and asset, in the windows of then: past the limit if need be, as debt. It is told under an id of its
//! own until it is confirmed, so that it counts once, also if an answer is lost. The store remembers that id for a day
//! ([a setting](GuardedStoreBuilder::payments_remembered_for)). A payment that may have been charged and is nearly that
//! old is given up with a warning, and never sent again. A payment that the store refuses is tried again with growing
//! pauses, and delays no other. A call that was under way when the store went may count twice as well, and never
//! less than once. Of a key that is deleted meanwhile nothing is charged.
//!
//! # Reservations
//! A policy that goes on answers `Ok` where a reservation of before ends in an outage: the store is told when it is back, if it
//! comes back before the reservation's ttl has passed. What waits for that is bounded; one more is the store's error. What was reserved
//! without the store is extended and settled without it: under `FailOpen` it is not charged at all, under `LocalShare`
//! as it ended. The number of such reservations is [bounded](GuardedStoreBuilder::most_remembered) too. Under
//! `FailOpen` it is 10,000 by default, and settling a forgotten one is an error after the outage. Under `LocalShare` it
//! is [100,000 over all keys](GuardedStoreBuilder::most_calls_remembered), and one more is not allowed. An
//! extension of what the store knows is let through under `FailOpen`, and the store's error under `LocalShare`, which does not know the estimate.
//!
//! # At the end of a process
//! [`GuardedStore::flush`] sends the store all late operations and returns those that are left. Debts that remain when
//! the last owner of a guarded store is dropped are lost, and a warning states their sum.
//!
//! # Figures
//! With the feature `metrics`, `limiter_breaker_state` counts the breakers of this process in each `state`: one for
//! each guarded store, and one more for each part that was called.
//! `limiter_breaker_changes_total` counts the changes, and `limiter_degraded_answers_total` what was answered without the store, by `policy` and
//! `outcome`. `limiter_reconciliations_total` counts late operations after an outage, by `operation` and `outcome`.
//! Install the recorder before the store is guarded.

mod asking;
mod breaker;
mod breakers;
mod builder;
mod catch_up;
mod debt;
mod error;
mod here;
mod known;
mod later;
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
