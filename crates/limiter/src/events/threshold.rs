//! Thresholds that were reached.

use std::fmt;

use limiter_core::{Crossing, KeyId};
use serde::Serialize;

use super::Missed;
use super::channel::Subscription;

/// A threshold that a key has reached: the first charge that did so raises it, once in a window or of a budget as it stands.
///
/// ```text
/// ci has used 80 % of 10 requests per minute for asset "gpt-5": 8, until 2025-10-09T12:01:00Z
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ThresholdEvent {
    /// The key.
    pub key: KeyId,
    /// What it has reached.
    #[serde(flatten)]
    pub crossing: Crossing,
}

/// The thresholds that keys reach from now on, as this process decides: see
/// [`Limiter::threshold_events`](crate::Limiter::threshold_events).
#[derive(Debug)]
pub struct ThresholdEvents(Subscription<ThresholdEvent>);

impl ThresholdEvents {
    pub(super) const fn new(events: Subscription<ThresholdEvent>) -> Self {
        Self(events)
    }

    /// The next event, or how many were missed before it; `None` when the limiter is gone.
    ///
    /// No event is lost if the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`Missed`], after which it goes on with the oldest that is left.
    pub async fn next(&mut self) -> Option<Result<ThresholdEvent, Missed>> {
        self.0.next().await
    }
}

impl fmt::Display for ThresholdEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has used {}", self.key, self.crossing)
    }
}
