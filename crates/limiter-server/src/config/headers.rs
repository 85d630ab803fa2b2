//! The names of header dialects, in flags, in the environment and in the file.

use clap::ValueEnum;
use limiter_tower::Dialect;
use serde::Deserialize;

use super::ConfigError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub(super) enum Headers {
    /// RateLimit and RateLimit-Policy, of draft-ietf-httpapi-ratelimit-headers-11
    Ietf,
    /// RateLimit-Limit, -Remaining and -Reset, of the earlier drafts
    Legacy,
    /// x-ratelimit-limit-requests, -remaining-tokens and so on
    OpenAi,
    /// anthropic-ratelimit-requests-limit and so on
    Anthropic,
    /// No headers; cannot be combined with others
    None,
}

pub(super) fn dialects(headers: &[Headers]) -> Result<Vec<Dialect>, ConfigError> {
    if headers.len() > 1 && headers.contains(&Headers::None) {
        return Err(ConfigError::NoHeadersAndSome);
    }
    Ok(headers.iter().filter_map(|name| name.dialect()).collect())
}

impl Headers {
    const fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Ietf => Some(Dialect::Ietf),
            Self::Legacy => Some(Dialect::Legacy),
            Self::OpenAi => Some(Dialect::OpenAi),
            Self::Anthropic => Some(Dialect::Anthropic),
            Self::None => None,
        }
    }
}
