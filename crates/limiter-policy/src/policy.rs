//! Failure policies: the caller's choice of the answer when the store cannot answer.

use crate::share::Share;

/// The policy that answers calls while the store cannot.
///
/// It holds for calls: checks, peeks, reservations, and the look-up of access keys. Managing keys and reading usage are
/// errors in an outage. Corrupt stored data ([`StoreError::Corrupt`](limiter_core::StoreError::Corrupt)) is an error
/// under every policy: the store has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailurePolicy {
    /// Returns the store's error: no call is allowed that the store has not allowed.
    #[default]
    FailClosed,
    /// Allows every call, flagged as [degraded](limiter_core::Allowed::degraded), and counts nothing: any number of
    /// calls, of any key, also of an unknown, deleted or expired one.
    FailOpen,
    /// Decides in this process, with a share of each limit as last known. Its answers, allowed or denied, are flagged as
    /// degraded. The allowed calls are charged to the store when it is back, as debt if need be.
    ///
    /// It knows a key and its groups from the key's first call that the store allowed, and reads each of them again each
    /// minute while such calls come. Calls of other keys return the store's error.
    LocalShare {
        /// The part of each limit, and of the rest of the budget, that this process may use.
        share: Share,
    },
}
