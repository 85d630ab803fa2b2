//! The contract of a store, for authors of stores.
//!
//! A limiter takes any [`Store`]: `Limiter::from(store)`. A store must pass the conformance suite of this repository
//! (`limiter-conformance`), which compares it with a model of the rules.
//!
//! The rules themselves are in the crate `limiter-core`: a store that keeps a `KeyState` for each key applies them in one
//! call, as the store in memory does.

pub use limiter_core::{
    BoxError, CallError, CreateResults, Crossing, DayHistory, FailureDomain, KeyDigest, KeyFailure,
    KeyRotation, KeyState, KeyUpdate, LateEvent, LedgerBounds, Listener, NewRecord, RecordId,
    Store, StoredPlan, StoredSecret, TakenPlan, Unpaid, UpdatedKey, async_trait,
};
