//! The events of a limiter: thresholds that are reached, final charges, and management operations.

mod channel;
mod management;
mod threshold;
mod usage;

use std::fmt;
use std::sync::Arc;

use limiter_core::{Allowed, Crossing, Decision, KeyId, LateEvent, ManagedKey, RequestId, Settled};

pub(crate) use self::channel::{Channel, Kind};
pub use self::channel::{Missed, Subscription};
pub use self::management::ManagementEvent;
pub use self::threshold::{ThresholdEvent, ThresholdEvents};
pub use self::usage::{UsageEvent, UsageEvents, UsageKind};
use crate::observe::{self, Call, Counted, Operation};
use crate::user_code::UserCode;

/// Event sink and shadow flag, shared by clones.
#[derive(Clone, Debug)]
pub(crate) struct EventSink(Arc<Sink>);

struct Sink {
    thresholds: Channel<ThresholdEvent>,
    usage: Channel<UsageEvent>,
    management: Channel<ManagementEvent>,
    shadow: bool,
}

impl EventSink {
    pub(crate) fn new(
        thresholds: Channel<ThresholdEvent>,
        usage: Channel<UsageEvent>,
        management: Channel<ManagementEvent>,
        shadow: bool,
    ) -> Self {
        Self(Arc::new(Sink { thresholds, usage, management, shadow }))
    }

    /// Logs a management operation, and sends its event.
    pub(crate) fn managed(&self, managed: &ManagedKey<'_>) {
        let event = ManagementEvent::of(managed);
        let by = event.by.as_ref().map(tracing::field::display);
        let (workspace, key, change) = (&event.workspace, &event.key, event.change);
        tracing::info!(by, %workspace, %key, %change, "{event}");
        self.0.management.send(event);
    }

    pub(crate) fn threshold_events(&self) -> ThresholdEvents {
        self.0.thresholds.subscribe()
    }

    pub(crate) fn usage_events(&self) -> UsageEvents {
        self.0.usage.subscribe()
    }

    /// Returns whether this decision raises no event, and is not changed by shadow mode.
    #[inline]
    pub(crate) fn ignores(&self, decision: &Decision) -> bool {
        match decision {
            Decision::Allowed(allowed) => {
                allowed.crossed().is_empty() && !self.0.usage.has_listeners()
            }
            Decision::Denied(_) => !self.0.shadow,
        }
    }

    /// Sends the events of a decision, and applies shadow mode to it.
    pub(crate) fn decided(&self, call: &Call<'_>, decision: &mut Decision) {
        match &*decision {
            Decision::Allowed(allowed) if call.operation != Operation::Peek => {
                if let Some(key) = call.key
                    && !allowed.crossed().is_empty()
                {
                    self.crossed(key, allowed.crossed());
                }
                if self.0.usage.has_listeners() {
                    self.checked(call, allowed);
                }
            }
            Decision::Denied(_) if self.0.shadow => *decision = decision.clone().in_shadow(),
            _ => {}
        }
    }

    /// Sends an event for a check that has charged a call.
    #[cold]
    fn checked(&self, call: &Call<'_>, allowed: &Allowed) {
        if let (Some(key), Some((charge, id))) = (call.key, call.check)
            && allowed.is_newly_charged()
        {
            self.0.usage.send(UsageEvent {
                key: key.clone(),
                asset: call.asset.cloned(),
                kind: UsageKind::Checked,
                charge: *charge,
                id: id.cloned(),
                at: allowed.decided_at(),
            });
        }
    }

    /// Sends the events of a settlement or a cancellation.
    pub(crate) fn ended(&self, key: &KeyId, id: &RequestId, kind: UsageKind, settled: &Settled) {
        if !settled.crossed.is_empty() {
            self.crossed(key, &settled.crossed);
        }
        self.charged_late(key, id, kind, settled);
    }

    /// Sends the event of a change that the store made outside of any call.
    pub(crate) fn late(&self, key: &KeyId, event: LateEvent<'_>) {
        let (id, kind, settled) = match event {
            LateEvent::Crossed(crossed) => return self.crossed(key, crossed),
            LateEvent::Settled(id, settled) => (id, UsageKind::Settled, settled),
            LateEvent::Cancelled(id, settled) => (id, UsageKind::Cancelled, settled),
            _ => return,
        };
        self.charged_late(key, id, kind, settled);
    }

    fn charged_late(&self, key: &KeyId, id: &RequestId, kind: UsageKind, settled: &Settled) {
        if self.0.usage.has_listeners()
            && settled.is_first()
            && let (Some(charge), Some(at)) = (settled.charge, settled.at)
        {
            let (key, asset, id) = (key.clone(), settled.asset.clone(), Some(id.clone()));
            self.0.usage.send(UsageEvent { key, asset, kind, charge, id, at });
        }
    }

    /// Sends an event for each threshold that was reached.
    #[cold]
    pub(crate) fn crossed(&self, key: &KeyId, crossed: &[Crossing]) {
        for crossing in crossed {
            let percent = crossing.percent.to_string();
            observe::count(Counted::EventsFired, &[("threshold", &percent)], 1);
            let event = ThresholdEvent { key: key.clone(), crossing: crossing.clone() };
            self.0.thresholds.send(event);
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("shadow", &self.shadow).finish_non_exhaustive()
    }
}

pub(crate) static THRESHOLDS: Kind = Kind {
    name: "threshold",
    // Minutes of events for a service of ten thousand keys.
    kept: 1_024,
    callback: UserCode::new("on_threshold"),
    waker: UserCode::new("threshold_events"),
};

/// Without subscribers.
pub(crate) static MANAGEMENT: Kind = Kind {
    name: "management",
    kept: 1,
    callback: UserCode::new("on_management"),
    waker: UserCode::new("on_management"),
};

pub(crate) static USAGE: Kind = Kind {
    name: "usage",
    // Six seconds at ten thousand calls a second, in 15 MB at most. The first subscription allocates the memory.
    kept: 65_536,
    callback: UserCode::new("on_usage"),
    waker: UserCode::new("usage_events"),
};
