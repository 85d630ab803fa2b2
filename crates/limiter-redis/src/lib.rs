//! The Redis store: rate limits for API keys, exact over many processes.
//!
//! Every decision is one atomic step in one round trip: a script on the server reads the key's limits and counts,
//! decides, and charges, on the server's own clock. So a change of limits or a deletion is in force for every process
//! at once. `limiter-core`, which decides in memory, explains the script's decisions with the same code.
//!
//! One server, servers behind Sentinels, and a cluster are all named by a URL:
//!
//! | URL | |
//! |---|---|
//! | `redis://user:password@host:port/database` | one server |
//! | `rediss://…` | the same by TLS (feature `tls`) |
//! | `unix:///path` | one server, by a socket |
//! | `redis+sentinel://host:port,host:port/service` | the master that Sentinels name |
//! | `redis+cluster://host:port,host:port` | a cluster, by some of its nodes |
//!
//! ```no_run
//! # async fn decide() -> Result<(), Box<dyn std::error::Error>> {
//! use limiter_core::{Charge, Store};
//! use limiter_redis::RedisStore;
//!
//! let store = RedisStore::connect("redis://127.0.0.1:6379").await?;
//! let decision = store.check_and_consume(&"ci".parse()?, None, &Charge::request()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Caveats
//! - A call whose answer was lost may have been charged: that is [`StoreError::OutcomeUnknown`], and never sent again.
//!   A call with a request id or on a reservation is sent again, since it charges nothing twice.
//! - Redis replicates after it has answered: the last charges may be lost in a failover. See GUARANTEES.md.
//! - Keys never expire in Redis, only remembered calls do. The store warns of a server that may evict keys, or refuses it
//!   ([`RedisStoreBuilder::refuse_eviction`]).
//! - On a cluster all data of a key lies in one slot: that of its id up to the first `/`, or of the whole id.
//!
//! # Metrics
//! With the feature `metrics`, the histogram `limiter_redis_batch_calls` counts the calls of each batch.
//!
//! [`StoreError::OutcomeUnknown`]: limiter_core::StoreError::OutcomeUnknown

#[cfg(test)]
#[macro_use]
mod testing;

mod address;
mod answer;
mod batch;
mod builder;
mod cache;
mod deciding;
mod directory;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod keyspace;
#[cfg(test)]
mod messages;
mod metrics;
mod plans;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod probe;
mod random;
mod records;
mod remembering;
mod rights;
mod runtime;
mod schema;
mod script;
mod scripts;
mod servers;
mod shape;
mod store;
mod unanswered;
mod waiting;

pub use builder::RedisStoreBuilder;
pub use error::RedisError;
pub use store::RedisStore;
