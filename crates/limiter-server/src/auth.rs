//! The caller: the access key of a request, and its key.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use limiter::__private::{KnownKey, KnownKeys};
use limiter::store::KeyDigest;
use limiter::{AccessKey, KeyId, Limiter};
use parking_lot::Mutex;

use crate::app::App;
use crate::bounds::{MAX_KNOWN_KEYS, MAX_STRANGERS};
use crate::queue::Queue;
use crate::refusal::Refusal;
use crate::workers::Workers;

/// The caller's access key, from `x-api-key: KEY`, `Authorization: Bearer KEY` or `Authorization: Token KEY`. If a request
/// has both headers, `x-api-key` counts. The key is found before the rest of the request is read.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) AccessKey);

/// The caller's key, found by the head of the request alone: the body of an unknown caller is not read.
#[derive(Debug)]
pub(crate) struct Identified(pub(crate) KeyId);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let known = identify(parts, app).await?;
        Ok(Self(known.access_key.clone()))
    }
}

impl FromRequestParts<Arc<App>> for Identified {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let known = identify(parts, app).await?;
        Ok(Self(known.id.clone()))
    }
}

/// A caller whose key was found.
#[derive(Debug)]
pub(crate) struct Known {
    access_key: AccessKey,
    id: KeyId,
}

/// Finds the caller's key, once for a request with several extractors.
pub(crate) async fn identify(parts: &mut Parts, app: &App) -> Result<Arc<Known>, Refusal> {
    if let Some(known) = parts.extensions.get::<Arc<Known>>() {
        return Ok(Arc::clone(known));
    }
    let access_key = access_key(&parts.headers).ok_or_else(Refusal::unknown_key)?;
    let id = app.authenticator.identify(&access_key).await?;
    let known = Arc::new(Known { access_key, id });
    parts.extensions.insert(Arc::clone(&known));
    Ok(known)
}

fn access_key(headers: &HeaderMap) -> Option<AccessKey> {
    let text = match headers.get(&X_API_KEY) {
        Some(value) => value.to_str().ok()?,
        None => {
            let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
            let is_known = SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
            is_known.then(|| token.trim())?
        }
    };
    AccessKey::new(text).ok()
}

/// Finds keys by their access keys.
#[derive(Debug)]
pub(crate) struct Authenticator {
    limiter: Limiter,
    /// Set if a look-up takes a round trip.
    remote: Option<Arc<Remote>>,
}

/// Look-ups that take a round trip each.
#[derive(Debug)]
struct Remote {
    limiter: Limiter,
    workers: Option<Arc<Workers>>,
    known: Mutex<KnownKeys>,
    /// Queue for unknown access keys: guesses wait for each other, and known callers wait for none of them.
    strangers: Arc<Queue>,
}

impl Authenticator {
    pub(crate) fn new(limiter: Limiter, workers: Option<Arc<Workers>>) -> Self {
        let by_network = !limiter.is_in_memory();
        let remote = by_network.then(|| {
            Arc::new(Remote {
                limiter: limiter.clone(),
                workers,
                known: Mutex::new(KnownKeys::new(MAX_KNOWN_KEYS, KnownKeys::MAX_AGE)),
                strangers: Queue::new(MAX_STRANGERS),
            })
        });
        Self { limiter, remote }
    }

    /// Forgets which access keys belong to a key. Other processes remember them for a second at most.
    pub(crate) fn forget(&self, id: &KeyId) {
        if let Some(remote) = &self.remote {
            remote.known.lock().forget(id);
        }
    }

    /// Finds the key of this access key, by at most one look-up.
    pub(crate) async fn identify(&self, access_key: &AccessKey) -> Result<KeyId, Refusal> {
        let Some(remote) = &self.remote else {
            let found = self.limiter.authenticate(access_key).await?;
            return found.ok_or_else(Refusal::unknown_key);
        };
        let digest = access_key.digest();
        match remote.recall(&digest) {
            Some(KnownKey { id, is_fresh: true }) => Ok(id),
            Some(KnownKey { id, .. }) => remote.look_again(access_key, digest, id).await,
            None => remote.find(access_key, digest).await,
        }
    }
}

impl Remote {
    /// Finds a cached key. If the entry is not fresh, this caller has to look the key up again: for others the entry is
    /// fresh meanwhile.
    fn recall(&self, digest: &KeyDigest) -> Option<KnownKey> {
        let (mut known, now) = (self.known.lock(), Instant::now());
        let key = known.get(digest, now)?;
        if !key.is_fresh {
            known.insert(digest, &key.id, now);
        }
        Some(key)
    }

    async fn look_again(
        self: &Arc<Self>,
        access_key: &AccessKey,
        digest: KeyDigest,
        id: KeyId,
    ) -> Result<KeyId, Refusal> {
        let (remote, access_key) = (Arc::clone(self), access_key.clone());
        let looking = async move { remote.limiter.authenticate(&access_key).await };
        match Workers::run_on(self.workers.as_deref(), looking).await {
            // After an error the call goes on: it needs the store too.
            Ok(Some(_)) | Err(_) => Ok(id),
            Ok(None) => {
                self.known.lock().remove(&digest);
                Err(Refusal::unknown_key())
            }
        }
    }

    async fn find(
        self: &Arc<Self>,
        access_key: &AccessKey,
        digest: KeyDigest,
    ) -> Result<KeyId, Refusal> {
        let entry = self.strangers.join().ok_or_else(too_many_strangers)?;
        let (remote, access_key) = (Arc::clone(self), access_key.clone());
        let finding = async move {
            let _place = entry.place().await.ok_or_else(too_many_strangers)?;
            // Another request with the same access key may have found it meanwhile.
            if let Some(known) = remote.recall(&digest) {
                return Ok(known.id);
            }
            let found = remote.limiter.authenticate(&access_key).await?;
            let id = found.ok_or_else(Refusal::unknown_key)?;
            remote.known.lock().insert(&digest, &id, Instant::now());
            Ok(id)
        };
        Workers::run_on(self.workers.as_deref(), finding).await
    }
}

fn too_many_strangers() -> Refusal {
    Refusal::busy("too many lookups of unknown access keys are in progress")
}

/// Schemes of the services whose APIs this server offers.
const SCHEMES: [&str; 2] = ["Bearer", "Token"];
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
            ("authorization", format!("Bearer {KEY}")),
            ("authorization", format!("BEARER  {KEY}")),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(access_key(&headers).unwrap().expose(), KEY, "{name}: {value}");
        }
    }

    #[test]
    fn what_is_no_access_key_is_not_looked_up() {
        for value in ["", "short", "Basic jte9JHAFxw25KvoYP5rb9i", "Token", "Bearer"] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            assert!(access_key(&headers).is_none(), "{value}");
        }
    }
}
