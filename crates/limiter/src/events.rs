//! The events of a limiter: thresholds that are reached, and final charges.

mod channel;
mod missed;
mod threshold;
mod usage;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use limiter_core::{
    Allowed, AssetId, Charge, Crossing, Decision, KeyId, LateEvent, RequestId, Settled,
};
use pin_project_lite::pin_project;

pub(crate) use self::channel::{Callback, Channel, Code};
pub use self::missed::Missed;
pub use self::threshold::{ThresholdEvent, ThresholdEvents};
pub use self::usage::{UsageEvent, UsageEvents, UsageKind};
use crate::user_code::UserCode;
use crate::watch;

/// Event sink and shadow flag, shared by clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventSink(Arc<Sink>);

#[derive(Default)]
struct Sink {
    thresholds: Channel<ThresholdEvent>,
    usage: Channel<UsageEvent>,
    shadow: bool,
}

/// A call that may charge a key. It borrows key, asset, charge and id from the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'k, 'a, 'c, 'i> {
    key: &'k KeyId,
    /// The charge, if it is final as soon as it is made. An estimate is not.
    check: Option<Check<'a, 'c, 'i>>,
}

#[derive(Clone, Copy, Debug)]
struct Check<'a, 'c, 'i> {
    asset: Option<&'a AssetId>,
    charge: &'c Charge,
    id: Option<&'i RequestId>,
}

impl<'k> Call<'k, '_, '_, '_> {
    /// Creates a call whose charge is an estimate.
    pub(crate) const fn estimated(key: &'k KeyId) -> Self {
        Self { key, check: None }
    }
}

impl<'k, 'a, 'c, 'i> Call<'k, 'a, 'c, 'i> {
    /// Creates a call whose charge is final.
    pub(crate) const fn checked(
        key: &'k KeyId,
        asset: Option<&'a AssetId>,
        charge: &'c Charge,
        id: Option<&'i RequestId>,
    ) -> Self {
        Self { key, check: Some(Check { asset, charge, id }) }
    }
}

impl EventSink {
    pub(crate) fn new(
        thresholds: Channel<ThresholdEvent>,
        usage: Channel<UsageEvent>,
        shadow: bool,
    ) -> Self {
        Self(Arc::new(Sink { thresholds, usage, shadow }))
    }

    pub(crate) fn threshold_events(&self) -> ThresholdEvents {
        ThresholdEvents::new(self.0.thresholds.subscribe())
    }

    pub(crate) fn usage_events(&self) -> UsageEvents {
        UsageEvents::new(self.0.usage.subscribe())
    }

    /// Wraps a call that charges a key. Its events are sent as soon as it is decided.
    pub(crate) const fn charging<'k, 'a, 'c, 'i, F>(
        &self,
        of: Call<'k, 'a, 'c, 'i>,
        call: F,
    ) -> Reported<'_, 'k, 'a, 'c, 'i, F> {
        Reported { call, sink: self, of: Some(of) }
    }

    /// Wraps a call that charges nothing, and raises no events.
    pub(crate) const fn looking<F>(
        &self,
        call: F,
    ) -> Reported<'_, 'static, 'static, 'static, 'static, F> {
        Reported { call, sink: self, of: None }
    }

    #[inline]
    fn decided(&self, of: Option<&Call<'_, '_, '_, '_>>, decision: &mut Decision) {
        match decision {
            Decision::Allowed(allowed) => {
                if let Some(call) = of {
                    if !allowed.crossed().is_empty() {
                        self.crossed(call.key, allowed.crossed());
                    }
                    if self.0.usage.has_listeners() {
                        self.checked(call, allowed);
                    }
                }
            }
            Decision::Denied(denied) => {
                if self.0.shadow {
                    *decision = Decision::Denied(denied.clone()).in_shadow();
                }
            }
        }
    }

    /// Sends an event for a check that has charged a call.
    #[cold]
    fn checked(&self, call: &Call<'_, '_, '_, '_>, allowed: &Allowed) {
        if let Some(Check { asset, charge, id }) = call.check
            && allowed.is_newly_charged()
        {
            self.0.usage.send(UsageEvent {
                key: call.key.clone(),
                asset: asset.cloned(),
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
        match event {
            LateEvent::Crossed(crossed) => self.crossed(key, crossed),
            LateEvent::Settled(id, settled) => {
                self.charged_late(key, id, UsageKind::Settled, settled);
            }
            LateEvent::Cancelled(id, settled) => {
                self.charged_late(key, id, UsageKind::Cancelled, settled);
            }
            _ => {}
        }
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
            watch::event_fired(crossing.percent);
            let event = ThresholdEvent { key: key.clone(), crossing: crossing.clone() };
            self.0.thresholds.send(event);
        }
    }
}

pin_project! {
    /// A call whose events are sent when it is ready. The decision is read in place, without a move.
    pub(crate) struct Reported<'s, 'k, 'a, 'c, 'i, F> {
        #[pin]
        call: F,
        sink: &'s EventSink,
        of: Option<Call<'k, 'a, 'c, 'i>>,
    }
}

impl<E, F: Future<Output = Result<Decision, E>>> Future for Reported<'_, '_, '_, '_, '_, F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut answer = this.call.poll(context);
        if let Poll::Ready(Ok(decision)) = &mut answer {
            this.sink.decided(this.of.as_ref(), decision);
        }
        answer
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("shadow", &self.shadow).finish_non_exhaustive()
    }
}

/// An event that has callbacks and subscribers.
pub(crate) trait Event: Clone + Send + 'static {
    /// The call sites of its callbacks and of its subscribers' wakers.
    const CODE: &'static Code;
    /// The default number of events that are kept for a slow subscriber.
    const KEPT: usize;
    /// Its name in the metric of missed events.
    const NAME: &'static str;
}

impl Event for ThresholdEvent {
    const CODE: &'static Code = {
        static CODE: Code = Code {
            callback: UserCode::new("on_threshold"),
            waker: UserCode::new("threshold_events"),
        };
        &CODE
    };
    /// Minutes of events for a service of ten thousand keys.
    const KEPT: usize = 1_024;
    const NAME: &'static str = "threshold";
}

impl Event for UsageEvent {
    const CODE: &'static Code = {
        static CODE: Code =
            Code { callback: UserCode::new("on_usage"), waker: UserCode::new("usage_events") };
        &CODE
    };
    /// Six seconds at ten thousand calls a second, in 15 MB at most. The first subscription allocates the memory.
    const KEPT: usize = 65_536;
    const NAME: &'static str = "usage";
}
