//! The metrics and spans of a limiter that its features enable.

#[cfg(any(feature = "metrics", feature = "tracing"))]
use std::sync::Arc;

use super::Call;
#[cfg(feature = "metrics")]
use super::metrics::Metrics;
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
    pub(crate) labels: Labels,
}

/// The names that metrics and spans show: none by default, since nothing bounds their number.
#[cfg(any(feature = "metrics", feature = "tracing"))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Labels {
    pub(crate) keys: bool,
    pub(crate) assets: bool,
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

    /// Ends a call as this function says.
    #[inline]
    pub(crate) fn ended<'e>(
        &self,
        call: &Call<'_>,
        begun: &Begun,
        ended: impl FnOnce() -> Ended<'e>,
    ) {
        #[cfg(any(feature = "metrics", feature = "tracing"))]
        let (call, ended) = (self.labels.shown(call), ended());
        #[cfg(feature = "metrics")]
        self.metrics.ended(&call, &ended, begun.at);
        #[cfg(feature = "tracing")]
        self.spans.ended(&call, &begun.span, &ended);
        let _ = (call, begun, ended);
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
