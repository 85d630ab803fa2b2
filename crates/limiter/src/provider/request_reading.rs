//! The pass over the body of a request.

use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::api::Api;
use super::meaning::Meaning;
use super::media::{self, Kind, Size};
use super::request::{ApiRequest, RequestError};
use super::rewrite::{Place, Places};
use super::scalar::{MOST_TOKENS, count, text, text_bytes};
use super::walk::{Look, Receive, walk};

/// Reads the body of a request in one pass, and counts text by the tokenizer, or else by its bytes.
pub(super) fn read(
    api: Api,
    body: &[u8],
    tokenizer: Option<&dyn Fn(&str) -> u64>,
) -> Result<ApiRequest, RequestError> {
    // The walk does not look into all strings.
    str::from_utf8(body).map_err(|_| RequestError::NotJson)?;
    let mut reading = Reading {
        request: ApiRequest::new(api, Places::of(body)),
        start: body.as_ptr().addr(),
        tokenizer,
        prompt: Size::default(),
        query: Size::default(),
        documents: 0,
        prompts: 0,
        part: None,
        seen: 0,
        error: None,
        buffer: String::new(),
    };
    walk(body, &mut reading).map_err(|_| RequestError::NotJson)?;
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(RequestError::NotAnObject);
    }
    if let Some(error) = reading.error {
        return Err(error);
    }
    let mut prompt = reading.prompt.and(reading.query.times(reading.documents.max(1)));
    if prompt.tokens > 0 && reading.is_chat() {
        prompt.tokens = prompt.tokens.saturating_add(ANSWER_TOKENS);
    }
    let mut request = reading.request;
    request.answers = request.answers.saturating_mul(reading.prompts.max(1));
    request.input_tokens = prompt.total();
    request.max_output_tokens = request.places.max_output_tokens();
    Ok(request)
}

/// A receiver of the values of a request.
struct Reading<'a> {
    request: ApiRequest,
    /// The address of the body, to compute the place of a value in it.
    start: usize,
    tokenizer: Option<&'a dyn Fn(&str) -> u64>,
    prompt: Size,
    query: Size,
    documents: u64,
    prompts: u64,
    /// The kind of the current part, once its type was read.
    part: Option<Kind>,
    /// One bit for each member of [`DECIDING`] that was read.
    seen: u32,
    error: Option<RequestError>,
    /// A buffer for texts with escapes.
    buffer: String,
}

impl Reading<'_> {
    const fn is_chat(&self) -> bool {
        matches!(
            self.request.api,
            Api::OpenAiChat | Api::OpenAiResponses | Api::AnthropicMessages | Api::Gemini
        )
    }

    fn decides(&mut self, path: &[&str]) {
        let Some(index) = DECIDING.iter().position(|name| Some(name) == path.last()) else {
            return;
        };
        if self.seen & (1 << index) != 0 {
            self.refuse(RequestError::Repeated { name: DECIDING[index] });
        }
        self.seen |= 1 << index;
    }

    /// Notes the first error.
    fn refuse(&mut self, error: RequestError) {
        self.error.get_or_insert(error);
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
                self.request.model = Some(model.to_owned());
            }
            _ => self.refuse(RequestError::Model),
        }
    }

    /// Returns the size of a text of the prompt.
    fn text(&mut self, raw: &str) -> Size {
        if raw.starts_with("\"data:")
            && let Some(size) = text(raw, &mut self.buffer)
                .and_then(|text| media::of_data_url(self.request.api, text))
        {
            return size;
        }
        match self.tokenizer {
            Some(tokenizer) => Size::tokens(text(raw, &mut self.buffer).map_or(0, tokenizer)),
            None => Size::text_bytes(text_bytes(raw).unwrap_or_default() as u64),
        }
    }

    fn json(&self, raw: &str) -> Size {
        match (raw, self.tokenizer) {
            ("null" | "{}" | "[]", _) => Size::default(),
            (_, Some(tokenizer)) => Size::tokens(tokenizer(raw)),
            (_, None) => Size::text_bytes(raw.len() as u64),
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

    fn adds(&mut self, size: Size) {
        self.prompt = self.prompt.and(size);
    }
}

impl<'de> Receive<'de> for Reading<'_> {
    fn look(&mut self, path: &[&str]) -> Look {
        let meaning = self.request.api.request(path);
        if meaning == Meaning::Skip
            && let [name] = path
            && let Some(name) = self.in_other_letter_case(name)
        {
            self.refuse(RequestError::LetterCase { name });
        }
        meaning.look()
    }

    fn value(&mut self, path: &[&str], raw: &'de str) {
        let meaning = self.request.api.request(path);
        let place = self.place(raw);
        let ApiRequest { places, .. } = &mut self.request;
        match meaning {
            Meaning::Model => places.model = Some(place),
            Meaning::Stream => self.request.streams = raw == "true",
            Meaning::StreamOptions => places.stream_options = Some(place),
            Meaning::IncludeUsage => {
                places.include_usage = Some(place);
                self.request.asks_for_usage = raw == "true";
            }
            Meaning::Maximum => places.add_maximum(place, maximum(raw), raw == "null"),
            Meaning::Generation => places.generation = Some(place),
            Meaning::Answers => {
                self.request.answers = self.request.answers.max(maximum(raw).unwrap_or(1));
            }
            _ => return self.prompt_value(path, meaning, raw),
        }
        self.decides(path);
        if meaning == Meaning::Model {
            self.model(raw);
        }
    }

    fn close(&mut self, path: &[&str]) {
        self.part = None;
        match path {
            ["messages" | "contents"] => self.prompt.tokens += MESSAGE_TOKENS,
            ["input"] if self.request.api == Api::OpenAiResponses => {
                self.prompt.tokens += MESSAGE_TOKENS
            }
            ["documents"] => self.documents += 1,
            _ => {}
        }
    }
}

impl Reading<'_> {
    /// Counts a value of the prompt.
    fn prompt_value(&mut self, path: &[&str], meaning: Meaning, raw: &str) {
        let size = match meaning {
            Meaning::Text => self.text(raw),
            Meaning::TextOrTokens => self.text_or_token(raw),
            Meaning::Json => self.json(raw),
            Meaning::Query => {
                let size = self.text(raw);
                self.query = self.query.and(size);
                return;
            }
            Meaning::Document => {
                self.documents += u64::from(path.len() == 1);
                self.text(raw)
            }
            Meaning::Media(kind) => self.media(kind, raw),
            Meaning::MediaOfPart => self.media(self.part.unwrap_or(Kind::File), raw),
            Meaning::PartType => return self.part = part(raw),
            Meaning::Prompts => return self.prompts(raw),
            _ => return,
        };
        self.adds(size);
    }

    fn media(&mut self, kind: Kind, raw: &str) -> Size {
        media::size(self.request.api, kind, raw, &mut self.buffer)
    }

    fn text_or_token(&mut self, raw: &str) -> Size {
        if raw.starts_with(|first: char| first.is_ascii_digit()) {
            return Size::tokens(1);
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
                && self.request.api.request(&[deciding]) != Meaning::Skip
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
                reading.adds(Size::tokens(tokens));
                continue;
            }
            let is_text = raw.starts_with('"');
            reading.prompts += u64::from(is_text);
            has_tokens |= !is_text;
            let size = reading.text_or_token(raw);
            reading.adds(size);
        }
        reading.prompts += u64::from(has_tokens);
        Ok(())
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

/// Three around each message, and one for its role.
/// <https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>
const MESSAGE_TOKENS: u64 = 4;

/// The tokens at the start of the answer. Same source.
const ANSWER_TOKENS: u64 = 3;

/// An asset id has at most this many bytes.
const MOST_MODEL_BYTES: usize = 256;
