//! The caller: the access key of a call, or the result of the service's own authentication.

use std::fmt;
use std::pin::Pin;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use limiter::store::BoxError;
use limiter::{AccessKey, KeyId};

/// The place of an access key in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// `Authorization: Bearer <access key>`.
    Bearer,
    /// A header that holds the access key alone, such as `x-api-key`.
    Header(HeaderName),
}

/// The caller, as a function of the service identified it.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A key whose holder the service has authenticated itself.
    Key(KeyId),
    /// An access key, to be authenticated by the limiter.
    AccessKey(AccessKey),
}

impl Caller {
    /// A key by the path of its group and its own segment, such as the address of an anonymous caller beneath an
    /// [open group](limiter::Keys::open); `None` if the path is malformed, or the segment has a `/`,
    /// is empty or longer than 64 bytes.
    ///
    /// ```
    /// use limiter_tower::Caller;
    ///
    /// let address: std::net::IpAddr = "203.0.113.7".parse()?;
    /// assert!(matches!(Caller::path("ip", address), Some(Caller::Key(key)) if key.as_str() == "ip/203.0.113.7"));
    /// assert!(Caller::path("ip", "").is_none() && Caller::path("ip", "partners/acme").is_none());
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn path(group: &str, segment: impl fmt::Display) -> Option<Self> {
        let group: KeyId = group.parse().ok()?;
        group.child(segment.to_string()).ok().map(Self::Key)
    }
}

impl From<KeyId> for Caller {
    fn from(key: KeyId) -> Self {
        Self::Key(key)
    }
}

impl From<AccessKey> for Caller {
    fn from(access_key: AccessKey) -> Self {
        Self::AccessKey(access_key)
    }
}

impl Credential {
    /// The bytes that should be an access key, if the call has this credential.
    pub(crate) fn find<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        match self {
            Self::Bearer => bearer(headers.get(&AUTHORIZATION)?),
            Self::Header(name) => Some(headers.get(name)?.as_bytes().trim_ascii()),
        }
    }
}

/// The scheme is not case-sensitive, as RFC 9110 has it.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, access_key) = value.as_bytes().split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| access_key.trim_ascii())
}

/// How the layer identifies the caller.
pub(crate) enum Identify {
    Credentials(Vec<Credential>),
    Function(Box<IdentifyNow>),
    Async(Box<IdentifyLater>),
}

type IdentifyNow = dyn Fn(&Parts) -> Option<Caller> + Send + Sync;
type IdentifyLater = dyn Fn(&Parts) -> Identifying + Send + Sync;
pub(crate) type Identifying =
    Pin<Box<dyn Future<Output = Result<Option<Caller>, BoxError>> + Send>>;

impl fmt::Debug for Identify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(credentials) => credentials.fmt(f),
            Self::Function(_) | Self::Async(_) => f.write_str("function"),
        }
    }
}

/// With the space that follows it.
const BEARER: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_found_in_any_case_and_among_spaces() {
        for (value, found) in [
            ("Bearer abc", Some("abc")),
            ("bearer   abc ", Some("abc")),
            ("BEARER abc", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearerabc", None),
            ("", None),
        ] {
            let headers = [(AUTHORIZATION, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(Credential::Bearer.find(&headers), found.map(str::as_bytes), "{value:?}");
        }
    }
}
