//! Operations on reservations, and checks with a request id.

use std::time::Duration;

use limiter_core::{Credits, Decision, KeysError, RequestId, ReservationError, Store, Totals};

use super::{PlayError, Player, answer, request};
use crate::replay::{self, Answer, Call, Problem, Reserve};

impl<S: Store> Player<S> {
    pub(super) async fn check_once(&self, call: &Call, id: &str) -> Result<Answer, PlayError> {
        let (asset, charge) = (request::asset(call)?, request::charge(call)?);
        let id = request_id(id)?;
        let key = self.key(&call.key);
        decided(self.engine.check_once(key, asset.as_ref(), &charge, &id).await)
    }

    pub(super) async fn reserve(&self, reserve: &Reserve) -> Result<Answer, PlayError> {
        let Reserve { estimate, id, ttl_ms } = reserve;
        let (asset, charge) = (request::asset(estimate)?, request::charge(estimate)?);
        let (id, ttl) = (request_id(id)?, Duration::from_millis(*ttl_ms));
        let key = self.key(&estimate.key);
        decided(self.engine.reserve(key, asset.as_ref(), &charge, &id, ttl).await)
    }

    pub(super) async fn extend(&self, to: &replay::Totals) -> Result<Answer, PlayError> {
        let id = request_id(&to.id)?;
        decided(self.engine.extend(self.key(&to.key), &id, &totals(to)?).await)
    }

    pub(super) async fn settle(&self, actual: &replay::Totals) -> Result<Answer, PlayError> {
        let id = request_id(&actual.id)?;
        let settled = self.engine.settle(self.key(&actual.key), &id, &totals(actual)?).await;
        settled.map_or_else(problem, |settled| answer::of_settlement(&settled))
    }

    pub(super) async fn cancel(&self, key: &str, id: &str) -> Result<Answer, PlayError> {
        let cancelled = self.engine.cancel(self.key(key), &request_id(id)?).await;
        cancelled.map_or_else(problem, |settled| answer::of_settlement(&settled))
    }
}

fn decided(decision: Result<Decision, ReservationError>) -> Result<Answer, PlayError> {
    decision.map_or_else(problem, |decision| answer::of_decision(&decision))
}

fn request_id(id: &str) -> Result<RequestId, KeysError> {
    Ok(RequestId::new(id)?)
}

fn totals(written: &replay::Totals) -> Result<Totals, KeysError> {
    let mut totals = Totals::unchanged();
    if let Some(tokens) = written.input {
        totals = totals.with_input_tokens(tokens)?;
    }
    if let Some(tokens) = written.output {
        totals = totals.with_output_tokens(tokens)?;
    }
    if let Some(millionths) = written.credits {
        totals = totals.with_credits(Credits::from_millionths(millionths)?);
    }
    Ok(totals)
}

/// How a refusal is answered, if the replay format has a word for it.
fn problem(error: ReservationError) -> Result<Answer, PlayError> {
    let problem = match error {
        ReservationError::KeyUnknown => Problem::UnknownKey,
        ReservationError::Unknown(_) => Problem::UnknownReservation,
        ReservationError::OtherExists(_) => Problem::AlreadyExists,
        ReservationError::AlreadySettled(_) => Problem::AlreadySettled,
        ReservationError::Shrinks | ReservationError::Invalid(_) => Problem::Invalid,
        ReservationError::TooMany { retry_at, .. } => {
            return Ok(Answer::TooMany { retry_at: answer::unix_ms(retry_at)? });
        }
        ReservationError::Store(error) => return Err(error.into()),
        other => return Err(PlayError::NoWord(other.to_string())),
    };
    Ok(Answer::Error(problem))
}
