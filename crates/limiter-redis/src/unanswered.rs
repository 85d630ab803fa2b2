//! Tokens of settlements and cancellations, so that a lost answer does not make a first one look like a repetition.
//!
//! The script writes the token of the call that ended a reservation into its record. A call whose answer is lost is
//! repeated under the same token: by the store within its deadline, or by a caller after an error. If the record then
//! has this token, the lost try was the first one. Another process has other tokens, and finds a repetition.

use limiter_core::{KeyId, RequestId};

use crate::cache::Cache;
use crate::random::draw;
use crate::schema::Token;

/// The tokens of calls without an answer. The oldest are forgotten first.
#[derive(Debug)]
pub(crate) struct Unanswered(Cache<RequestId, Token>);

/// A call that ends a reservation. If it is dropped without an answer, its token is kept for the next one.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    unanswered: &'a Unanswered,
    reservation: Option<(KeyId, RequestId)>,
    pub(crate) token: Token,
}

impl Default for Unanswered {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Unanswered {
    /// Starts a call. If the call before it got no answer, it takes over that token. A concurrent call of the same
    /// reservation gets a token of its own, so that only one of them can be the first.
    pub(crate) fn start(&self, key: &KeyId, id: &RequestId) -> Ending<'_> {
        let token = self.0.take(key, id.clone()).unwrap_or_else(new_token);
        Ending { unanswered: self, reservation: Some((key.clone(), id.clone())), token }
    }
}

impl Ending<'_> {
    /// Forgets the token, since the store has answered.
    pub(crate) fn answered(mut self) {
        self.reservation = None;
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some((key, id)) = self.reservation.take() {
            self.unanswered.0.learn(&key, id, self.token);
        }
    }
}

fn new_token() -> Token {
    (u128::from(draw()) << 64 | u128::from(draw())).to_le_bytes()
}

/// Some 2 MB at most. More calls than this stay unanswered only while the server is down, and none of those ran.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_after_one_without_an_answer_has_the_same_token() {
        let (unanswered, key, id) =
            (Unanswered::default(), "ci".parse().unwrap(), "r".parse().unwrap());
        let lost = unanswered.start(&key, &id).token;
        let repeated = unanswered.start(&key, &id);
        let concurrent = unanswered.start(&key, &id);
        assert_eq!(repeated.token, lost);
        assert_ne!(concurrent.token, lost);
        concurrent.answered();
        repeated.answered();
        let later = unanswered.start(&key, &id);
        assert_ne!(later.token, lost);
        assert_ne!(unanswered.start(&key, &"other".parse().unwrap()).token, later.token);
    }
}
