//! One kind of event: its callbacks, and a bounded stream for each subscriber.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::observe::{self, Counted};
use crate::user_code::UserCode;

/// A callback that is run for each event, before the call that raised it is answered.
type Callback<E> = Box<dyn Fn(&E) + Send + Sync>;

/// A kind of event.
pub(crate) struct Kind {
    /// Its name in the metric of missed events.
    pub(crate) name: &'static str,
    /// The default number of events that are kept for a slow subscriber.
    pub(crate) kept: usize,
    /// The call sites of the application's code: of its callbacks, and of its subscribers' wakers.
    pub(crate) callback: UserCode,
    pub(crate) waker: UserCode,
}

/// Callbacks and subscribers of one kind of event.
pub(crate) struct Channel<E> {
    kind: &'static Kind,
    callbacks: Vec<Callback<E>>,
    /// Created for the first subscriber, since it allocates the memory of all events that are kept.
    sender: OnceLock<broadcast::Sender<E>>,
    kept: usize,
    /// The number of callbacks and living subscribers. It is read for each call, and so has no lock.
    listeners: Arc<AtomicUsize>,
}

/// The events of one kind, from the subscription on.
pub struct Subscription<E> {
    receiver: broadcast::Receiver<E>,
    listeners: Arc<AtomicUsize>,
    kind: &'static Kind,
}

/// Events that a slow subscriber has missed. The stream goes on with the oldest event that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{events} events were missed: the subscriber is too slow")]
#[non_exhaustive]
pub struct Missed {
    /// The number of missed events.
    pub events: u64,
}

impl<E: Clone> Channel<E> {
    pub(crate) fn of(kind: &'static Kind) -> Self {
        let listeners = Arc::default();
        Self { kind, callbacks: Vec::new(), sender: OnceLock::new(), kept: kind.kept, listeners }
    }

    /// Adds a callback.
    pub(crate) fn call(&mut self, callback: impl Fn(&E) + Send + Sync + 'static) {
        self.callbacks.push(Box::new(callback));
        self.listeners.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number of events that are kept for a slow subscriber.
    pub(crate) fn keep(&mut self, events: usize) {
        self.kept = events.clamp(1, MOST_KEPT);
    }

    #[inline]
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn subscribe(&self) -> Subscription<E> {
        let sender = self.sender.get_or_init(|| broadcast::Sender::new(self.kept));
        let receiver = sender.subscribe();
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Subscription { receiver, listeners: Arc::clone(&self.listeners), kind: self.kind }
    }

    /// Sends an event without waiting for a subscriber, and contains the panics of callbacks and wakers.
    ///
    /// The call is charged already, so the code that sends the event must go on.
    pub(crate) fn send(&self, event: E) {
        for callback in &self.callbacks {
            let _ = self.kind.callback.run(|| callback(&event));
        }
        if let Some(sender) = self.sender.get() {
            // It is no error to have no subscriber. A subscriber's waker is code of the application.
            let _ = self.kind.waker.run(|| sender.send(event));
        }
    }
}

impl<E: Clone> Subscription<E> {
    /// Returns the next event, or the number of missed events before it. `None` once the limiter is dropped.
    ///
    /// No event is lost if the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`Missed`]. The next call then returns the oldest event that is left.
    pub async fn next(&mut self) -> Option<Result<E, Missed>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Lagged(events)) => {
                observe::count(Counted::EventsMissed, &[("events", self.kind.name)], events);
                Some(Err(Missed { events }))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl<E> Drop for Subscription<E> {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<E> fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("waiting", &self.receiver.len())
            .finish_non_exhaustive()
    }
}

/// The memory for all of them is allocated at once.
const MOST_KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::super::{USAGE, UsageEvent, UsageKind};
    use super::*;
    use limiter_core::{Charge, Timestamp};

    fn event() -> UsageEvent {
        UsageEvent {
            key: "ci".parse().unwrap(),
            asset: None,
            kind: UsageKind::Checked,
            charge: Charge::request(),
            id: None,
            at: Timestamp::from_unix_ms(0),
        }
    }

    #[tokio::test]
    async fn it_has_listeners_as_long_as_somebody_subscribes() {
        let channel = Channel::<UsageEvent>::of(&USAGE);
        assert!(!channel.has_listeners());
        let (mut first, second) = (channel.subscribe(), channel.subscribe());
        channel.send(event());
        assert_eq!(first.next().await, Some(Ok(event())));
        drop(first);
        assert!(channel.has_listeners());
        drop(second);
        assert!(!channel.has_listeners());
        channel.send(event());
        let mut later = channel.subscribe();
        channel.send(event());
        drop(channel);
        assert_eq!((later.next().await, later.next().await), (Some(Ok(event())), None));
    }

    #[test]
    fn a_callback_is_a_listener_for_ever() {
        let mut channel = Channel::<UsageEvent>::of(&USAGE);
        channel.call(|_| {});
        drop(channel.subscribe());
        assert!(channel.has_listeners());
    }
}
