//! Who calls: the access key of a request, and the key that it belongs to.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use limiter::{AccessKey, KeyDigest, KeyId, Limiter, StoreError};
use lru::LruCache;
use parking_lot::Mutex;

use crate::app::App;
use crate::bounds::MAX_KNOWN_KEYS;
use crate::refusal::Refusal;

/// The access key that came with a request, as `x-api-key: KEY` or `Authorization: Token KEY`; the first if both came.
///
/// It is well formed, and not yet known to belong to a key.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) AccessKey);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        access_key(&parts.headers).map(Self).ok_or_else(Refusal::unknown_key)
    }
}

/// The key of the caller, found before the body is read: whoever is not known is not listened to.
#[derive(Debug)]
pub(crate) struct Identified(pub(crate) KeyId);

impl FromRequestParts<Arc<App>> for Identified {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let caller = Caller::from_request_parts(parts, app).await?;
        app.authenticator.identify(&caller).await.map(Self)
    }
}

fn access_key(headers: &HeaderMap) -> Option<AccessKey> {
    let text = match headers.get(&X_API_KEY) {
        Some(value) => value.to_str().ok()?,
        None => {
            let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("token").then(|| token.trim())?
        }
    };
    AccessKey::new(text).ok()
}

/// Finds keys by their access keys.
#[derive(Debug)]
pub(crate) struct Authenticator {
    limiter: Limiter,
    /// Where a look-up is a round trip, those that were found. An access key never becomes that of another key, and whether
    /// its key still lives is decided with each call. What was not found is not remembered: a flood of guesses
    /// displaces nobody.
    known: Option<Mutex<LruCache<KeyDigest, KeyId>>>,
}

impl Authenticator {
    pub(crate) fn new(limiter: Limiter) -> Self {
        let by_network = limiter.memory().is_none();
        let known = by_network.then(|| Mutex::new(LruCache::new(MAX_KNOWN_KEYS)));
        Self { limiter, known }
    }

    /// The key of this access key: one digest, and at most one look-up.
    pub(crate) async fn identify(&self, caller: &Caller) -> Result<KeyId, Refusal> {
        if let Some(memory) = self.limiter.memory() {
            return memory.resolve(&caller.0.digest()).ok_or_else(Refusal::unknown_key);
        }
        self.look_up(&caller.0).await?.ok_or_else(Refusal::unknown_key)
    }

    async fn look_up(&self, access_key: &AccessKey) -> Result<Option<KeyId>, StoreError> {
        let Some(known) = &self.known else { return self.limiter.authenticate(access_key).await };
        let digest = access_key.digest();
        if let Some(id) = known.lock().get(&digest) {
            return Ok(Some(id.clone()));
        }
        let found = self.limiter.authenticate(access_key).await?;
        if let Some(id) = &found {
            known.lock().put(digest, id.clone());
        }
        Ok(found)
    }
}

static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "jte9JHAFxw25KvoYP5rb9i";

    #[test]
    fn a_key_comes_in_either_header() {
        for (name, value) in [
            ("x-api-key", KEY.to_owned()),
            ("authorization", format!("Token {KEY}")),
            ("authorization", format!("token {KEY}")),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(access_key(&headers).unwrap().expose(), KEY, "{name}: {value}");
        }
    }

    #[test]
    fn what_is_no_access_key_is_not_looked_up() {
        for value in ["", "short", "Bearer jte9JHAFxw25KvoYP5rb9i", "Token"] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            assert!(access_key(&headers).is_none(), "{value}");
        }
    }
}
