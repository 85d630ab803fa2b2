//! The body of a request, and its cost estimate.

use limiter_core::MAX_COUNT;
use thiserror::Error;

use super::api::Api;
use super::request_reading;
use super::rewrite::{self, Places};
use crate::estimate::Estimate;

/// The figures in the body of a request that determine its cost, read in one pass without a copy of the body.
///
/// - **Output**: the largest of all maximum fields that the [`Api`] has, for each answer that is asked for. Maxima may be
///   written as `25`, `25.0` or `"25"`. Zero, negative numbers and null set no maximum, since some servers treat them
///   so; a maximum above a billion counts as a billion.
/// - **Input**: the text of messages, instructions, tools and documents, with a token for each 4 bytes or by your
///   tokenizer, and 4 tokens for each message. Escapes count as their characters, and unknown members of a message
///   as text. Input that the provider adds by itself (earlier turns, results of its tools) is not counted.
/// - **Pictures, sound, video and files** count by the provider's rule, or by a stated bound if the size is unknown
///   (for pictures 1,120 to 4,784 tokens), and never by their base64.
///
/// ```
/// use limiter::Estimate;
/// use limiter::stream::{Api, ApiRequest};
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
    pub(super) api: Api,
    pub(super) model: Option<String>,
    pub(super) streams: bool,
    pub(super) asks_for_usage: bool,
    pub(super) answers: u64,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) input_tokens: u64,
    pub(super) places: Places,
}

/// Changes that a gateway makes to a request before it passes it on. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestChanges {
    /// Asks the provider to report the usage of a stream, if its API reports it only on request
    /// (`stream_options.include_usage`). A request that does not stream is not changed.
    pub ask_for_usage: bool,
    /// The most output tokens of one answer, at least 1. It lowers each larger maximum of the request, and becomes its
    /// maximum if it has none. A provider may refuse a small one: Anthropic's must be above the request's own budget of
    /// thinking.
    pub max_output_tokens: Option<u64>,
}

/// A request body that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The body is not JSON, or nested too deeply to be read.
    #[error("the request body is not valid JSON: send a JSON object")]
    NotJson,
    /// The body is JSON, but not an object.
    #[error("the request body is not a JSON object: send one")]
    NotAnObject,
    /// A member that decides what the call costs is given more than once. Parsers differ in which one they use.
    #[error("the request body has {name:?} more than once: send it once")]
    Repeated {
        /// The name of the member.
        name: &'static str,
    },
    /// A member has the name of one that decides what the call costs, but in other letter case. Parsers differ in whether
    /// they accept it.
    #[error(
        "a member of the request body differs from {name:?} in letter case only: name it {name:?}"
    )]
    LetterCase {
        /// The name as it should be.
        name: &'static str,
    },
    /// The model is not a string of 1 to 256 bytes.
    #[error("the request's \"model\" is invalid: it must be a string of 1 to 256 bytes")]
    Model,
}

impl ApiRequest {
    /// Reads the body of a request of this API. Text counts as a token for each 4 bytes, rounded up once.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read(api: Api, body: &[u8]) -> Result<Self, RequestError> {
        request_reading::read(api, body, None)
    }

    /// Reads the body of a request of this API, and counts text by this function, for example a tokenizer. It gets one
    /// string of the prompt at a time.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read_counting_by(
        api: Api,
        body: &[u8],
        tokenizer: &dyn Fn(&str) -> u64,
    ) -> Result<Self, RequestError> {
        request_reading::read(api, body, Some(tokenizer))
    }

    /// A request that has no values so far.
    pub(super) const fn new(api: Api, places: Places) -> Self {
        Self {
            api,
            model: None,
            streams: false,
            asks_for_usage: false,
            answers: 1,
            max_output_tokens: None,
            input_tokens: 0,
            places,
        }
    }

    /// Returns the API of the request.
    #[must_use]
    pub const fn api(&self) -> Api {
        self.api
    }

    /// Returns the model. Requests of Gemini have it in their path instead.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Returns whether the request asks for a stream. Requests of Gemini have this in their path instead.
    #[must_use]
    pub const fn streams(&self) -> bool {
        self.streams
    }

    /// Returns whether the request asks for the usage of a stream (`stream_options.include_usage` is true).
    #[must_use]
    pub const fn asks_for_usage(&self) -> bool {
        self.asks_for_usage
    }

    /// Returns the number of answers that the request asks for, at least 1: `n`, `best_of` if it is larger, or
    /// `candidateCount`. OpenAI's completions have that many for each prompt.
    #[must_use]
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// Returns the most output tokens of one answer: the largest of all maximum fields. None if the request sets none.
    #[must_use]
    pub const fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// Returns an estimate of the input tokens.
    #[must_use]
    pub const fn input_tokens(&self) -> u64 {
        self.input_tokens
    }

    /// Returns the estimate to reserve: the input tokens, and for each answer its maximum.
    ///
    /// A request without a maximum gets [`Estimate::DEFAULT_OUTPUT_TOKENS`] for each answer; OpenAI's completions have 16
    /// by default. Embeddings and rerank have no output.
    pub fn estimate(&self) -> Estimate {
        let each = match self.max_output_tokens {
            _ if !self.api.has_output() => 0,
            Some(tokens) => tokens,
            None if self.api == Api::OpenAiCompletions && !self.places.has_maximum() => {
                COMPLETIONS_DEFAULT
            }
            None => Estimate::DEFAULT_OUTPUT_TOKENS,
        };
        let input = self.input_tokens.min(MAX_COUNT);
        // A charge has at most `MAX_COUNT` tokens.
        let output = each.saturating_mul(self.answers).min(MAX_COUNT - input);
        Estimate::for_input_tokens(input).max_output_tokens(output)
    }

    /// Returns the body with these changes, and all other bytes unchanged. None if nothing changes.
    ///
    /// `body` must be the body that was read; a body of another length is not changed.
    #[must_use]
    pub fn rewritten(&self, body: &[u8], changes: &RequestChanges) -> Option<Vec<u8>> {
        rewrite::rewritten(self, body, changes, None)
    }

    /// Rewrites the body likewise, and with another model, for an API that has the model in the body.
    ///
    /// ```
    /// use limiter::stream::{Api, ApiRequest, RequestChanges};
    ///
    /// let body = br#"{"model": "fast", "messages": []}"#;
    /// let request = ApiRequest::read(Api::OpenAiChat, body)?;
    /// let sent = request.rewritten_for_model(body, &RequestChanges::default(), "gpt-5-mini");
    /// assert_eq!(sent.as_deref(), Some(&br#"{"model": "gpt-5-mini", "messages": []}"#[..]));
    /// # Ok::<(), limiter::stream::RequestError>(())
    /// ```
    #[must_use]
    pub fn rewritten_for_model(
        &self,
        body: &[u8],
        changes: &RequestChanges,
        model: &str,
    ) -> Option<Vec<u8>> {
        rewrite::rewritten(self, body, changes, Some(model))
    }
}

/// <https://platform.openai.com/docs/api-reference/completions/create#completions-create-max_tokens>. vLLM has the same.
const COMPLETIONS_DEFAULT: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_replaces_that_of_the_request_or_is_added() {
        let asks = RequestChanges { ask_for_usage: true, ..RequestChanges::default() };
        for (body, sent) in [
            (r#"{"model" : "a", "n": 1.0}"#, r#"{"model" : "a\"b", "n": 1.0}"#),
            (r#"{"model":null}"#, r#"{"model":"a\"b"}"#),
            (r#"{}"#, r#"{"model":"a\"b"}"#),
            (
                r#"{ "stream":true,"model":"a"}"#,
                r#"{"stream_options":{"include_usage":true}, "stream":true,"model":"a\"b"}"#,
            ),
        ] {
            let request = ApiRequest::read(Api::OpenAiChat, body.as_bytes()).unwrap();
            let made = request.rewritten_for_model(body.as_bytes(), &asks, "a\"b");
            assert_eq!(made.as_deref().map(str::from_utf8), Some(Ok(sent)), "{body}");
        }
    }
}
