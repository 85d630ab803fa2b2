//! Leases: most checks are decided in the memory of the process, out of what the store has charged for them in advance, and none
//! is ever admitted that is one too many.
//!
//! [`LeasedStore`] wraps a store of any kind. It has no rule of its own: a lease is a [grant](limiter_core::Store::grant), which the
//! store charges at every level, in full or not at all, and hands out of it what its own calls need. What they did not need goes
//! back into the windows that were charged.
//!
//! ```
//! use limiter_core::{Charge, Store};
//! use limiter_lease::LeasedStore;
//! use limiter_memory::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = LeasedStore::new(MemoryStore::new());
//! let decision = store.check_and_consume(&"ci".parse()?, None, &Charge::request()).await?;
//! assert!(decision.denied().is_some(), "there is no such key");
//! store.flush(std::time::Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # When a lease is taken, and how much
//! A key and an asset have leases from a [rate of calls](LeasedStoreBuilder::from_rate) on. A lease is what their calls are expected
//! to need in its [time](LeasedStoreBuilder::time), and never more than a [part](LeasedStoreBuilder::part) of what is left of any rule
//! up to its next threshold. So near a limit or a threshold each call goes to the store. There, what is leased counts as used: a
//! threshold may fire sooner by what others have leased. A lease is renewed in the background, when four fifths are used or 70 % of
//! the time has passed: it is raised by what its calls will need beyond what is left of it, for as long as its windows go on. Only
//! checks without an id draw on leases.
//!
//! # When it ends
//! With its time, and before that with any of its windows and with the expiry of any level. Its time is counted from the instant
//! *before* it was asked for, on a clock that goes on in suspend: a process that was stopped finds its leases dead. What was not
//! used goes back at the latest a tick later, and with [`flush`](limiter_core::Store::flush). What is never handed back, since the
//! process crashed, stays charged.
//!
//! # Denials
//! Before a call is denied by a limit, the leases of this process go back that count against the same limits, and the store is
//! asked again. The denial then holds for calls that ask for at least as much, until the time of a lease or one of the violated
//! windows has passed, or this process gives something back to the key or to one that shares a level with it, or changes one: to
//! hammer a full key costs the store nothing.

mod background;
mod book;
#[cfg(test)]
mod bug;
mod clock;
mod demand;
mod metrics;
mod pair;
mod settings;
#[cfg(test)]
mod simulation;
mod store;

pub use book::Figures;
pub use settings::LeasedStoreBuilder;
pub use store::LeasedStore;
