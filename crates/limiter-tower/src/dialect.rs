//! Header dialects: the state of the limits, in headers that clients already read.

mod anthropic;
mod ietf;
mod legacy;
mod openai;

use http::{HeaderMap, HeaderName, HeaderValue};
use limiter::decision::RuleState;

use crate::standing::Standing;

/// A set of headers that shows a client the state of its limits. Several can be combined; they share no header.
///
/// [`Ietf`](Self::Ietf) lists every limit. The others have room for one limit of each unit, and never mix the numbers
/// of two: they show the limit of any level with the fewest requests or tokens left, which a client meets first
/// ([`Standing::requests`](crate::Standing::requests)). Of a denied call they show the violated limit that resets last.
/// A unit without a limit has no headers. Limits of credits, and limits for ever, have none either: a window that does not
/// end has no reset.
///
/// ```
/// use http::HeaderMap;
/// use limiter::{Charge, KeyConfig, Limiter, Limits, ManualClock, NewKey};
/// use limiter_tower::{Dialect, Standing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = Limiter::in_memory_on(&ManualClock::at("2026-01-01T12:00:29Z".parse()?));
/// let limits = Limits::builder().requests_per_minute(50).build()?;
/// # let ci = NewKey::member(KeyConfig::named("ci")?.with_global(limits));
/// # let key = limiter.workspace("team-a")?.create(ci).await?.record.id;
/// let decision = limiter.check_and_consume(&key, None, &Charge::request()).await?;
///
/// let mut headers = HeaderMap::new();
/// Dialect::Ietf.write(Standing::from(&decision), &mut headers);
/// assert_eq!(headers["ratelimit-policy"], r#""permin";q=50;w=60"#);
/// assert_eq!(headers["ratelimit"], r#""permin";r=49;t=31"#);
/// # Ok(())
/// # }
/// ```
///
/// A denied call that [exceeds a limit itself](limiter::decision::Violation::exceeds_limit) gets no reset for this limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// `RateLimit-Policy` and `RateLimit`, structured fields of draft-ietf-httpapi-ratelimit-headers-11.
    ///
    /// Both list every limit that the call met, of the key and of its groups, by [`policy_name`](crate::policy_name). In `RateLimit` the limit that binds
    /// comes [first](crate::Standing::overall), then the others that are violated, then the rest: some clients read only the
    /// first item, which of a denied call is the limit to wait for. A limit of tokens has the parameter `qu`: `tokens`,
    /// `input-tokens` or `output-tokens`, which are not in the draft's registry. Numbers above 999,999,999,999,999, the
    /// largest of a structured field, are shown as that.
    Ietf,
    /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` of the earlier drafts: the one limit that
    /// [binds](crate::Standing::overall), of requests or tokens, and the seconds until its window ends, rounded up.
    Legacy,
    /// OpenAI's: `x-ratelimit-limit-requests`, `x-ratelimit-remaining-tokens`, `x-ratelimit-reset-tokens: 6m0s` and so on.
    OpenAi,
    /// Anthropic's: `anthropic-ratelimit-requests-limit`, `-remaining`, and `-reset` as RFC 3339.
    ///
    /// `-tokens-` shows the limit with the fewest tokens left, of input, of output or of both together; `-input-tokens-`
    /// and `-output-tokens-` that of their unit.
    Anthropic,
}

impl Dialect {
    /// Writes the headers of several dialects.
    pub fn write_all(dialects: &[Self], standing: Standing<'_>, headers: &mut HeaderMap) {
        for dialect in dialects {
            dialect.write(standing, headers);
        }
    }

    /// Returns the names of its headers, for example to expose them to web pages.
    #[must_use]
    pub fn header_names(self) -> Vec<HeaderName> {
        match self {
            Self::Ietf => ietf::NAMES.to_vec(),
            Self::Legacy => legacy::NAMES.to_vec(),
            Self::OpenAi => openai::NAMES.concat(),
            Self::Anthropic => anthropic::NAMES.concat(),
        }
    }

    /// Writes its headers, over those of the same names.
    pub fn write(self, standing: Standing<'_>, headers: &mut HeaderMap) {
        match self {
            Self::Ietf => ietf::write(standing, headers),
            Self::Legacy => legacy::write(standing, headers),
            Self::OpenAi => openai::write(standing, headers),
            Self::Anthropic => anthropic::write(standing, headers),
        }
    }
}

pub use ietf::policy_name;

/// Writes limit, remaining and, where it helps to wait for it, reset of a rule, if there is one.
fn insert_state(
    headers: &mut HeaderMap,
    [limit, remaining, reset]: [HeaderName; 3],
    state: Option<RuleState>,
    reset_text: impl FnOnce(&RuleState) -> Option<String>,
) {
    if let Some(state) = state {
        insert_number(headers, limit, state.limit);
        insert_number(headers, remaining, state.remaining);
        if let Some(text) = reset_text(&state) {
            insert_text(headers, reset, text);
        }
    }
}

/// Formats the number first: a value that is made of a number itself takes two allocations.
fn insert_number(headers: &mut HeaderMap, name: HeaderName, number: u64) {
    insert_text(headers, name, number.to_string());
}

/// A value made here is visible ASCII, which every header can hold.
fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}
