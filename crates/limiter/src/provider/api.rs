//! The known APIs, by name and by path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::meaning::Meaning;
use super::{
    anthropic, gemini, openai_chat, openai_completions, openai_embeddings, openai_responses, rerank,
};

/// An API of an LLM provider: how its requests and answers name model, limits, text and tokens.
///
/// ```
/// use limiter::stream::Api;
///
/// assert_eq!(Api::of_path("/v1/chat/completions"), Some(Api::OpenAiChat));
/// assert_eq!(Api::of_path("/v1beta/models/gemini-3-pro:streamGenerateContent"), Some(Api::Gemini));
/// assert_eq!(Api::of_path("/v1/models"), None);
/// assert_eq!("anthropic-messages".parse(), Ok(Api::AnthropicMessages));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Api {
    /// OpenAI's chat completions (`/chat/completions`), which many providers offer.
    #[serde(rename = "openai-chat")]
    OpenAiChat,
    /// OpenAI's completions (`/completions`), the older API.
    #[serde(rename = "openai-completions")]
    OpenAiCompletions,
    /// OpenAI's responses (`/responses`).
    #[serde(rename = "openai-responses")]
    OpenAiResponses,
    /// OpenAI's embeddings (`/embeddings`), which many providers offer.
    #[serde(rename = "openai-embeddings")]
    OpenAiEmbeddings,
    /// Rerank (`/rerank`), as Cohere, Jina, Voyage and vLLM offer it.
    Rerank,
    /// Anthropic's messages (`/messages`).
    AnthropicMessages,
    /// Gemini's `generateContent` and `streamGenerateContent`, in server-sent events or as an array.
    Gemini,
    /// Gemini's `embedContent` and `batchEmbedContents`.
    GeminiEmbeddings,
}

/// A name of no [`Api`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown API {name:?}: the known ones are {}", Api::NAMES.join(", "))]
pub struct UnknownApi {
    name: String,
}

impl Api {
    /// All APIs.
    pub const ALL: [Self; 8] = [
        Self::OpenAiChat,
        Self::OpenAiCompletions,
        Self::OpenAiResponses,
        Self::OpenAiEmbeddings,
        Self::Rerank,
        Self::AnthropicMessages,
        Self::Gemini,
        Self::GeminiEmbeddings,
    ];

    /// In the order of [`Self::ALL`] and of the variants.
    const NAMES: [&'static str; 8] = [
        "openai-chat",
        "openai-completions",
        "openai-responses",
        "openai-embeddings",
        "rerank",
        "anthropic-messages",
        "gemini",
        "gemini-embeddings",
    ];

    /// Returns the API of a path, by its last segments, since the prefix differs by provider. A trailing `/` and a
    /// query are ignored.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let path = path.strip_suffix('/').unwrap_or(path);
        let last = path.rsplit('/').next().unwrap_or_default();
        Some(match last.rsplit_once(':').map_or(last, |(_, method)| method) {
            "completions" if path.ends_with("/chat/completions") => Self::OpenAiChat,
            "completions" => Self::OpenAiCompletions,
            "responses" => Self::OpenAiResponses,
            "embeddings" => Self::OpenAiEmbeddings,
            "rerank" => Self::Rerank,
            "messages" => Self::AnthropicMessages,
            "generateContent" | "streamGenerateContent" => Self::Gemini,
            "rawPredict" | "streamRawPredict" if path.contains("/publishers/anthropic/") => {
                Self::AnthropicMessages
            }
            "embedContent" | "batchEmbedContents" => Self::GeminiEmbeddings,
            _ => return None,
        })
    }

    /// Returns the name, as in configuration files and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Returns whether answers have output tokens. Those of embeddings and rerank have none.
    #[must_use]
    pub const fn has_output(self) -> bool {
        !matches!(self, Self::OpenAiEmbeddings | Self::Rerank | Self::GeminiEmbeddings)
    }

    /// Returns whether streams report their usage only if the request asks for it.
    #[must_use]
    pub const fn reports_usage_if_asked(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::OpenAiCompletions)
    }

    /// Returns the meaning of a value of an answer in this API.
    fn answer_of(self, path: &[&str]) -> Option<Meaning> {
        match self {
            Self::OpenAiChat => openai_chat::answer(path),
            Self::OpenAiCompletions => openai_completions::answer(path),
            Self::OpenAiResponses => openai_responses::answer(path),
            // They have usage alone.
            Self::OpenAiEmbeddings => None,
            Self::Rerank => rerank::answer(path),
            Self::AnthropicMessages => anthropic::answer(path),
            Self::Gemini | Self::GeminiEmbeddings => gemini::answer(path),
        }
    }

    /// Returns the meaning of a value of an answer: in this API, or else in any other, since gateways fall back from
    /// one provider to another. No two APIs give one path two meanings, and all have the same for usage and errors.
    pub(super) fn answer(chosen: Option<Self>, path: &[&str]) -> Meaning {
        match path {
            ["usage"] => return Meaning::Usage,
            ["error"] => return Meaning::Error,
            _ => {}
        }
        let own = chosen.and_then(|api| api.answer_of(path));
        let any = || Self::ALL.into_iter().find_map(|api| api.answer_of(path));
        own.or_else(any).unwrap_or(Meaning::Skip)
    }

    /// Returns the meaning of a value of a request in this API.
    pub(super) fn request(self, path: &[&str]) -> Meaning {
        let known = match self {
            Self::OpenAiChat => openai_chat::request(path),
            Self::OpenAiCompletions => openai_completions::request(path),
            Self::OpenAiResponses => openai_responses::request(path),
            Self::OpenAiEmbeddings => openai_embeddings::request(path),
            Self::Rerank => rerank::request(path),
            Self::AnthropicMessages => anthropic::request(path),
            Self::Gemini | Self::GeminiEmbeddings => gemini::request(path),
        };
        known.unwrap_or(Meaning::Skip)
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Api {
    type Err = UnknownApi;

    fn from_str(name: &str) -> Result<Self, UnknownApi> {
        let found = Self::ALL.into_iter().find(|api| api.name() == name);
        // A longer name is cut.
        found.ok_or_else(|| UnknownApi { name: name.chars().take(64).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_found_by_the_end_of_its_path() {
        for (path, api) in [
            ("/v1/chat/completions", Some(Api::OpenAiChat)),
            ("/openai/deployments/gpt-5/chat/completions?api-version=1", Some(Api::OpenAiChat)),
            ("/v1/chat/completions/", Some(Api::OpenAiChat)),
            ("/v1/completions", Some(Api::OpenAiCompletions)),
            ("/v1/responses", Some(Api::OpenAiResponses)),
            ("/v1/responses/resp_1", None),
            ("/v1/embeddings", Some(Api::OpenAiEmbeddings)),
            ("/v2/rerank", Some(Api::Rerank)),
            ("/v1/messages", Some(Api::AnthropicMessages)),
            ("/v1/messages/count_tokens", None),
            ("/v1/messages/batches", None),
            ("/v1beta/models/gemini-3-pro:generateContent", Some(Api::Gemini)),
            ("/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse", Some(Api::Gemini)),
            ("/v1beta/models/gemini-embedding-001:embedContent", Some(Api::GeminiEmbeddings)),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-4-6:streamRawPredict",
                Some(Api::AnthropicMessages),
            ),
            ("/v1/projects/p/locations/l/publishers/mistralai/models/mistral:rawPredict", None),
            ("/v1/models", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(Api::of_path(path), api, "{path}");
        }
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for (api, name) in Api::ALL.into_iter().zip(Api::NAMES) {
            assert_eq!(api.to_string(), name);
            assert_eq!(name.parse(), Ok(api));
            assert_eq!(serde_json::to_value(api).unwrap(), name);
            assert_eq!(serde_json::from_value::<Api>(name.into()).unwrap(), api);
        }
        let unknown = "openai".parse::<Api>().unwrap_err().to_string();
        assert!(
            unknown.starts_with("unknown API \"openai\": the known ones are openai-chat, "),
            "{unknown}"
        );
    }
}
