//! The three fields of the earlier drafts, which know one limit and no unit.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::standing::{Standing, whole_seconds};

pub(super) fn write(standing: Standing<'_>, headers: &mut HeaderMap) {
    if let Some(state) = standing.overall() {
        let seconds = whole_seconds(standing.resets_after(&state));
        headers.insert(LIMIT, HeaderValue::from(state.limit));
        headers.insert(REMAINING, HeaderValue::from(state.remaining));
        headers.insert(RESET, HeaderValue::from(seconds));
    }
}

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
