//! Answers by the source of their tokens: a metric, and a warning where the estimate stands.

use std::time::Instant;

use limiter_core::Throttle;

use super::api::Api;
use super::reported::TokenSource;
use crate::observe;

/// Counts an answer that has ended. Warns if its tokens are those of the estimate: the provider's usage or its text was not
/// understood.
pub(crate) fn answer_accounted(api: Option<Api>, source: TokenSource) {
    let api = api.map_or("other", Api::name);
    observe::answer_accounted(api, source.name());
    if source == TokenSource::Estimated
        && let Some(suppressed) = WARNINGS.admit(Instant::now())
    {
        tracing::warn!(
            api,
            suppressed,
            "the tokens of an answer were neither reported nor could they be counted: its estimate stands"
        );
    }
}

static WARNINGS: Throttle = Throttle::of_warnings();
