//! Operations that only a store with reservations can do.

use std::time::Duration;

use limiter_core::{
    Credits, Decision, KeysError, RequestId, ReservationError, ReservationStore, Store, Totals,
};

use super::{PlayError, Player, answer, request};
use crate::replay::{self, Action, Answer, Call, Operation, Problem, Reserve};

impl<S: Store + ReservationStore> Player<S> {
    /// As [`play`](Self::play), and what it does not support besides: `reserve`, `extend`, `settle`, `cancel`, and checks
    /// with a request id. These go by the id of the key, also where other calls go through handles.
    ///
    /// # Errors
    /// [`PlayError`] if there is no answer, as when the store fails or may remember no more.
    pub async fn play_all(&mut self, operation: &Operation) -> Result<Answer, PlayError> {
        if !operation.is_within_bounds() {
            return Ok(Answer::Error(Problem::Invalid));
        }
        let answered = match &operation.action {
            Action::Check(call) => match &call.request_id {
                Some(id) => {
                    self.set_clock(operation);
                    self.check_once(call, id).await
                }
                None => return self.play(operation).await,
            },
            Action::Reserve(reserve) => {
                self.set_clock(operation);
                self.reserve(reserve).await
            }
            Action::Extend(totals) => {
                self.set_clock(operation);
                self.extend(totals).await
            }
            Action::Settle(totals) => {
                self.set_clock(operation);
                self.settle(totals).await
            }
            Action::Cancel { key, id } => {
                self.set_clock(operation);
                self.cancel(key, id).await
            }
            Action::Create(_)
            | Action::Update(_)
            | Action::Peek(_)
            | Action::Usage { .. }
            | Action::Delete { .. } => return self.play(operation).await,
        };
        answered.or_else(problem)
    }

    async fn check_once(&self, call: &Call, id: &str) -> Result<Answer, NoAnswer> {
        let (asset, charge) = (request::asset(call)?, request::charge(call)?);
        let id = request_id(id)?;
        let key = self.key(&call.key);
        decided(&self.engine.check_once(key, asset.as_ref(), &charge, &id).await?)
    }

    async fn reserve(&self, reserve: &Reserve) -> Result<Answer, NoAnswer> {
        let Reserve { estimate, id, ttl_ms } = reserve;
        let (asset, charge) = (request::asset(estimate)?, request::charge(estimate)?);
        let (id, ttl) = (request_id(id)?, Duration::from_millis(*ttl_ms));
        let key = self.key(&estimate.key);
        decided(&self.engine.reserve(key, asset.as_ref(), &charge, &id, ttl).await?)
    }

    async fn extend(&self, to: &replay::Totals) -> Result<Answer, NoAnswer> {
        let id = request_id(&to.id)?;
        decided(&self.engine.extend(self.key(&to.key), &id, &totals(to)?).await?)
    }

    async fn settle(&self, actual: &replay::Totals) -> Result<Answer, NoAnswer> {
        let id = request_id(&actual.id)?;
        self.engine.settle(self.key(&actual.key), &id, &totals(actual)?).await?;
        Ok(Answer::Ok)
    }

    async fn cancel(&self, key: &str, id: &str) -> Result<Answer, NoAnswer> {
        self.engine.cancel(self.key(key), &request_id(id)?).await?;
        Ok(Answer::Ok)
    }

    fn set_clock(&self, operation: &Operation) {
        self.clock.set(request::instant(operation.at));
    }
}

/// What stands in the way of an answer, or is one.
#[derive(Debug)]
enum NoAnswer {
    Reservation(ReservationError),
    Play(PlayError),
}

impl From<ReservationError> for NoAnswer {
    fn from(error: ReservationError) -> Self {
        Self::Reservation(error)
    }
}

impl From<KeysError> for NoAnswer {
    fn from(error: KeysError) -> Self {
        Self::Play(error.into())
    }
}

fn decided(decision: &Decision) -> Result<Answer, NoAnswer> {
    answer::of_decision(decision).map_err(NoAnswer::Play)
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
fn problem(refused: NoAnswer) -> Result<Answer, PlayError> {
    let error = match refused {
        NoAnswer::Reservation(error) => error,
        NoAnswer::Play(error) => return Err(error),
    };
    let problem = match error {
        ReservationError::KeyUnknown => Problem::UnknownKey,
        ReservationError::Unknown(_) => Problem::UnknownReservation,
        ReservationError::OtherExists(_) => Problem::AlreadyExists,
        ReservationError::AlreadySettled(_) => Problem::AlreadySettled,
        ReservationError::Shrinks | ReservationError::Invalid(_) => Problem::Invalid,
        ReservationError::Store(error) => return Err(error.into()),
        other => return Err(PlayError::NoWord(other.to_string())),
    };
    Ok(Answer::Error(problem))
}
