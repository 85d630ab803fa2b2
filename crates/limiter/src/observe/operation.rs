//! The operations of a limiter.

/// An operation of [`Limiter`](crate::Limiter) or [`Keys`](crate::Keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CheckAndConsume,
    Peek,
    CheckOnce,
    Reserve,
    Extend,
    Settle,
    Cancel,
    Usage,
    Handle,
    Authenticate,
    Bootstrap,
    Create,
    CreateMany,
    Get,
    Search,
    Update,
    Delete,
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
impl Operation {
    /// Returns the name of the method.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CheckAndConsume => "check_and_consume",
            Self::Peek => "peek",
            Self::CheckOnce => "check_once",
            Self::Reserve => "reserve",
            Self::Extend => "extend",
            Self::Settle => "settle",
            Self::Cancel => "cancel",
            Self::Usage => "usage",
            Self::Handle => "handle",
            Self::Authenticate => "authenticate",
            Self::Bootstrap => "bootstrap",
            Self::Create => "create",
            Self::CreateMany => "create_many",
            Self::Get => "get",
            Self::Search => "search",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

#[cfg(feature = "metrics")]
impl Operation {
    /// The number of operations.
    pub(crate) const COUNT: usize = Self::Delete as usize + 1;

    /// Returns whether it decides a call and may charge it.
    pub(crate) const fn decides(self) -> bool {
        matches!(self, Self::CheckAndConsume | Self::CheckOnce | Self::Reserve | Self::Extend)
    }

    /// Returns whether it ends a reservation.
    pub(crate) const fn settles(self) -> bool {
        matches!(self, Self::Settle | Self::Cancel)
    }
}
