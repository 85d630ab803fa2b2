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
        // As browsers write it, in lower case: a scheme, a host, and the port unless it is the scheme's default.
        let is_origin = text.parse().is_ok_and(|uri: Uri| match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => text == format!("{scheme}://{authority}"),
            _ => false,
        });
        let is_plain = !text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'@');
        match HeaderValue::from_str(text) {
            Ok(value) if text == ANY || (is_origin && is_plain) => Ok(Self(value)),
            _ => Err(ConfigError::Setting(format!(
                "{text:?} is not an origin of web pages: write \"*\", or a scheme and a host in lower case with nothing after \
                 them, as in https://example.com or http://localhost:3000"
            ))),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for (text, is_origin) in [
            ("*", true),
            ("https://example.com", true),
            ("http://localhost:3000", true),
            ("example.com", false),
            ("https://example.com/", false),
            ("https://example.com/path", false),
            ("https://Example.com", false),
            ("https://me@example.com", false),
            ("null", false),
            ("", false),
        ] {
            let read = text.parse::<Origin>();
            assert_eq!(read.is_ok(), is_origin, "{text:?}");
            assert_eq!(read.is_ok_and(|origin| origin.is_any()), text == "*", "{text:?}");
        }
    }
}
