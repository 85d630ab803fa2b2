//! The in-memory store: rate limits for API keys inside one process.
//!
//! Every call is synchronous and needs no runtime: it finds the key's cell, locks it, and calls
//! [`limiter_core::evaluate`]. The async traits of `limiter-core` are a thin wrapper. There is no background thread:
//! windows roll at the next call, and the keys and assets that admins configured bound the memory of the store.
//!
//! ```
//! use limiter_core::{Charge, KeyConfig, KeyKind, Limits, NewRecord, Thresholds};
//! use limiter_memory::MemoryStore;
//!
//! let store = MemoryStore::new();
//! let limits = Limits::builder().requests_per_day(1).build()?;
//! let key = store.create(NewRecord {
//!     id: "ci".parse()?,
//!     workspace: "team-a".parse()?,
//!     kind: KeyKind::Member,
//!     config: KeyConfig::named("ci")?.with_global(limits),
//!     thresholds: Thresholds::DEFAULT,
//!     secret: None,
//!     bootstraps: false,
//! })?;
//!
//! assert!(store.check_and_consume(&key.id, None, &Charge::request()).is_allowed());
//! assert!(!store.check_and_consume(&key.id, None, &Charge::request()).is_allowed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cell;
mod changes;
mod directory;
mod handle;
#[cfg(test)]
mod interleavings;
mod map;
#[cfg(test)]
mod messages;
mod plans;
mod snapshot;
mod store;
mod sync;
mod time;

pub use changes::{Journal, KeyAction, KeyChange};
pub use handle::MemoryHandle;
pub use snapshot::{RestoreError, Snapshot};
pub use store::{MemoryStore, MemoryStoreBuilder};
