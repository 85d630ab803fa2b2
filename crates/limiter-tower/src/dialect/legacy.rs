//! The three fields of the earlier drafts, which know one limit and no unit.

use http::{HeaderMap, HeaderName};

use super::insert_number;
use crate::standing::{Standing, whole_seconds};

pub(super) fn write(standing: Standing<'_>, headers: &mut HeaderMap) {
    if let Some(state) = standing.overall() {
        insert_number(headers, LIMIT, state.limit);
        insert_number(headers, REMAINING, state.remaining);
        if let Some(wait) = standing.resets_after(&state) {
            insert_number(headers, RESET, whole_seconds(wait));
        }
    }
}

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
