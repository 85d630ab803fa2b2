//! Thresholds that were reached.

use std::fmt;

use limiter_core::{Crossing, KeyId};
use serde::Serialize;

use super::channel::Subscription;

/// A threshold that a key or a group has reached, by a charge or by a change of its limits. It fires once in a window for each
/// amount of the limit.
///
/// ```text
/// ci has used 80 % of 10 requests per minute for asset "gpt-5": 8, until 2025-10-09T12:01:00Z
/// a call of acme/ci has reached 80 % of 100 requests per minute for group acme: 80, until 2025-10-09T12:01:00Z
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ThresholdEvent {
    /// The key whose call reached it; the key or the group whose limits were changed, if the change itself reached it.
    pub key: KeyId,
    /// The threshold, and the use that reached it. Its [`group`](Crossing::group) is the group whose limit it is.
    #[serde(flatten)]
    pub crossing: Crossing,
}

/// The thresholds that keys and groups reach by decisions of this process, from the subscription on: see
/// [`Limiter::threshold_events`](crate::Limiter::threshold_events).
pub type ThresholdEvents = Subscription<ThresholdEvent>;

impl fmt::Display for ThresholdEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, crossing } = self;
        match crossing.group {
            None => write!(f, "{key} has used {crossing}"),
            Some(_) => write!(f, "a call of {key} has reached {crossing}"),
        }
    }
}
