//! Changes to the body of a request. All other bytes stay unchanged.

use super::api::Api;
use super::request::{ApiRequest, RequestChanges};

/// The places of the values in a body that may be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    body_bytes: usize,
    pub(super) model: Option<Place>,
    maxima: Vec<Maximum>,
    /// The object that has the maximum, if it is not the request itself.
    pub(super) generation: Option<Place>,
    pub(super) stream_options: Option<Place>,
    pub(super) include_usage: Option<Place>,
}

/// The byte range of a value in a body; `end` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Maximum {
    place: Place,
    /// None if it is no maximum.
    tokens: Option<u64>,
    is_null: bool,
}

impl Places {
    pub(super) fn of(body: &[u8]) -> Self {
        Self { body_bytes: body.len(), ..Self::default() }
    }

    pub(super) fn add_maximum(&mut self, place: Place, tokens: Option<u64>, is_null: bool) {
        self.maxima.push(Maximum { place, tokens, is_null });
    }

    pub(super) const fn has_maximum(&self) -> bool {
        !self.maxima.is_empty()
    }

    pub(super) fn max_output_tokens(&self) -> Option<u64> {
        self.maxima.iter().filter_map(|maximum| maximum.tokens).max()
    }
}

/// Returns the body of a request with these changes. None if nothing changes.
pub(super) fn rewritten(
    request: &ApiRequest,
    body: &[u8],
    wanted: &RequestChanges,
    model: Option<&str>,
) -> Option<Vec<u8>> {
    let ApiRequest { api, places, .. } = request;
    let text = str::from_utf8(body).ok().filter(|_| body.len() == places.body_bytes)?;
    let mut changes = Changes { text, changes: Vec::new(), members: Vec::new() };
    if wanted.ask_for_usage
        && request.streams
        && !request.asks_for_usage
        && api.reports_usage_if_asked()
    {
        changes.ask_for_usage(places);
    }
    if let Some(tokens) = wanted.max_output_tokens {
        changes.bound(*api, places, tokens.max(1));
    }
    if let Some(model) = model {
        changes.name(places, model);
    }
    changes.made()
}

struct Changes<'b> {
    text: &'b str,
    /// The new texts of places.
    changes: Vec<(Place, String)>,
    /// New members of the request.
    members: Vec<String>,
}

impl Changes<'_> {
    fn ask_for_usage(&mut self, places: &Places) {
        match (places.stream_options, places.include_usage) {
            (None, _) => self.members.push(r#""stream_options":{"include_usage":true}"#.into()),
            (Some(options), _) if !self.is_object(options) => {
                self.replace(options, r#"{"include_usage":true}"#.into());
            }
            (Some(_), Some(value)) => self.replace(value, "true".into()),
            (Some(options), None) => self.insert(options.start, r#""include_usage":true"#),
        }
    }

    fn name(&mut self, places: &Places, model: &str) {
        let model = serde_json::Value::from(model).to_string();
        match places.model {
            Some(place) => self.replace(place, model),
            None => self.members.push(format!("\"model\":{model}")),
        }
    }

    fn bound(&mut self, api: Api, places: &Places, most: u64) {
        let Some(name) = own_maximum(api) else { return };
        let mut is_bounded = false;
        for maximum in places.maxima.iter().filter(|maximum| !maximum.is_null) {
            is_bounded = true;
            if maximum.tokens.is_none_or(|tokens| tokens > most) {
                self.replace(maximum.place, most.to_string());
            }
        }
        if is_bounded {
            return;
        }
        let member = format!("\"{name}\":{most}");
        match (places.maxima.first(), places.generation) {
            (Some(null), _) => self.replace(null.place, most.to_string()),
            (None, Some(generation)) if self.is_object(generation) => {
                self.insert(generation.start, &member);
            }
            (None, Some(generation)) => self.replace(generation, format!("{{{member}}}")),
            (None, None) if api == Api::Gemini => {
                self.members.push(format!("\"generationConfig\":{{{member}}}"));
            }
            (None, None) => self.members.push(member),
        }
    }

    fn is_object(&self, place: Place) -> bool {
        self.text.get(place.start..).is_some_and(|value| value.starts_with('{'))
    }

    fn replace(&mut self, place: Place, text: String) {
        self.changes.push((place, text));
    }

    /// Inserts members into the object that starts here.
    fn insert(&mut self, start: usize, members: &str) {
        let inside = self.text.get(start + 1..).unwrap_or_default();
        let comma = if inside.trim_ascii_start().starts_with('}') { "" } else { "," };
        self.replace(Place { start: start + 1, end: start + 1 }, format!("{members}{comma}"));
    }

    fn made(mut self) -> Option<Vec<u8>> {
        if !self.members.is_empty() {
            let start = self.text.find('{')?;
            let members = self.members.join(",");
            self.insert(start, &members);
        }
        if self.changes.is_empty() {
            return None;
        }
        self.changes.sort_unstable_by_key(|(place, _)| place.start);
        let added: usize = self.changes.iter().map(|(_, text)| text.len()).sum();
        let mut made = String::with_capacity(self.text.len() + added);
        let mut from = 0;
        for (place, text) in &self.changes {
            made.push_str(self.text.get(from..place.start)?);
            made.push_str(text);
            from = place.end;
        }
        made.push_str(self.text.get(from..)?);
        Some(made.into_bytes())
    }
}

/// Returns the name of the maximum in this API.
const fn own_maximum(api: Api) -> Option<&'static str> {
    Some(match api {
        Api::OpenAiChat => "max_completion_tokens",
        Api::OpenAiCompletions | Api::AnthropicMessages => "max_tokens",
        Api::OpenAiResponses => "max_output_tokens",
        Api::Gemini => "maxOutputTokens",
        Api::OpenAiEmbeddings | Api::Rerank | Api::GeminiEmbeddings => return None,
    })
}
