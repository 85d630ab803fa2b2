//! What a store can be asked for.

/// An operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CheckAndConsume,
    Peek,
    Usage,
    Handle,
    CheckOnce,
    Record,
    Reserve,
    Extend,
    Settle,
    Cancel,
    Resolve,
    Read,
    Create,
    CreateMany,
    Update,
    Delete,
    List,
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
impl Operation {
    /// As in the interface of [`Limiter`](crate::Limiter) and [`Keys`](crate::Keys).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CheckAndConsume => "check_and_consume",
            Self::Peek => "peek",
            Self::Usage => "usage",
            Self::Handle => "handle",
            Self::CheckOnce => "check_once",
            Self::Record => "record",
            Self::Reserve => "reserve",
            Self::Extend => "extend",
            Self::Settle => "settle",
            Self::Cancel => "cancel",
            Self::Resolve => "authenticate",
            Self::Read => "read",
            Self::Create => "create",
            Self::CreateMany => "create_many",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

#[cfg(feature = "metrics")]
impl Operation {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::List as usize + 1;

    /// Whether it decides about a call. Who peeks makes none.
    pub(crate) const fn decides(self) -> bool {
        matches!(self, Self::CheckAndConsume | Self::CheckOnce | Self::Reserve | Self::Extend)
    }

    /// Whether it ends a reservation.
    pub(crate) const fn settles(self) -> bool {
        matches!(self, Self::Settle | Self::Cancel)
    }
}
