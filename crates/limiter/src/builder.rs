//! Settings of a limiter that are the same for all stores.

use std::fmt;

use limiter_core::{Store, Thresholds};

use crate::events::{
    Channel, EventSink, MANAGEMENT, ManagementEvent, THRESHOLDS, ThresholdEvent, USAGE, UsageEvent,
};
use crate::limiter::{Backend, Limiter};

/// Settings of a [`Limiter`]: see [`Limiter::builder`].
#[must_use = "a limiter is made by build()"]
pub struct LimiterBuilder {
    backend: Backend,
    thresholds: Thresholds,
    threshold_events: Channel<ThresholdEvent>,
    usage_events: Channel<UsageEvent>,
    management_events: Channel<ManagementEvent>,
    shadow: bool,
}

impl LimiterBuilder {
    pub(crate) fn new(store: impl Store) -> Self {
        Self {
            backend: Backend::of(store),
            thresholds: Thresholds::default(),
            threshold_events: Channel::of(&THRESHOLDS),
            usage_events: Channel::of(&USAGE),
            management_events: Channel::of(&MANAGEMENT),
            shadow: false,
        }
    }

    /// Sets the thresholds of keys that are created or updated without any of their own: 80 % and 100 % by default.
    ///
    /// The key stores them, so that all processes which share it agree. Existing keys keep theirs until they are
    /// updated.
    pub fn thresholds(self, thresholds: Thresholds) -> Self {
        Self { thresholds, ..self }
    }

    /// Adds a callback for each threshold that a call of this limiter reaches. It runs before the call is answered, and
    /// must not block, since the call waits for it. Several may be added.
    ///
    /// A panic in the callback is caught, logged at most every ten seconds, and counted
    /// (`limiter_callback_panics_total`). The call is still answered.
    ///
    /// For slow work, subscribe to [`Limiter::threshold_events`].
    pub fn on_threshold(
        mut self,
        callback: impl Fn(&ThresholdEvent) + Send + Sync + 'static,
    ) -> Self {
        self.threshold_events.call(callback);
        self
    }

    /// Adds a callback for the final charge of each call of this limiter: see [`UsageEvent`]. It runs before the call
    /// is answered, and must not block.
    ///
    /// A panic in the callback is caught, logged and counted, as in [`on_threshold`](Self::on_threshold).
    ///
    /// For slow work, such as writing to a file, subscribe to [`Limiter::usage_events`].
    pub fn on_usage(mut self, callback: impl Fn(&UsageEvent) + Send + Sync + 'static) -> Self {
        self.usage_events.call(callback);
        self
    }

    /// Adds a callback for each key or group that is created, updated, rotated, reset or deleted by a call of this limiter: which
    /// admin did what, and when. It runs before the call is answered, and must not block. An update that changes nothing raises
    /// no event, nor does an operation whose outcome is unknown. Each event is also logged through `tracing`, at the level info.
    ///
    /// A panic in the callback is caught, logged and counted, as in [`on_threshold`](Self::on_threshold).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::mpsc;
    ///
    /// use limiter::memory::MemoryStore;
    /// use limiter::{KeyConfig, Limiter, NewKey};
    ///
    /// let (sender, events) = mpsc::channel();
    /// let limiter = Limiter::builder(MemoryStore::new())
    ///     .on_management(move |event| drop(sender.send(event.to_string())))
    ///     .build();
    /// let ci = NewKey::member(KeyConfig::named("ci")?).with_id("ci".parse()?);
    /// limiter.workspace("home")?.create(ci).await?;
    /// assert_eq!(events.recv()?, "the owner has created ci of the workspace home");
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_management(
        mut self,
        callback: impl Fn(&ManagementEvent) + Send + Sync + 'static,
    ) -> Self {
        self.management_events.call(callback);
        self
    }

    /// Sets the number of threshold events that are kept for a slow subscriber: 1,024 by default, at most 2^20. Beyond
    /// that the subscriber misses the oldest, and gets their number.
    pub fn kept_events(mut self, events: usize) -> Self {
        self.threshold_events.keep(events);
        self
    }

    /// Sets the number of usage events that are kept for a slow subscriber: 65,536 by default, at most 2^20. Beyond
    /// that the subscriber misses the oldest, and gets their number. The first subscription allocates their memory,
    /// some 200 bytes each.
    pub fn kept_usage_events(mut self, events: usize) -> Self {
        self.usage_events.keep(events);
        self
    }

    /// Turns shadow mode on or off for all keys and groups. Calls are decided and counted as always. A call that any level
    /// would deny, the key or a group of it, is let through, flagged with the denial
    /// ([`shadowed`](limiter_core::Decision::shadowed)), and charges no level. Use it to introduce limits.
    ///
    /// For one key or group, see [`KeyConfig::shadow`](limiter_core::KeyConfig::shadow): all other levels decide and are charged
    /// then.
    ///
    /// Unknown, expired and admin keys are denied all the same.
    pub fn shadow(self, shadow: bool) -> Self {
        Self { shadow, ..self }
    }

    /// Builds the limiter.
    #[must_use]
    pub fn build(self) -> Limiter {
        let (thresholds, usage) = (self.threshold_events, self.usage_events);
        let events = EventSink::new(thresholds, usage, self.management_events, self.shadow);
        Limiter::new(self.backend, self.thresholds, events)
    }
}

impl fmt::Debug for LimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterBuilder")
            .field("backend", &self.backend)
            .field("thresholds", &self.thresholds)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}
