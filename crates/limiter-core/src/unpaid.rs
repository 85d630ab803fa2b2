//! The sum of the charges and ends of reservations that a store has not received.

use std::fmt;

use crate::charge::Charge;
use crate::credits::Credits;

/// Charges and ends of reservations that happened without a store and have not reached it: see
/// [`Store::flush`](crate::Store::flush). Sums saturate at the largest number.
///
/// ```
/// # mod limiter { pub use limiter_core::*; pub mod store { pub use limiter_core::*; } }
/// use limiter::Charge;
/// use limiter::store::Unpaid;
///
/// let mut unpaid = Unpaid::default();
/// assert!(unpaid.is_nothing());
/// unpaid.add(&Charge::request().with_tokens(3, 4)?);
/// assert_eq!(unpaid.to_string(), "requests: 1, input tokens: 3, output tokens: 4, credits: 0.00; keys: 0, ends of reservations: 0");
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "what is not paid is lost when its owner ends"]
#[non_exhaustive]
pub struct Unpaid {
    /// The number of keys with a debt.
    pub keys: usize,
    /// Requests that are not charged.
    pub requests: u64,
    /// Input tokens that are not charged.
    pub input_tokens: u64,
    /// Output tokens that are not charged.
    pub output_tokens: u64,
    /// Credits that are not charged.
    pub credits: Credits,
    /// Reservations with an end that has not reached the store: they stand as estimated.
    pub settlements: usize,
}

impl Unpaid {
    /// Returns whether nothing is unpaid.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the amounts of a charge. It does not change `keys`.
    pub fn add(&mut self, charge: &Charge) {
        self.requests = self.requests.saturating_add(charge.requests());
        self.input_tokens = self.input_tokens.saturating_add(charge.input_tokens());
        self.output_tokens = self.output_tokens.saturating_add(charge.output_tokens());
        self.credits += charge.credits();
    }
}

impl fmt::Display for Unpaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, requests, input_tokens, output_tokens, credits, settlements } = self;
        write!(
            f,
            "requests: {requests}, input tokens: {input_tokens}, output tokens: {output_tokens}, credits: {credits}; \
             keys: {keys}, ends of reservations: {settlements}"
        )
    }
}
