//! Thresholds that were reached.

use std::fmt;

use limiter_core::{Crossing, KeyId};
use serde::Serialize;

use super::channel::Subscription;

/// A threshold that a key has reached, by a charge or by a change of its limits. It fires once in a window for each amount
/// of the limit.
///
/// ```text
/// ci has used 80 % of 10 requests per minute for asset "gpt-5": 8, until 2025-10-09T12:01:00Z
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ThresholdEvent {
    /// The key.
    pub key: KeyId,
    /// The threshold, and the use that reached it.
    #[serde(flatten)]
    pub crossing: Crossing,
}

/// The thresholds that keys reach by decisions of this process, from the subscription on: see
/// [`Limiter::threshold_events`](crate::Limiter::threshold_events).
pub type ThresholdEvents = Subscription<ThresholdEvent>;

impl fmt::Display for ThresholdEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has used {}", self.key, self.crossing)
    }
}
