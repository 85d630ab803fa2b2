//! What happens when the store cannot answer: never a silent allow, never a call that hangs.
//!
//! [`GuardedStore`] wraps a store of any kind. A call has a deadline. What is answered when the store gives none is the
//! caller's explicit choice, the [`FailurePolicy`], and every answer given without the store is flagged as
//! [degraded](limiter_core::Allowed::degraded).
//!
//! ```
//! use limiter_core::{Charge, DecisionStore};
//! use limiter_memory::MemoryStore;
//! use limiter_policy::{BreakerState, FailurePolicy, GuardedStore, GuardedStoreBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A store that cannot be connected to, from the start.
//! let store: GuardedStore<MemoryStore> = GuardedStoreBuilder::new(FailurePolicy::FailOpen)
//!     .connect(async || Err("the database is on fire"))
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
//! A circuit breaker counts failures: errors by which nothing is known of the answer, and deadlines that passed. After three in a row (a
//! setting) the store is given up. From then on calls are answered at once, and one task sends it probes, which charge nothing: one
//! at once, unless it has just come back, and then one each second. No caller waits for them. The first that is answered brings
//! the store back.
//!
//! A call is sent once. What was sent and not answered may have been charged: under `FailOpen` it is allowed all the same.
//! Only the end of a reservation is told again, since it is idempotent.
//!
//! # Reservations
//! Under `FailOpen` a reservation that is settled or cancelled in an outage answers `Ok`: the store is told when it is back, if it
//! comes back before the reservation's ttl has passed. What waits for that is bounded; one more is the store's error. What was reserved
//! without the store is settled without it, and not charged.

mod asking;
mod breaker;
mod builder;
mod error;
mod handle;
mod known;
mod later;
mod policy;
mod recovery;
mod store;

pub use breaker::BreakerState;
pub use builder::GuardedStoreBuilder;
pub use error::Outage;
pub use handle::GuardedHandle;
pub use policy::FailurePolicy;
pub use store::GuardedStore;
