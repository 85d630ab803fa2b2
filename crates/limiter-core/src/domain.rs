//! The parts of a store that fail on their own.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::error::BoxError;
use crate::names::KeyId;

/// A part of a store that fails on its own, such as one master of a cluster: while it is down, the other parts go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FailureDomain(Option<Arc<str>>);

impl FailureDomain {
    /// The whole store, for a store that fails as one.
    pub const WHOLE: Self = Self(None);

    /// Creates a part with this name, such as the address of a server. A store has few parts: a guard keeps a circuit
    /// breaker for each.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self(Some(name.into()))
    }

    /// Returns whether this is [`WHOLE`](Self::WHOLE).
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the name of the part; `None` for the whole store.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for FailureDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("the store"))
    }
}

/// The failure of the part that serves this key, as the source of a [`StoreError`](crate::StoreError). It is for an
/// operation that starts without the key and reaches another part first, such as the look-up of an access key.
///
/// Its message and its source are those of the cause.
#[derive(Debug)]
pub struct KeyFailure {
    key: KeyId,
    cause: BoxError,
}

impl KeyFailure {
    /// Creates the failure, with this cause, of the part that serves this key.
    pub fn new(key: KeyId, cause: impl Into<BoxError>) -> Self {
        Self { key, cause: cause.into() }
    }

    /// Returns the key.
    #[must_use]
    pub const fn key(&self) -> &KeyId {
        &self.key
    }
}

impl fmt::Display for KeyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl Error for KeyFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}
