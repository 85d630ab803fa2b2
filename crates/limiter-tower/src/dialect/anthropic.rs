//! The headers of Anthropic's API: requests, tokens by type, and the instant at which they come back.

use http::{HeaderMap, HeaderName};
use limiter::{RuleState, TokenType};

use super::{insert_number, insert_text};
use crate::standing::Standing;

pub(super) fn write(standing: Standing<'_>, headers: &mut HeaderMap) {
    let mut write = |names: [HeaderName; 3], state: Option<RuleState>| {
        if let Some(state) = state {
            let [limit, remaining, reset] = names;
            insert_number(headers, limit, state.limit);
            insert_number(headers, remaining, state.remaining);
            if let Some(resets_at) = standing.resets_at(&state) {
                insert_text(headers, reset, resets_at.to_string());
            }
        }
    };
    write(REQUESTS, standing.requests());
    write(TOKENS, standing.tokens());
    write(INPUT_TOKENS, standing.tokens_of(TokenType::Input));
    write(OUTPUT_TOKENS, standing.tokens_of(TokenType::Output));
}

const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];
const INPUT_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
];
const OUTPUT_TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("anthropic-ratelimit-output-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
];
