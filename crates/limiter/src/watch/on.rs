//! Somebody watches.

use std::sync::Arc;

use limiter_core::{AssetId, Decision, KeyId};

#[cfg(feature = "metrics")]
use super::metrics::Figures;
use super::outcome::{CallError, Told, of_answer, of_decision};
#[cfg(feature = "tracing")]
use super::spans::Spans;
use super::{Named, Operation};

/// Counts the calls of a limiter, and puts spans around them. A clone is the same watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    eyes: Arc<Eyes>,
    shows: Shows,
}

#[derive(Debug)]
struct Eyes {
    #[cfg(feature = "metrics")]
    figures: Figures,
    #[cfg(feature = "tracing")]
    spans: Spans,
}

/// Which names figures and spans show: none, unless asked for, since nothing bounds how many there are.
#[derive(Clone, Copy, Debug, Default)]
struct Shows {
    keys: bool,
    assets: bool,
}

/// Whose calls a handle makes, as far as that is to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Whose(Option<Arc<(KeyId, Option<AssetId>)>>);

impl Watch {
    /// In memory nothing is waited for, so that no time is taken.
    pub(crate) fn new(in_memory: bool) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = in_memory;
        let eyes = Eyes {
            #[cfg(feature = "metrics")]
            figures: Figures::new(!in_memory),
            #[cfg(feature = "tracing")]
            spans: Spans::default(),
        };
        Self { eyes: Arc::new(eyes), shows: Shows::default() }
    }

    pub(crate) fn showing_keys(&self) -> Self {
        Self { shows: Shows { keys: true, ..self.shows }, ..self.clone() }
    }

    pub(crate) fn showing_assets(&self) -> Self {
        Self { shows: Shows { assets: true, ..self.shows }, ..self.clone() }
    }

    pub(crate) fn whose(&self, key: &KeyId, asset: Option<&AssetId>) -> Whose {
        let shows = self.shows.keys || self.shows.assets;
        Whose(shows.then(|| Arc::new((key.clone(), asset.cloned()))))
    }

    /// The call of an operation that answers a decision, watched.
    pub(crate) fn decision<E: CallError>(
        &self,
        operation: Operation,
        named: Named<'_, '_>,
        call: impl Future<Output = Result<Decision, E>> + Send,
    ) -> impl Future<Output = Result<Decision, E>> + Send {
        self.around(operation, named, call, of_decision)
    }

    /// The call of any other operation, watched.
    pub(crate) fn answer<T: Send, E: CallError>(
        &self,
        operation: Operation,
        key: Option<&KeyId>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> impl Future<Output = Result<T, E>> + Send {
        self.around(operation, (key, None), call, of_answer)
    }

    async fn around<A: Send>(
        &self,
        operation: Operation,
        named: Named<'_, '_>,
        call: impl Future<Output = A> + Send,
        told: impl Fn(&A) -> Told<'_> + Send,
    ) -> A {
        let named = self.shows.of(named);
        #[cfg(feature = "metrics")]
        let began = self.eyes.figures.begin();
        #[cfg(feature = "tracing")]
        let span = self.eyes.spans.begin(operation, named);
        #[cfg(feature = "tracing")]
        let call = tracing::Instrument::instrument(call, span.clone());
        let answer = call.await;
        let told = told(&answer);
        #[cfg(feature = "metrics")]
        self.eyes.figures.ended(operation, named, &told, began);
        #[cfg(feature = "tracing")]
        self.eyes.spans.ended(operation, &span, &told);
        answer
    }
}

impl Shows {
    fn of<'k, 'a>(self, (key, asset): Named<'k, 'a>) -> Named<'k, 'a> {
        (key.filter(|_| self.keys), asset.filter(|_| self.assets))
    }
}

impl Whose {
    pub(crate) fn names(&self) -> Named<'_, '_> {
        self.0.as_deref().map_or((None, None), |(key, asset)| (Some(key), asset.as_ref()))
    }
}
