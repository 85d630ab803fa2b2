//! The URL that a model's calls are forwarded to, and its API.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use limiter::stream::Api;

use crate::models::Model;

/// An API of a model's provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) uri: Uri,
    /// `None` if neither the configuration nor the path names the API.
    pub(crate) api: Option<Api>,
    /// The API of the configured URL, which decides how credentials are sent.
    pub(crate) configured: Option<Api>,
}

impl Upstream {
    /// Returns the configured upstream of a model, if it has one.
    pub(crate) fn of(model: &Model) -> Option<Self> {
        let uri = model.upstream.clone()?;
        let api = model.upstream_api.or_else(|| Api::of_path(uri.path()));
        Some(Self { uri, api, configured: api })
    }

    /// Returns the upstream of this API: the configured one if it has this API, or else the one with the end of its
    /// path replaced, such as `/v1/responses` for `/v1/chat/completions`. `None` if the URL of this API is unknown.
    pub(crate) fn offering(self, api: Api) -> Option<Self> {
        if self.api == Some(api) {
            return Some(self);
        }
        let (own, other) = (end(self.api?)?, end(api)?);
        let path = self.uri.path();
        let base = path.strip_suffix('/').unwrap_or(path).strip_suffix(own)?;
        let query = self.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(format!("{base}{other}{query}")).ok()?);
        Some(Self { uri: Uri::from_parts(parts).ok()?, api: Some(api), ..self })
    }
}

/// Returns the end of an API's path. Gemini's path contains the model, so no other API replaces it.
const fn end(api: Api) -> Option<&'static str> {
    match api {
        Api::OpenAiChat => Some("/chat/completions"),
        Api::OpenAiCompletions => Some("/completions"),
        Api::OpenAiResponses => Some("/responses"),
        Api::OpenAiEmbeddings => Some("/embeddings"),
        Api::Rerank => Some("/rerank"),
        Api::AnthropicMessages => Some("/messages"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(toml: &str) -> Result<Option<Upstream>, toml::de::Error> {
        toml::from_str(&format!("id = 'a'\npath = 'b'\n{toml}")).map(|model| Upstream::of(&model))
    }

    #[test]
    fn the_api_is_that_of_the_path_unless_the_configuration_names_one() {
        for (toml, api) in [
            ("upstream = 'https://a.b/v1/chat/completions'", Some(Api::OpenAiChat)),
            ("upstream = 'https://a.b/v1/messages'", Some(Api::AnthropicMessages)),
            ("upstream = 'https://a.b/run'", None),
            ("upstream = 'https://a.b/run'\nupstream_api = 'openai-chat'", Some(Api::OpenAiChat)),
            ("upstream = 'https://a.b/v1/messages'\nupstream_api = 'gemini'", Some(Api::Gemini)),
        ] {
            assert_eq!(upstream(toml).unwrap().unwrap().api, api, "{toml}");
        }
        assert_eq!(upstream("").unwrap(), None);
    }

    #[test]
    fn a_url_that_cannot_be_called_is_refused() {
        for url in ["", "a.b/run", "/run", "ftp://a.b/run", "https://"] {
            let error = upstream(&format!("upstream = '{url}'")).unwrap_err();
            assert!(error.to_string().contains("must be an http://"), "{url}: {error}");
        }
    }

    #[test]
    fn a_sibling_has_another_end_of_the_path() {
        let chat = "upstream = 'https://a.b/x/v1/chat/completions?key=1'";
        for (toml, api, expected) in [
            (chat, Api::OpenAiChat, Some("https://a.b/x/v1/chat/completions?key=1")),
            (chat, Api::OpenAiResponses, Some("https://a.b/x/v1/responses?key=1")),
            (chat, Api::OpenAiEmbeddings, Some("https://a.b/x/v1/embeddings?key=1")),
            (chat, Api::AnthropicMessages, Some("https://a.b/x/v1/messages?key=1")),
            (chat, Api::Gemini, None),
            (
                "upstream = 'https://a.b/v1/completions/'",
                Api::Rerank,
                Some("https://a.b/v1/rerank"),
            ),
            ("upstream = 'https://a.b/run'", Api::OpenAiChat, None),
            (
                "upstream = 'https://a.b/run'\nupstream_api = 'openai-chat'",
                Api::OpenAiResponses,
                None,
            ),
            ("upstream = 'https://a.b/models/g:generateContent'", Api::OpenAiChat, None),
        ] {
            let found = upstream(toml).unwrap().unwrap().offering(api);
            let found = found.map(|found| found.uri.to_string());
            assert_eq!(found.as_deref(), expected, "{toml} {api}");
        }
    }
}
