//! What happens when a model is run.

pub(crate) mod echo;
mod priced;
mod refused;
pub(crate) mod upstream;
pub(crate) mod usage;

use std::sync::Arc;

use limiter::{KeyId, RequestId};
use serde_json::{Map, Value};

use crate::admission::Turn;
use crate::models::Model;
use crate::refusal::Refusal;

/// A run that a key asks for.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) key: KeyId,
    pub(crate) model: Arc<Model>,
    pub(crate) request: Map<String, Value>,
    /// The request's turn to be decided; it ends before the run waits for a provider.
    pub(crate) turn: Turn,
}

impl Run {
    /// Takes the prompt out of a request: `text`, or `data` as older clients name it.
    pub(crate) fn into_prompt(mut request: Map<String, Value>) -> Option<Value> {
        ["text", "data"]
            .into_iter()
            .find_map(|name| request.remove(name))
            .filter(|value| !value.is_null())
    }

    /// Whether the answer is to come piece by piece.
    pub(crate) fn streams(&self) -> bool {
        let option = self.request.get("options").and_then(|options| options.get("stream"));
        option.or_else(|| self.request.get("stream")) == Some(&Value::Bool(true))
    }
}

/// A new id of a call, which nobody else draws: 128 random bits.
pub(crate) fn draw_id() -> Result<RequestId, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Refusal::unavailable("entropy", error.to_string()))?;
    Ok(RequestId::new(format!("{:032x}", u128::from_be_bytes(bytes)))?)
}
