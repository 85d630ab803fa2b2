//! Thresholds that were reached, for whoever wants to hear of them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use limiter_core::{Crossing, Decision, KeyId};
use pin_project_lite::pin_project;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::user_code::UserCode;
use crate::watch;

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
pub struct ThresholdEvents {
    receiver: broadcast::Receiver<ThresholdEvent>,
}

/// Events that a listener was too slow for: those that come after them follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{events} threshold events were missed: they came faster than they were listened to")]
#[non_exhaustive]
pub struct Missed {
    /// How many.
    pub events: u64,
}

impl ThresholdEvents {
    /// The next event, or how many were missed before it; `None` when the limiter is gone.
    ///
    /// No event is lost if the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`Missed`], after which it goes on with the oldest that is left.
    pub async fn next(&mut self) -> Option<Result<ThresholdEvent, Missed>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Lagged(events)) => {
                watch::events_dropped(events);
                Some(Err(Missed { events }))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

/// What hears of each event at once.
pub(crate) type Callback = Box<dyn Fn(&ThresholdEvent) + Send + Sync>;

/// Where the events of a limiter go, and whether it only watches. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Ears(Arc<Hearing>);

struct Hearing {
    sender: broadcast::Sender<ThresholdEvent>,
    callbacks: Vec<Callback>,
    shadow: bool,
}

impl Ears {
    pub(crate) fn new(capacity: usize, callbacks: Vec<Callback>, shadow: bool) -> Self {
        let sender = broadcast::Sender::new(capacity.clamp(1, MOST_KEPT));
        Self(Arc::new(Hearing { sender, callbacks, shadow }))
    }

    pub(crate) fn subscribe(&self) -> ThresholdEvents {
        ThresholdEvents { receiver: self.0.sender.subscribe() }
    }

    /// The call of a key that charges, heard as soon as it is decided.
    pub(crate) const fn hear<'k, F>(&self, key: &'k KeyId, call: F) -> Heard<'_, 'k, F> {
        Heard { call, ears: self, key: Some(key) }
    }

    /// A call that only looks: it reaches nothing.
    pub(crate) const fn look<F>(&self, call: F) -> Heard<'_, 'static, F> {
        Heard { call, ears: self, key: None }
    }

    #[inline]
    fn on_its_way(&self, key: Option<&KeyId>, decision: &mut Decision) {
        match decision {
            Decision::Allowed(allowed) => {
                if let Some(key) = key
                    && !allowed.crossed().is_empty()
                {
                    self.tell(key, allowed.crossed());
                }
            }
            Decision::Denied(denied) => {
                if self.0.shadow {
                    *decision = Decision::Denied(denied.clone()).in_shadow();
                }
            }
        }
    }

    /// Sends the events without waiting for a listener, and contains the panics of callbacks and listeners.
    ///
    /// The call is charged already. Its caller, the store or the task that pays the debts of an outage goes on.
    #[cold]
    pub(crate) fn tell(&self, key: &KeyId, crossed: &[Crossing]) {
        for crossing in crossed {
            let event = ThresholdEvent { key: key.clone(), crossing: crossing.clone() };
            watch::event_fired(crossing.percent);
            for callback in &self.0.callbacks {
                let _ = ON_THRESHOLD.run(|| callback(&event));
            }
            // No subscriber is no failure. A subscriber's waker is code of the application.
            let _ = THRESHOLD_EVENTS.run(|| self.0.sender.send(event));
        }
    }
}

pin_project! {
    /// A call that is heard. The decision is looked at where it is, and not moved about.
    pub(crate) struct Heard<'a, 'k, F> {
        #[pin]
        call: F,
        ears: &'a Ears,
        key: Option<&'k KeyId>,
    }
}

impl<E, F: Future<Output = Result<Decision, E>>> Future for Heard<'_, '_, F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut answer = this.call.poll(context);
        if let Poll::Ready(Ok(decision)) = &mut answer {
            this.ears.on_its_way(*this.key, decision);
        }
        answer
    }
}

impl Default for Ears {
    fn default() -> Self {
        Self::new(KEPT, Vec::new(), false)
    }
}

impl fmt::Debug for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearing").field("shadow", &self.shadow).finish_non_exhaustive()
    }
}

impl fmt::Display for ThresholdEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has used {}", self.key, self.crossing)
    }
}

static ON_THRESHOLD: UserCode = UserCode::new("on_threshold");
static THRESHOLD_EVENTS: UserCode = UserCode::new("threshold_events");

/// How many events wait for a listener that is slow: minutes of them for a service of ten thousand keys.
pub(crate) const KEPT: usize = 1_024;
/// Room is made for all of them at once.
const MOST_KEPT: usize = 1 << 20;
