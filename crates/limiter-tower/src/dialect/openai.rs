//! The headers of OpenAI's API: requests and tokens, and the time until the reset.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use limiter::decision::RuleState;

use super::insert_state;
use crate::standing::Standing;

pub(super) fn write(standing: Standing<'_>, headers: &mut HeaderMap) {
    for (names, state) in NAMES.into_iter().zip([standing.requests(), standing.tokens()]) {
        let reset = |state: &RuleState| standing.resets_after(state).map(duration);
        insert_state(headers, names, state, reset);
    }
}

/// As Go prints a duration, to the millisecond: `6m0s`, `1.5s`, `17ms`.
fn duration(wait: Duration) -> String {
    let (seconds, milliseconds) = (wait.as_secs(), wait.subsec_millis());
    if seconds == 0 && milliseconds > 0 {
        return format!("{milliseconds}ms");
    }
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if seconds >= 60 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}", seconds % 60);
    if milliseconds > 0 {
        let fraction = format!("{milliseconds:03}");
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text.push('s');
    text
}

pub(super) const NAMES: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_openai_writes_it() {
        for (wait_ms, text) in [
            (0, "0s"),
            (17, "17ms"),
            (1_000, "1s"),
            (7_660, "7.66s"),
            (60_000, "1m0s"),
            (90_951, "1m30.951s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (86_399_001, "23h59m59.001s"),
        ] {
            assert_eq!(duration(Duration::from_millis(wait_ms)), text);
        }
    }
}
