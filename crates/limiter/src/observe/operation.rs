//! The operations of a limiter.

use super::words::words;

words! {
    /// An operation of [`Limiter`](crate::Limiter) or [`Keys`](crate::Keys). Its name is that of the method.
    Operation {
        CheckAndConsume = "check_and_consume",
        Peek = "peek",
        CheckOnce = "check_once",
        Reserve = "reserve",
        Amend = "amend",
        Settle = "settle",
        Cancel = "cancel",
        Usage = "usage",
        History = "history",
        Handle = "handle",
        Authenticate = "authenticate",
        Bootstrap = "bootstrap",
        Create = "create",
        CreateMany = "create_many",
        Get = "get",
        Search = "search",
        Update = "update",
        Upsert = "upsert",
        Reset = "reset",
        Rotate = "rotate",
        Delete = "delete",
        SavePlan = "save_plan",
        Plans = "plans",
        Plan = "plan",
        DeletePlan = "delete_plan",
    }
}

#[cfg(feature = "metrics")]
impl Operation {
    /// Returns whether it decides a call and may charge it.
    pub(crate) const fn decides(self) -> bool {
        matches!(self, Self::CheckAndConsume | Self::CheckOnce | Self::Reserve | Self::Amend)
    }

    /// Returns whether it ends a reservation.
    pub(crate) const fn settles(self) -> bool {
        matches!(self, Self::Settle | Self::Cancel)
    }
}
