//! The headers of Anthropic's API: requests, tokens by type, and the instant of the reset.

use http::{HeaderMap, HeaderName};
use limiter::Unit;
use limiter::decision::RuleState;

use super::insert_state;
use crate::standing::Standing;

pub(super) fn write(standing: Standing<'_>, headers: &mut HeaderMap) {
    let states = [
        standing.requests(),
        standing.tokens(),
        standing.of_unit(Unit::InputTokens),
        standing.of_unit(Unit::OutputTokens),
    ];
    let reset = |state: &RuleState| standing.resets_at(state).map(|instant| instant.to_string());
    for (names, state) in NAMES.into_iter().zip(states) {
        insert_state(headers, names, state, reset);
    }
}

macro_rules! names {
    ($($unit:literal)*) => {
        [$([
            HeaderName::from_static(concat!("anthropic-ratelimit-", $unit, "-limit")),
            HeaderName::from_static(concat!("anthropic-ratelimit-", $unit, "-remaining")),
            HeaderName::from_static(concat!("anthropic-ratelimit-", $unit, "-reset")),
        ]),*]
    };
}

pub(super) const NAMES: [[HeaderName; 3]; 4] =
    names!("requests" "tokens" "input-tokens" "output-tokens");
