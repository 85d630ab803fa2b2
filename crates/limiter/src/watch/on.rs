//! Somebody watches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use limiter_core::{AssetId, Decision, KeyId};
use pin_project_lite::pin_project;

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

pin_project! {
    /// A call that is watched. It is no async function, which would move the call, and all that it holds, once more.
    #[project = Projected]
    struct Watched<'e, 'k, 'a, F, T> {
        #[pin]
        call: F,
        told: T,
        eyes: &'e Eyes,
        operation: Operation,
        named: Named<'k, 'a>,
        begun: Option<Begun>,
    }
}

/// What is kept from the first poll of a call to its end.
struct Begun {
    #[cfg(feature = "metrics")]
    at: Option<std::time::Instant>,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

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

    fn around<'k, 'a, F: Future, T: Fn(&F::Output) -> Told<'_>>(
        &self,
        operation: Operation,
        named: Named<'k, 'a>,
        call: F,
        told: T,
    ) -> Watched<'_, 'k, 'a, F, T> {
        let named = self.shows.of(named);
        Watched { call, told, eyes: &self.eyes, operation, named, begun: None }
    }
}

impl<F: Future, T: Fn(&F::Output) -> Told<'_>> Future for Watched<'_, '_, '_, F, T> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Projected { call, told, eyes, operation, named, begun } = self.project();
        let begun = begun.get_or_insert_with(|| eyes.begin(*operation, *named));
        #[cfg(feature = "tracing")]
        let entered = begun.span.enter();
        let answer = ready!(call.poll(context));
        #[cfg(feature = "tracing")]
        drop(entered);
        eyes.ended(*operation, *named, begun, &told(&answer));
        Poll::Ready(answer)
    }
}

impl Eyes {
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "spans have names"))]
    fn begin(&self, operation: Operation, named: Named<'_, '_>) -> Begun {
        Begun {
            #[cfg(feature = "metrics")]
            at: self.figures.begin(),
            #[cfg(feature = "tracing")]
            span: self.spans.begin(operation, named),
        }
    }

    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "figures have names"))]
    fn ended(&self, operation: Operation, named: Named<'_, '_>, begun: &Begun, told: &Told<'_>) {
        #[cfg(feature = "metrics")]
        self.figures.ended(operation, named, told, begun.at);
        #[cfg(feature = "tracing")]
        self.spans.ended(operation, &begun.span, told);
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
