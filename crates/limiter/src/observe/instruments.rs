//! The metrics and spans of a limiter that its features enable.

#[cfg(any(feature = "metrics", feature = "tracing"))]
use std::sync::Arc;

use limiter_core::{CallError, Decision};

use super::Call;
#[cfg(feature = "metrics")]
use super::metrics::Metrics;
#[cfg(any(feature = "metrics", feature = "tracing"))]
use super::outcome::Ended;
#[cfg(feature = "tracing")]
use super::spans::Spans;

/// The instruments of a limiter, shared by clones.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    #[cfg(feature = "metrics")]
    metrics: Arc<Metrics>,
    #[cfg(feature = "tracing")]
    spans: Arc<Spans>,
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    labels: Labels,
}

/// The names that metrics and spans show: none by default, since nothing bounds their number.
#[cfg(any(feature = "metrics", feature = "tracing"))]
#[derive(Clone, Copy, Debug, Default)]
struct Labels {
    keys: bool,
    assets: bool,
}

/// A call under way.
pub(crate) struct Begun {
    #[cfg(feature = "metrics")]
    at: Option<std::time::Instant>,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Instruments {
    /// Whether neither metrics nor spans are compiled in.
    pub(crate) const ARE_NONE: bool = !cfg!(any(feature = "metrics", feature = "tracing"));

    /// Creates the instruments of a limiter. Calls in memory wait for nothing, so their time is not taken.
    pub(crate) fn new(in_memory: bool) -> Self {
        let _ = in_memory;
        Self {
            #[cfg(feature = "metrics")]
            metrics: Arc::new(Metrics::new(!in_memory)),
            #[cfg(feature = "tracing")]
            spans: Arc::default(),
            #[cfg(any(feature = "metrics", feature = "tracing"))]
            labels: Labels::default(),
        }
    }

    #[inline]
    pub(crate) fn begin(&self, call: &Call<'_>) -> Begun {
        let _ = call;
        Begun {
            #[cfg(feature = "metrics")]
            at: self.metrics.begin(),
            #[cfg(feature = "tracing")]
            span: self.spans.begin(&self.labels.shown(call)),
        }
    }

    /// Ends a call that was decided.
    #[inline]
    pub(crate) fn decided(&self, call: &Call<'_>, begun: &Begun, decision: &Decision) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        self.ended(call, begun, &Ended::decided(decision));
        let _ = (call, begun, decision);
    }

    /// Ends a call that was done and decided nothing.
    #[inline]
    pub(crate) fn done(&self, call: &Call<'_>, begun: &Begun) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        self.ended(call, begun, &Ended::done());
        let _ = (call, begun);
    }

    /// Ends a call that was refused, or to which the store gave no answer.
    pub(crate) fn failed(&self, call: &Call<'_>, begun: &Begun, error: &impl CallError) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        self.ended(call, begun, &Ended::failed(error));
        let _ = (call, begun, error);
    }
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
impl Instruments {
    pub(crate) fn with_key_label(&self) -> Self {
        Self { labels: Labels { keys: true, ..self.labels }, ..self.clone() }
    }

    pub(crate) fn with_asset_label(&self) -> Self {
        Self { labels: Labels { assets: true, ..self.labels }, ..self.clone() }
    }

    fn ended(&self, call: &Call<'_>, begun: &Begun, ended: &Ended<'_>) {
        let call = self.labels.shown(call);
        #[cfg(feature = "metrics")]
        self.metrics.ended(&call, ended, begun.at);
        #[cfg(feature = "tracing")]
        self.spans.ended(&call, &begun.span, ended);
    }
}

impl Begun {
    /// Runs a call inside its span.
    #[inline]
    pub(crate) fn in_scope<T>(&self, call: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        return self.span.in_scope(call);
        #[cfg(not(feature = "tracing"))]
        call()
    }

    /// Polls a call inside its span.
    pub(crate) fn around<F: Future>(&self, call: F) -> impl Future<Output = F::Output> {
        #[cfg(feature = "tracing")]
        return tracing::Instrument::instrument(call, self.span.clone());
        #[cfg(not(feature = "tracing"))]
        call
    }
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
impl Labels {
    /// Returns the call with only the names that are shown.
    fn shown<'a>(self, call: &Call<'a>) -> Call<'a> {
        let Call { key, asset, .. } = *call;
        Call { key: key.filter(|_| self.keys), asset: asset.filter(|_| self.assets), ..*call }
    }
}
