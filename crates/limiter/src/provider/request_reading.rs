//! The pass over the body of a request.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::api::Api;
use super::media::{self, Kind, Size};
use super::request::RequestError;
use super::request_meaning::RequestMeaning;
use super::rewrite::{Place, Places};
use super::scalar::{MOST_TOKENS, count, text, text_bytes};
use super::walk::{Look, Receive, walk};

/// The result of reading a request.
pub(super) struct Read {
    pub(super) model: Option<String>,
    pub(super) streams: bool,
    pub(super) asks_for_usage: bool,
    pub(super) answers: u64,
    pub(super) input_tokens: u64,
    pub(super) places: Places,
}

/// A receiver of the values of a request.
pub(super) struct Reading<'a> {
    api: Api,
    /// The address of the body, to compute the place of a value in it.
    start: usize,
    tokenizer: Option<&'a dyn Fn(&str) -> u64>,
    prompt: Count,
    query: Count,
    documents: u64,
    prompts: u64,
    answers: u64,
    model: Option<String>,
    streams: bool,
    asks_for_usage: bool,
    places: Places,
    /// The kind of the current part, once its type was read.
    part: Option<Kind>,
    /// One bit for each member of [`DECIDING`] that was read.
    seen: u32,
    error: Option<RequestError>,
    /// A buffer for texts with escapes.
    buffer: String,
}

/// Tokens that were counted, and bytes of text that are not converted to tokens yet.
#[derive(Clone, Copy, Default)]
struct Count {
    tokens: u64,
    bytes: u64,
}

impl Count {
    const fn total(self) -> u64 {
        self.tokens.saturating_add(self.bytes.div_ceil(BYTES_OF_A_TOKEN))
    }

    const fn times(self, factor: u64) -> Self {
        Self {
            tokens: self.tokens.saturating_mul(factor),
            bytes: self.bytes.saturating_mul(factor),
        }
    }

    const fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl<'a> Reading<'a> {
    pub(super) fn new(api: Api, body: &[u8], tokenizer: Option<&'a dyn Fn(&str) -> u64>) -> Self {
        Self {
            api,
            start: body.as_ptr().addr(),
            tokenizer,
            prompt: Count::default(),
            query: Count::default(),
            documents: 0,
            prompts: 0,
            answers: 1,
            model: None,
            streams: false,
            asks_for_usage: false,
            places: Places::of(body),
            part: None,
            seen: 0,
            error: None,
            buffer: String::new(),
        }
    }

    pub(super) const fn api(&self) -> Api {
        self.api
    }

    pub(super) fn read(mut self, body: &[u8]) -> Result<Read, RequestError> {
        // The walk does not look into all strings.
        str::from_utf8(body).map_err(|_| RequestError::NotJson)?;
        walk(body, &mut self).map_err(|_| RequestError::NotJson)?;
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(RequestError::NotAnObject);
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut prompt = self.prompt.and(self.query.times(self.documents.max(1)));
        if prompt.tokens > 0 && self.is_chat() {
            prompt.tokens = prompt.tokens.saturating_add(ANSWER_TOKENS);
        }
        Ok(Read {
            model: self.model,
            streams: self.streams,
            asks_for_usage: self.asks_for_usage,
            answers: self.answers.saturating_mul(self.prompts.max(1)),
            input_tokens: prompt.total(),
            places: self.places,
        })
    }

    const fn is_chat(&self) -> bool {
        matches!(
            self.api,
            Api::OpenAiChat | Api::OpenAiResponses | Api::AnthropicMessages | Api::Gemini
        )
    }

    fn decides(&mut self, path: &[&str]) {
        let Some(index) = DECIDING.iter().position(|name| Some(name) == path.last()) else {
            return;
        };
        if self.seen & (1 << index) != 0 {
            self.error = self.error.or(Some(RequestError::Repeated { name: DECIDING[index] }));
        }
        self.seen |= 1 << index;
    }

    fn place(&self, raw: &str) -> Place {
        let start = raw.as_ptr().addr() - self.start;
        Place { start, end: start + raw.len() }
    }

    fn model(&mut self, raw: &str) {
        if raw == "null" {
            return;
        }
        match text(raw, &mut self.buffer) {
            Some(model) if (1..=MOST_MODEL_BYTES).contains(&model.len()) => {
                self.model = Some(model.to_owned());
            }
            _ => self.error = self.error.or(Some(RequestError::Model)),
        }
    }

    /// Returns the size of a text of the prompt.
    fn text(&mut self, raw: &str) -> Count {
        if raw.starts_with("\"data:")
            && let Some(size) =
                text(raw, &mut self.buffer).and_then(|text| media::of_data_url(self.api, text))
        {
            return size.into();
        }
        match self.tokenizer {
            Some(tokenizer) => {
                let tokens = text(raw, &mut self.buffer).map_or(0, tokenizer);
                Count { tokens, bytes: 0 }
            }
            None => Count { tokens: 0, bytes: text_bytes(raw).unwrap_or_default() as u64 },
        }
    }

    fn json(&self, raw: &str) -> Count {
        match (raw, self.tokenizer) {
            ("null" | "{}" | "[]", _) => Count::default(),
            (_, Some(tokenizer)) => Count { tokens: tokenizer(raw), bytes: 0 },
            (_, None) => Count { tokens: 0, bytes: raw.len() as u64 },
        }
    }

    fn prompts(&mut self, raw: &str) {
        if raw.starts_with('[') {
            // It was read once already, so that this cannot fail.
            let _ = serde_json::Deserializer::from_str(raw).deserialize_seq(Prompts(self));
        } else {
            self.prompts += 1;
            self.prompt = self.prompt.and(self.text(raw));
        }
    }

    fn adds(&mut self, count: Count) {
        self.prompt = self.prompt.and(count);
    }
}

impl<'de> Receive<'de> for Reading<'_> {
    fn look(&mut self, path: &[&str]) -> Look {
        match self.api.request(path) {
            RequestMeaning::Skip => {
                if let [name] = path
                    && let Some(name) = self.in_other_letter_case(name)
                {
                    self.error = self.error.or(Some(RequestError::LetterCase { name }));
                }
                Look::Skip
            }
            RequestMeaning::Enter => Look::Enter,
            RequestMeaning::StreamOptions | RequestMeaning::Generation => Look::Both,
            RequestMeaning::Text
            | RequestMeaning::TextOrTokens
            | RequestMeaning::Query
            | RequestMeaning::Document => Look::Leaf,
            RequestMeaning::Model
            | RequestMeaning::Stream
            | RequestMeaning::IncludeUsage
            | RequestMeaning::Maximum
            | RequestMeaning::Answers
            | RequestMeaning::Prompts
            | RequestMeaning::Json
            | RequestMeaning::PartType
            | RequestMeaning::Media(_)
            | RequestMeaning::MediaOfPart => Look::Raw,
        }
    }

    fn value(&mut self, path: &[&str], raw: &'de str) {
        let meaning = self.api.request(path);
        match meaning {
            RequestMeaning::Skip | RequestMeaning::Enter => {}
            RequestMeaning::Model => {
                self.decides(path);
                self.places.model = Some(self.place(raw));
                self.model(raw);
            }
            RequestMeaning::Stream => {
                self.decides(path);
                self.streams = raw == "true";
            }
            RequestMeaning::StreamOptions => {
                self.decides(path);
                self.places.stream_options = Some(self.place(raw));
            }
            RequestMeaning::IncludeUsage => {
                self.decides(path);
                self.asks_for_usage = raw == "true";
                self.places.include_usage = Some(self.place(raw));
            }
            RequestMeaning::Maximum => {
                self.decides(path);
                let place = self.place(raw);
                self.places.add_maximum(place, maximum(raw), raw == "null");
            }
            RequestMeaning::Generation => {
                self.decides(path);
                self.places.generation = Some(self.place(raw));
            }
            RequestMeaning::Answers => {
                self.decides(path);
                self.answers = self.answers.max(maximum(raw).unwrap_or(1));
            }
            RequestMeaning::Prompts => self.prompts(raw),
            RequestMeaning::Text => {
                let count = self.text(raw);
                self.adds(count);
            }
            RequestMeaning::TextOrTokens => {
                let count = self.text_or_token(raw);
                self.adds(count);
            }
            RequestMeaning::Json => self.adds(self.json(raw)),
            RequestMeaning::Query => {
                let count = self.text(raw);
                self.query = self.query.and(count);
            }
            RequestMeaning::Document => {
                if matches!(path, [_]) {
                    self.documents += 1;
                }
                let count = self.text(raw);
                self.adds(count);
            }
            RequestMeaning::PartType => self.part = part(raw),
            RequestMeaning::Media(_) | RequestMeaning::MediaOfPart => {
                let kind = match meaning {
                    RequestMeaning::Media(kind) => kind,
                    _ => self.part.unwrap_or(Kind::File),
                };
                let size = media::size(self.api, kind, raw, &mut self.buffer);
                self.adds(size.into());
            }
        }
    }

    fn close(&mut self, path: &[&str]) {
        self.part = None;
        match path {
            ["messages" | "contents"] => self.prompt.tokens += MESSAGE_TOKENS,
            ["input"] if self.api == Api::OpenAiResponses => self.prompt.tokens += MESSAGE_TOKENS,
            ["documents"] => self.documents += 1,
            _ => {}
        }
    }
}

impl Reading<'_> {
    fn text_or_token(&mut self, raw: &str) -> Count {
        if raw.starts_with(|first: char| first.is_ascii_digit()) {
            return Count { tokens: 1, bytes: 0 };
        }
        self.text(raw)
    }

    /// Returns the member of this API that determines the cost and has this name except for letter case. Go's parser
    /// treats the two names as the same.
    fn in_other_letter_case(&self, name: &str) -> Option<&'static str> {
        let lower = |name: &str| {
            name.chars()
                .flat_map(char::to_uppercase)
                .flat_map(char::to_lowercase)
                .collect::<String>()
        };
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9'))
        {
            return None;
        }
        DECIDING.into_iter().find(|deciding| {
            name.len() <= 2 * deciding.len()
                && self.api.request(&[deciding]) != RequestMeaning::Skip
                && lower(name) == lower(deciding)
        })
    }
}

/// A visitor of an array of prompts: texts, or arrays of token ids, each with its own answers. Token ids directly in
/// the array are one prompt.
struct Prompts<'r, 'a>(&'r mut Reading<'a>);

impl<'de> Visitor<'de> for Prompts<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of prompts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        let mut has_tokens = false;
        while let Some(element) = elements.next_element::<&RawValue>()? {
            let raw = element.get();
            if raw.starts_with('[') {
                reading.prompts += 1;
                let tokens = raw.bytes().filter(|byte| *byte == b',').count() as u64 + 1;
                reading.adds(Count { tokens, bytes: 0 });
                continue;
            }
            let is_text = raw.starts_with('"');
            reading.prompts += u64::from(is_text);
            has_tokens |= !is_text;
            let count = reading.text_or_token(raw);
            reading.adds(count);
        }
        reading.prompts += u64::from(has_tokens);
        Ok(())
    }
}

impl From<Size> for Count {
    fn from(size: Size) -> Self {
        match size {
            Size::Tokens(tokens) => Self { tokens, bytes: 0 },
            Size::TextBytes(bytes) => Self { tokens: 0, bytes },
        }
    }
}

/// Reads a number of tokens or answers as servers do, even with a fraction or as a string. At most [`MOST_TOKENS`].
/// None if it is 0 or negative, since no server treats that as a bound.
fn maximum(raw: &str) -> Option<u64> {
    let number = raw.trim_matches('"');
    if let Some(count) = count(number) {
        return (count > 0).then_some(count);
    }
    let number = number.parse::<f64>().ok().filter(|number| *number > 0.0)?;
    // A fraction is rounded up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded")]
    Some(number.ceil().min(MOST_TOKENS as f64) as u64)
}

/// Returns the kind of a part, by its type.
fn part(raw: &str) -> Option<Kind> {
    if raw.contains("image") {
        return Some(Kind::Picture);
    }
    (raw.contains("file") || raw.contains("document")).then_some(Kind::File)
}

/// The members that determine the cost of a call, of all APIs.
const DECIDING: [&str; 18] = [
    "model",
    "stream",
    "stream_options",
    "include_usage",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "n_predict",
    "generationConfig",
    "generation_config",
    "maxOutputTokens",
    "candidateCount",
    "candidate_count",
    "prompt",
    "messages",
];

/// The rule of thumb for English text that OpenAI and others state.
const BYTES_OF_A_TOKEN: u64 = 4;

/// Three around each message, and one for its role.
/// <https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>
const MESSAGE_TOKENS: u64 = 4;

/// The tokens at the start of the answer. Same source.
const ANSWER_TOKENS: u64 = 3;

/// An asset id has at most this many bytes.
const MOST_MODEL_BYTES: usize = 256;
