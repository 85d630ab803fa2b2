//! Origins of web pages that may call the server from a browser.

use std::str::FromStr;

use axum::http::{HeaderValue, Uri};
use serde::Deserialize;

use super::ConfigError;

/// The origin of web pages that may call the server from a browser: `https://example.com`, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(HeaderValue);

impl Origin {
    pub(crate) fn is_any(&self) -> bool {
        self.0 == ANY
    }

    pub(crate) const fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refused = || ConfigError::CorsOrigin(text.to_owned());
        if text != ANY {
            // As browsers write it, in lower case: a scheme, a host, and the port unless it is the scheme's default.
            let uri: Uri = text.parse().map_err(|_| refused())?;
            let is_origin = match (uri.scheme_str(), uri.authority()) {
                (Some(scheme), Some(authority)) => text == format!("{scheme}://{authority}"),
                _ => false,
            };
            if !is_origin
                || text.contains('@')
                || text.bytes().any(|byte| byte.is_ascii_uppercase())
            {
                return Err(refused());
            }
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| refused())
    }
}

impl TryFrom<String> for Origin {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

const ANY: &str = "*";
