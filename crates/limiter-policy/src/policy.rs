//! What to do when the store cannot answer: the caller's explicit choice.

use crate::share::Share;

/// What a limiter answers while its store cannot.
///
/// It holds for calls: checks, peeks, reservations, and the look-up of access keys. What manages or watches keys is always an
/// error then. And stored data that cannot be read ([`StoreError::Corrupt`](limiter_core::StoreError::Corrupt)) is an error under
/// every policy: the store is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailurePolicy {
    /// The store's error: no call is let through that the store has not allowed.
    #[default]
    FailClosed,
    /// Every call is let through, flagged as [degraded](limiter_core::Allowed::degraded), and nothing is counted: as many as
    /// come, of any key, also of one that is unknown, deleted or expired.
    FailOpen,
    /// This process goes on by itself with a share of each limit that it last knew, flagged as degraded, allowed or denied. What it
    /// allowed is charged to the store when that is back, as debt if need be.
    ///
    /// It knows a key from the key's first call that the store allowed, and looks at it again each minute. Calls of a key
    /// that it does not know are the store's error: nothing is known to go by.
    LocalShare {
        /// The part of each limit, and of what is left of the budget, that this process may use.
        share: Share,
    },
}
