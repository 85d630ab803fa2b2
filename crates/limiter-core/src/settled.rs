//! The answer to a settlement or a cancellation: the final charge of a call, to bill from.

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::crossing::Crossing;
use crate::names::{AssetId, RequestId};

/// The final charge of a reserved call: the answer to `settle` and to `cancel`.
///
/// ```
/// # mod limiter { pub use limiter_core::*; pub mod decision { pub use limiter_core::*; } }
/// use limiter::decision::SettledAs;
/// use limiter::{Charge, Settled, Timestamp};
///
/// let noon = Timestamp::from_unix_ms(1_760_011_200_000);
/// let settled = Settled::first(None, Charge::request().with_tokens(120, 87)?, noon);
/// assert_eq!(settled.outcome, SettledAs::First);
/// assert_eq!(settled.charge.map(|charge| charge.output_tokens()), Some(87));
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(
    feature = "utoipa",
    derive(utoipa::ToSchema),
    schema(description = "The final charge of a reserved call, for billing.")
)]
pub struct Settled {
    /// The asset of the call, as it was reserved. It is also null without access to the reservation: if the outcome is
    /// postponed, or uncharged by id.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub asset: Option<AssetId>,
    /// The whole final charge of the call, not the difference from the estimate. Zero if the call was cancelled or never
    /// charged. Null only if the outcome is postponed, the call is settled by its id, and its estimate is not available.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub charge: Option<Charge>,
    /// Whether this call of the store ended the reservation.
    pub outcome: SettledAs,
    /// When the store answered, by its clock; null if it did not.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub at: Option<Timestamp>,
    /// The thresholds that this was the first to reach: none for a repetition.
    pub crossed: Vec<Crossing>,
}

/// The effect of a settlement or a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum SettledAs {
    /// It ended the reservation: bill this one.
    First,
    /// The reservation had ended in the same way before. The charge is that of the first time.
    Repeated,
    /// Nothing was charged: the call was let through in shadow mode, or without the store by a policy that fails open.
    Uncharged,
    /// The store cannot answer. A failure policy goes on without it, and sends the end of the call later.
    Postponed,
}

impl Settled {
    /// Creates the answer of the step that ended a reservation. It reached no threshold.
    #[must_use]
    pub const fn first(asset: Option<AssetId>, charge: Charge, at: Timestamp) -> Self {
        let outcome = SettledAs::First;
        Self { asset, charge: Some(charge), outcome, at: Some(at), crossed: Vec::new() }
    }

    /// Creates the answer to a repetition.
    #[must_use]
    pub const fn repeated(asset: Option<AssetId>, charge: Charge, at: Timestamp) -> Self {
        let outcome = SettledAs::Repeated;
        Self { asset, charge: Some(charge), outcome, at: Some(at), crossed: Vec::new() }
    }

    /// Creates the answer for a call that was never charged.
    #[must_use]
    pub const fn uncharged(asset: Option<AssetId>) -> Self {
        let charge = Some(Charge::NOTHING);
        Self { asset, charge, outcome: SettledAs::Uncharged, at: None, crossed: Vec::new() }
    }

    /// Creates the answer for an end that is sent to the store later.
    #[must_use]
    pub const fn postponed(charge: Option<Charge>) -> Self {
        let outcome = SettledAs::Postponed;
        Self { asset: None, charge, outcome, at: None, crossed: Vec::new() }
    }

    /// Sets the thresholds that were reached.
    #[must_use]
    pub fn crossing(self, crossed: Vec<Crossing>) -> Self {
        Self { crossed, ..self }
    }

    /// Returns whether this call of the store ended the reservation.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        matches!(self.outcome, SettledAs::First)
    }
}

/// A change that a store makes outside of any call, such as when it pays the debts of an outage: see
/// [`Store::listen`](crate::Store::listen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LateEvent<'a> {
    /// Thresholds were reached.
    Crossed(&'a [Crossing]),
    /// A settlement that was [postponed](SettledAs::Postponed) has reached the store as the first one. The thresholds that
    /// it reached have an event of their own.
    Settled(&'a RequestId, &'a Settled),
    /// The same for a cancellation.
    Cancelled(&'a RequestId, &'a Settled),
}
