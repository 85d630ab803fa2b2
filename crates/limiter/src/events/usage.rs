//! Final charges, to bill from.

use std::fmt;

use limiter_core::{AssetId, Charge, KeyId, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use super::channel::Subscription;

/// The final charge of one call.
///
/// Each charge raises one event: an admitted check, the first settlement of a reservation, or its first cancellation,
/// which charges nothing. So the sum of all events is the whole charge. Reservations, their amendments, peeks, denials,
/// replays, and calls that shadow mode alone or a policy that fails open let through raise none. A reservation that
/// is never settled raises none either, although its estimate stands.
///
/// ```text
/// ci, settled: requests: 1, input tokens: 120, output tokens: 87, credits: 0.42; asset "gpt-5", id "job-7", at 2025-10-09T12:00:00Z
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageEvent {
    /// The key, with its path: the charge is counted for each of its [groups](KeyId::groups) too.
    pub key: KeyId,
    /// The asset, if the call named one.
    pub asset: Option<AssetId>,
    /// The operation that made the charge final.
    pub kind: UsageKind,
    /// The whole charge of the call, not the difference from an estimate.
    pub charge: Charge,
    /// The id of the reservation, or of a check that had one. Checks and reservations of a key may have the same ids.
    pub id: Option<RequestId>,
    /// When the charge became final, by the clock of the store.
    pub at: Timestamp,
}

/// The operation that made a charge final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UsageKind {
    /// A check was admitted and charged.
    Checked,
    /// A reservation was settled.
    Settled,
    /// A reservation was cancelled: the charge is nothing.
    Cancelled,
}

/// The final charges that this process makes from the subscription on: see
/// [`Limiter::usage_events`](crate::Limiter::usage_events).
pub type UsageEvents = Subscription<UsageEvent>;

impl UsageKind {
    /// Formats the kind as one lower-case word, as it is serialized.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checked => "checked",
            Self::Settled => "settled",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for UsageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for UsageEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, asset, kind, charge, id, at } = self;
        write!(f, "{key}, {kind}: {charge};")?;
        if let Some(asset) = asset {
            write!(f, " asset {asset:?},")?;
        }
        if let Some(id) = id {
            write!(f, " id {id:?},")?;
        }
        write!(f, " at {at}")
    }
}
