//! What is told of each call: figures, with the feature `metrics`, and a span, with the feature `tracing`.
//!
//! Without both there is nothing here: [`Watch`] has no size, and hands the future of a call through as it is.

#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(any(feature = "metrics", feature = "tracing")))]
mod off;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod on;
mod operation;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod outcome;
#[cfg(feature = "tracing")]
mod spans;

use limiter_core::{AssetId, KeyId};

#[cfg(not(any(feature = "metrics", feature = "tracing")))]
pub(crate) use self::off::{Watch, Whose};
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub(crate) use self::on::{Watch, Whose};
pub(crate) use self::operation::Operation;

/// The key and the asset of a call, as far as they are known.
pub(crate) type Named<'k, 'a> = (Option<&'k KeyId>, Option<&'a AssetId>);

/// Counts a threshold event that was handed to whoever listens. The threshold is in percent of the limit.
pub(crate) fn event_fired(percent: u8) {
    #[cfg(feature = "metrics")]
    metrics::event_fired(percent);
    #[cfg(not(feature = "metrics"))]
    let _ = percent;
}

/// Counts events of a kind that a slow subscriber has missed.
pub(crate) fn events_missed(kind: &'static str, events: u64) {
    #[cfg(feature = "metrics")]
    metrics::events_missed(kind, events);
    #[cfg(not(feature = "metrics"))]
    let _ = (kind, events);
}

/// Counts an answer by its API and the source of its tokens.
#[cfg(feature = "stream")]
pub(crate) fn answer_accounted(api: &'static str, tokens: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::answer_accounted(api, tokens);
    #[cfg(not(feature = "metrics"))]
    let _ = (api, tokens);
}

/// Counts a panic in a callback of the application.
pub(crate) fn user_code_panicked(callback: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::user_code_panicked(callback);
    #[cfg(not(feature = "metrics"))]
    let _ = callback;
}
