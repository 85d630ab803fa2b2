//! Sessions of operators: an admin's access key, kept in this process behind a cookie.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use axum::http::request::Parts;
use limiter::{AccessKey, Keys};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::app::App;
use crate::refusal::Refusal;

/// The open sessions of this process. A restart ends them.
#[derive(Debug)]
pub(crate) struct Sessions {
    life: Duration,
    /// By the hashes of their tokens.
    open: Mutex<HashMap<[u8; 32], Arc<Session>>>,
}

/// The session of an operator. Its access key is looked up for each request, so that a rotated or deleted one ends the session.
pub(crate) struct Session {
    access_key: AccessKey,
    form_token: Zeroizing<String>,
    opened: Instant,
}

/// The operator of a request.
#[derive(Clone, Debug)]
pub(crate) struct Operator(pub(crate) Arc<Session>);

impl Sessions {
    pub(crate) fn new(life: Duration) -> Self {
        Self { life, open: Mutex::default() }
    }

    /// Opens a session, and returns the value of its `Set-Cookie` header.
    pub(super) fn open(
        &self,
        access_key: AccessKey,
        by_tls: bool,
    ) -> Result<String, getrandom::Error> {
        let (token, form_token) = (drawn()?, drawn()?);
        let now = Instant::now();
        let session = Arc::new(Session { access_key, form_token, opened: now });
        let mut open = self.open.lock();
        open.retain(|_, session| self.is_alive(session, now));
        if open.len() >= MOST_SESSIONS {
            let oldest = open.iter().min_by_key(|(_, session)| session.opened);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                open.remove(&oldest);
            }
        }
        open.insert(hash(&token), session);
        let secure = if by_tls { "; Secure" } else { "" };
        let seconds = self.life.as_secs();
        Ok(format!(
            "{COOKIE_NAME}={}; Path=/console; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}",
            &*token
        ))
    }

    /// Finds the session of a request.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<Arc<Session>> {
        let hash = hash(token(headers)?);
        let session = self.open.lock().get(&hash).cloned()?;
        self.is_alive(&session, Instant::now()).then_some(session)
    }

    /// Ends the session of a request.
    pub(super) fn close(&self, headers: &HeaderMap) {
        if let Some(token) = token(headers) {
            self.open.lock().remove(&hash(token));
        }
    }

    fn is_alive(&self, session: &Session, now: Instant) -> bool {
        now.duration_since(session.opened) < self.life
    }
}

impl Session {
    /// The token that each form of the session carries: a page elsewhere cannot know it.
    pub(super) fn form_token(&self) -> &str {
        &self.form_token
    }

    pub(super) fn has_form_token(&self, token: &str) -> bool {
        self.form_token.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

impl Operator {
    /// Returns the keys of the operator's workspace.
    pub(super) fn keys<'a>(&'a self, app: &'a App) -> Keys<'a> {
        app.limiter.keys(&self.0.access_key)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get().cloned().ok_or_else(Refusal::unknown_key)
    }
}

/// Without its secrets.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("opened", &self.opened).finish_non_exhaustive()
    }
}

/// The cookie that ends the session in the browser.
pub(super) const ENDED: &str =
    "limiter_session=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict";

fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';'));
    pairs.find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Draws 256 bits, as hexadecimal digits.
fn drawn() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)?;
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in *bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    Ok(text)
}

const COOKIE_NAME: &str = "limiter_session";
/// More operators than a workspace has; beyond them the oldest session ends.
const MOST_SESSIONS: usize = 1_000;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    fn opened(sessions: &Sessions) -> HeaderMap {
        let access_key = AccessKey::new("admin-key-of-a-test-7Qm2vXc94bLr").unwrap();
        let cookie = sessions.open(access_key, false).unwrap();
        let pair = cookie.split(';').next().unwrap();
        let pair = HeaderValue::from_str(&format!("theme=dark; {pair}")).unwrap();
        HeaderMap::from_iter([(COOKIE, pair)])
    }

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_is_closed() {
        let sessions = Sessions::new(LIFE);
        let (one, other) = (opened(&sessions), opened(&sessions));
        let session = sessions.find(&one).unwrap();
        assert!(session.has_form_token(session.form_token()));
        assert!(!session.has_form_token(sessions.find(&other).unwrap().form_token()));
        sessions.close(&one);
        assert!(sessions.find(&one).is_none() && sessions.find(&other).is_some());
        assert!(sessions.find(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_session_ends_with_its_life_and_the_oldest_makes_room() {
        assert!(Sessions::new(Duration::ZERO).find(&opened(&Sessions::new(LIFE))).is_none());
        let ended = Sessions::new(Duration::ZERO);
        let cookie = opened(&ended);
        assert!(ended.find(&cookie).is_none());

        let sessions = Sessions::new(LIFE);
        let first = opened(&sessions);
        let second = opened(&sessions);
        (2..=MOST_SESSIONS).for_each(|_| drop(opened(&sessions)));
        assert!(sessions.find(&first).is_none() && sessions.find(&second).is_some());
    }

    #[test]
    fn a_session_shows_no_secret() {
        let sessions = Sessions::new(LIFE);
        let session = sessions.find(&opened(&sessions)).unwrap();
        let shown = format!("{:?} {:?}", Operator(Arc::clone(&session)), sessions);
        assert!(!shown.contains("admin-key") && !shown.contains(session.form_token()), "{shown}");
    }
}
