//! The three fields of the earlier drafts, which show one limit and no unit.

use http::{HeaderMap, HeaderName};
use limiter::decision::RuleState;

use super::insert_state;
use crate::standing::{Standing, whole_seconds};

pub(super) fn write(standing: Standing<'_>, headers: &mut HeaderMap) {
    let seconds =
        |state: &RuleState| Some(whole_seconds(standing.resets_after(state)?).to_string());
    insert_state(headers, NAMES, standing.overall(), seconds);
}

pub(super) const NAMES: [HeaderName; 3] = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];
