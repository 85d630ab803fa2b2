//! The one place where the calls of a limiter are observed: metrics, spans, events, and shadow mode.
//!
//! Without the features `metrics` and `tracing`, [`Instruments`] has no size and does nothing.

mod instruments;
#[cfg(feature = "metrics")]
mod metrics;
mod operation;
#[cfg_attr(
    not(any(feature = "metrics", feature = "tracing")),
    expect(dead_code, reason = "nothing shows it")
)]
mod outcome;
#[cfg(feature = "tracing")]
mod spans;
mod words;

use limiter_core::{AssetId, CallError, Charge, Decision, KeyId, RequestId};

#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) use self::instruments::Labels;
pub(crate) use self::instruments::{Begun, Instruments};
pub(crate) use self::operation::Operation;
use self::outcome::Ended;
use crate::events::EventSink;

/// The observer of a limiter. Clones share its metrics and its subscribers.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    pub(crate) instruments: Instruments,
    pub(crate) events: EventSink,
}

/// A call of a limiter: the operation, and the key and the asset that the call names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: Operation,
    pub(crate) key: Option<&'a KeyId>,
    pub(crate) asset: Option<&'a AssetId>,
    /// The charge that is final if the call is admitted, and the id of the check. An estimate is not final.
    pub(crate) check: Option<(&'a Charge, Option<&'a RequestId>)>,
}

impl<'a> Call<'a> {
    pub(crate) const fn new(operation: Operation) -> Self {
        Self { operation, key: None, asset: None, check: None }
    }

    pub(crate) const fn of(operation: Operation, key: &'a KeyId) -> Self {
        Self { key: Some(key), ..Self::new(operation) }
    }

    pub(crate) const fn for_asset(self, asset: Option<&'a AssetId>) -> Self {
        Self { asset, ..self }
    }

    pub(crate) const fn checking(self, charge: &'a Charge, id: Option<&'a RequestId>) -> Self {
        Self { check: Some((charge, id)), ..self }
    }
}

impl Observer {
    #[inline]
    pub(crate) fn begin(&self, call: &Call<'_>) -> Begun {
        self.instruments.begin(call)
    }

    /// Returns whether this decision is neither observed nor changed.
    #[inline]
    pub(crate) fn ignores(&self, decision: &Decision) -> bool {
        Instruments::ARE_NONE && self.events.ignores(decision)
    }

    /// Observes a decision, and changes it if the limiter is in shadow mode. In place: a decision is large.
    #[inline(never)]
    pub(crate) fn decided(&self, call: &Call<'_>, begun: &Begun, decision: &mut Decision) {
        self.events.decided(call, decision);
        self.instruments.ended(call, begun, || Ended::decided(decision));
    }

    /// Awaits and observes a decision.
    pub(crate) async fn decision<E: CallError>(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = Result<Decision, E>> + Send,
    ) -> Result<Decision, E> {
        let begun = self.begin(&call);
        let mut answer = begun.around(answer).await;
        match &mut answer {
            Ok(decision) => self.decided(&call, &begun, decision),
            Err(error) => self.instruments.ended(&call, &begun, || Ended::failed(error)),
        }
        answer
    }

    /// Awaits and observes the answer of any other operation.
    pub(crate) async fn answer<T: Send, E: CallError>(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let begun = self.begin(&call);
        let answer = begun.around(answer).await;
        self.instruments.ended(&call, &begun, || match &answer {
            Ok(_) => Ended::done(),
            Err(error) => Ended::failed(error),
        });
        answer
    }
}

/// A counter of something other than calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counted {
    /// Threshold events that were sent, by threshold in percent of the limit.
    EventsFired,
    /// Events that a slow subscriber has missed, by their kind.
    EventsMissed,
    /// Answers, by their API and the source of their tokens.
    #[cfg(feature = "stream")]
    Answers,
    /// Panics in callbacks of the application.
    CallbackPanics,
}

/// Counts with these labels.
pub(crate) fn count(counted: Counted, labels: &[(&'static str, &str)], by: u64) {
    #[cfg(feature = "metrics")]
    metrics::count(counted, labels, by);
    #[cfg(not(feature = "metrics"))]
    let _ = (counted, labels, by);
}
