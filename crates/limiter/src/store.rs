//! The promise of a store, for those who write one.
//!
//! A limiter takes any [`Store`]: `Limiter::from(store)`. A store proves itself by passing the conformance suite of this
//! repository (`limiter-conformance`), which holds it to a model of the rules.
//!
//! The rules themselves are in the crate `limiter-core`: a store that keeps a `KeyState` for each key applies them in one
//! call, as the store in memory does.

pub use limiter_core::{
    BoxError, CallError, CreateResults, Crossing, FailureDomain, InForce, KeyDigest, KeyFailure,
    KeyState, LateEvent, LedgerBounds, Listener, NewRecord, RecordId, Store, StoredSecret, Unpaid,
    async_trait,
};
