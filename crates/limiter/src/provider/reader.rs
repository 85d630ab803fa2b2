//! The reader of an answer while it streams.

use std::fmt;
use std::sync::Arc;

use limiter_core::Charge;

use super::api::Api;
use super::figures::Figures;
use super::meaning::Meaning;
use super::part::{Part, Parts, REUSED_BYTES};
use super::reported::{Reported, TokenSource, answer_accounted};
use super::scalar::{has_content, text};
use super::sse::Events;
use super::tokens_of_text::tokens_of_text;
use super::values::Values;
use super::walk::{Look, Receive, walk};
use crate::stream::CountTokens;
use crate::token_usage::TokenUsage;

/// A reader of the tokens of one answer, whole or streamed, from pieces that are cut anywhere.
///
/// It reads server-sent events, a JSON body, and a JSON array that streams; the first byte distinguishes them. The
/// bytes must be plain: decompress them first.
///
/// - **The usage that the provider reports wins**, in any place: see [`Api`]. A figure is ignored if it is negative, not
///   whole or more than a billion. So are an input of 0, and an output of 0 after some output was seen.
/// - Otherwise, **the answer is counted**: text, reasoning, refusals and the arguments of tool calls, by
///   [`tokens_of_text`] or your [tokenizer](Self::counting_by). Text that a provider sends twice is counted once.
/// - If nothing can be counted, **the estimate stands**: for an answer without any text in a known form, and for an
///   answer with an event of more than 8 MiB. An answer that ends in the provider's error is charged only the tokens
///   that were seen, even none.
///
/// ```
/// use limiter::stream::{AnswerReader, Api};
/// use limiter::{Charge, TokenUsage};
///
/// let estimate = Charge::request().with_tokens(10, 500)?;
/// let mut answer = AnswerReader::new(Api::AnthropicMessages);
/// answer.read(b"data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"te");
/// answer.read(b"xt\":\"Hello\"}}\n\n");
/// assert_eq!(answer.usage(&estimate), TokenUsage::new(10, 1));
/// answer.read(b"data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":8,\"output_tokens\":3}}\n\n");
/// assert_eq!(answer.usage(&estimate), TokenUsage::new(8, 3));
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Debug)]
pub struct AnswerReader {
    framing: Framing,
    account: Account,
}

/// The format that divides the bytes into parts.
#[derive(Clone, Debug)]
enum Framing {
    /// Not known yet: so far only a byte order mark and white space came.
    Open,
    Events(Parts<Events>),
    Values(Parts<Values>),
}

/// The tokens of an answer so far.
#[derive(Clone, Default)]
struct Account {
    api: Option<Api>,
    reported: Reported,
    /// Tokens counted in all.
    counted: u64,
    /// Tokens counted after the provider's last report of its output.
    since: u64,
    /// Whether a part of the answer could not be read after the provider's last report of its output.
    unread: bool,
    /// Whether a choice came in deltas: a whole message repeats them.
    has_deltas: bool,
    /// Whether the provider reported an error.
    failed: bool,
    tokenizer: Option<Tokenizer>,
    /// A buffer for texts with escapes.
    buffer: String,
}

type Tokenizer = Arc<dyn Fn(&str) -> u64 + Send + Sync>;

impl AnswerReader {
    /// Creates a reader for one answer of this API. Values that this API does not define are read by the other APIs.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self::of(Some(api))
    }

    /// Creates a reader for one answer of an unknown API. Values are read by all known APIs.
    #[must_use]
    pub fn of_any_api() -> Self {
        Self::of(None)
    }

    fn of(api: Option<Api>) -> Self {
        Self { framing: Framing::Open, account: Account { api, ..Account::default() } }
    }

    /// Counts text by this function, for example a tokenizer, instead of [`tokens_of_text`]. It gets the text of one delta
    /// at a time.
    #[must_use]
    pub fn counting_by(self, tokenizer: impl Into<Arc<dyn Fn(&str) -> u64 + Send + Sync>>) -> Self {
        let account = Account { tokenizer: Some(tokenizer.into()), ..self.account };
        Self { account, ..self }
    }

    /// Reads the next bytes, and returns the number of output tokens that were counted in them.
    pub fn read(&mut self, bytes: &[u8]) -> u64 {
        let before = self.account.counted;
        let Self { framing, account } = self;
        let mut bytes = bytes;
        if matches!(framing, Framing::Open) {
            let opening = bytes.iter().take_while(|byte| OPENING.contains(byte)).count();
            bytes = bytes.get(opening..).unwrap_or_default();
            match bytes.first() {
                None => return 0,
                Some(b'{' | b'[') => *framing = Framing::Values(Parts::default()),
                Some(_) => *framing = Framing::Events(Parts::default()),
            }
        }
        match framing {
            Framing::Open => {}
            Framing::Events(events) => events.push(bytes, |part| account.event(part, false)),
            Framing::Values(values) => values.push(bytes, |part| account.value(part, false)),
        }
        account.counted - before
    }

    /// Reads the rest after the last bytes, and returns the number of output tokens that were counted in it.
    pub fn finish(&mut self) -> u64 {
        let before = self.account.counted;
        let Self { framing, account } = self;
        match framing {
            Framing::Open => {}
            Framing::Events(events) => events.end(|part| account.event(part, true)),
            Framing::Values(values) => values.end(|part| account.value(part, true)),
        }
        account.counted - before
    }

    /// Returns the figures that the provider has reported so far. The output includes the tokens that were counted
    /// after the report. It is absent if something after the report could not be counted.
    #[must_use]
    pub fn reported(&self) -> Reported {
        let Account { api, reported, since, unread, .. } = &self.account;
        let output = reported.output.filter(|_| !*unread);
        let output = output.map(|output| output.saturating_add(*since));
        let has_none = api.is_some_and(|api| !api.has_output());
        Reported { output: output.or_else(|| has_none.then_some(0)), ..*reported }
    }

    /// Returns the tokens to charge so far: reported, counted, or estimated.
    #[must_use]
    pub fn usage(&self, estimate: &Charge) -> TokenUsage {
        self.usage_and_source(estimate).0
    }

    /// Returns the tokens to charge so far, and the source of the output.
    #[must_use]
    pub fn usage_and_source(&self, estimate: &Charge) -> (TokenUsage, TokenSource) {
        self.reported().usage(self.account.counted, self.estimate_stands(), estimate)
    }

    /// Ends the answer, and returns the tokens to charge. Counts it in the metric `limiter_answers_total`, and warns if its
    /// estimate stands.
    #[must_use]
    pub fn close(mut self, estimate: &Charge) -> TokenUsage {
        self.finish();
        let (usage, source) = self.usage_and_source(estimate);
        answer_accounted(self.api(), source);
        usage
    }

    /// Returns whether something was not counted, so that the estimate is the least to charge unless the provider reported
    /// the output.
    #[must_use]
    pub const fn estimate_stands(&self) -> bool {
        let Account { counted, unread, failed, .. } = &self.account;
        *unread || (*counted == 0 && !*failed)
    }

    /// Returns the API of the answer, if it is known.
    #[must_use]
    pub const fn api(&self) -> Option<Api> {
        self.account.api
    }
}

impl<C: AsRef<[u8]> + ?Sized> CountTokens<C> for AnswerReader {
    fn count(&mut self, chunk: &C) -> u64 {
        self.read(chunk.as_ref())
    }

    fn end(&mut self) -> u64 {
        self.finish()
    }

    fn reported(&self) -> Reported {
        self.reported()
    }

    fn estimate_stands(&self) -> bool {
        self.estimate_stands()
    }

    fn api(&self) -> Option<Api> {
        self.api()
    }
}

impl Account {
    /// Reads the data of a server-sent event. The last one of a stream may be cut.
    fn event(&mut self, part: Part<'_>, last: bool) {
        let (Part::Whole(data) | Part::Cut(data)) = part else { return self.value(part, last) };
        match data.trim_ascii() {
            b"" | b"[DONE]" => {}
            data @ ([b'{', ..] | [b'[', ..]) => self.json(data, last),
            // Text instead of JSON, from an unknown kind of provider, is not free.
            data => self.saw(str::from_utf8(data).map_or(1, |text| self.tokens(text))),
        }
    }

    fn value(&mut self, part: Part<'_>, last: bool) {
        match part {
            Part::Whole(json) | Part::Cut(json) => self.json(json, last),
            Part::TooLarge => self.unread = true,
        }
    }

    fn json(&mut self, json: &[u8], may_be_cut: bool) {
        let before = self.counted;
        let mut event = Event {
            account: self,
            delta: Delta::default(),
            message: Delta::default(),
            choice_text: 0,
            is_media: false,
            figures: None,
        };
        let read = walk(json, &mut event);
        let figures = event.end();
        if read.is_err() && !may_be_cut && self.counted == before {
            // The malformed event was passed on, so it is not free.
            self.saw(1);
        }
        if let Some((figures, first)) = figures {
            self.report(&figures, first);
        }
    }

    fn report(&mut self, figures: &Figures, first: bool) {
        self.report_input(figures);
        // Some providers report 0 in all events but one.
        let is_zero_believed = self.counted == 0 && !self.unread && self.reported.output.is_none();
        if let Some(output) = figures.output.filter(|output| *output > 0 || is_zero_believed)
            && !first
        {
            self.reported.output = Some(output);
            self.reported.reasoning = figures.reasoning;
            (self.since, self.unread) = (0, false);
        }
    }

    fn report_input(&mut self, figures: &Figures) {
        let total = figures.total.filter(|total| *total > 0);
        let input = match self.api {
            Some(api) if !api.has_output() => figures.input.or(total),
            _ => figures.input,
        };
        let Reported { input: reported, cached_input, cache_write, .. } = &mut self.reported;
        if figures.cached_input > 0 || figures.cache_write > 0 {
            (*cached_input, *cache_write) = (figures.cached_input, figures.cache_write);
        } else if *cached_input > 0 || *cache_write > 0 {
            // Cached tokens still count if only the beginning of the answer reported them.
            *reported = input.max(*reported);
            return;
        }
        *reported = input.or(*reported);
    }

    fn saw(&mut self, tokens: u64) {
        self.counted = self.counted.saturating_add(tokens);
        self.since = self.since.saturating_add(tokens);
    }

    fn tokens(&self, text: &str) -> u64 {
        self.tokenizer.as_ref().map_or_else(|| tokens_of_text(text), |count| count(text))
    }
}

/// One JSON value of an answer: an event of a stream, or a whole body.
struct Event<'a> {
    account: &'a mut Account,
    /// Text that comes with this event. Of chat completions, the delta of a choice.
    delta: Delta,
    /// The message of a choice. Some providers repeat it with its deltas.
    message: Delta,
    /// The tokens of a choice's own text, which some providers send with its delta.
    choice_text: u64,
    /// Whether its delta is sound or a picture in base64, by the type of the event.
    is_media: bool,
    figures: Option<(Figures, bool)>,
}

/// The tokens of one delta.
#[derive(Default)]
struct Delta {
    text: u64,
    reasoning: u64,
    marks: bool,
}

impl Delta {
    fn tokens(&self) -> u64 {
        let tokens = self.text.saturating_add(self.reasoning);
        if tokens == 0 { u64::from(self.marks) } else { tokens }
    }
}

impl Event<'_> {
    fn end(mut self) -> Option<(Figures, bool)> {
        if self.is_media {
            self.delta.text = self.delta.text.min(1);
        }
        self.end_choice();
        self.figures
    }

    fn end_choice(&mut self) {
        let delta = std::mem::take(&mut self.delta).tokens();
        let message = std::mem::take(&mut self.message).tokens();
        let whole = message.max(std::mem::take(&mut self.choice_text));
        self.account.has_deltas |= delta > 0;
        self.account.saw(if self.account.has_deltas { delta } else { whole });
    }

    fn delta(&mut self, path: &[&str]) -> &mut Delta {
        match path {
            ["choices", "message", ..] => &mut self.message,
            _ => &mut self.delta,
        }
    }

    fn add_text(&mut self, path: &[&str], tokens: u64) {
        let delta = self.delta(path);
        delta.text = delta.text.saturating_add(tokens);
    }

    fn tokens(&mut self, raw: &str) -> u64 {
        let mut buffer = std::mem::take(&mut self.account.buffer);
        let tokens = text(raw, &mut buffer).map_or(0, |text| self.account.tokens(text));
        if buffer.capacity() <= REUSED_BYTES {
            self.account.buffer = buffer;
        }
        tokens
    }
}

impl<'de> Receive<'de> for Event<'_> {
    fn look(&mut self, path: &[&str]) -> Look {
        Api::answer(self.account.api, path).look()
    }

    fn value(&mut self, path: &[&str], raw: &'de str) {
        match Api::answer(self.account.api, path) {
            Meaning::Text => {
                let tokens = self.tokens(raw);
                self.add_text(path, tokens);
            }
            Meaning::Reasoning => {
                let tokens = self.tokens(raw);
                let delta = self.delta(path);
                delta.reasoning = delta.reasoning.max(tokens);
            }
            Meaning::ChoiceText => self.choice_text = self.choice_text.max(self.tokens(raw)),
            Meaning::Json => {
                let tokens = match raw.starts_with('"') {
                    true => self.tokens(raw),
                    false if has_content(raw) => self.account.tokens(raw),
                    false => 0,
                };
                self.add_text(path, tokens);
            }
            Meaning::Mark => self.delta(path).marks |= has_content(raw),
            meaning @ (Meaning::Usage | Meaning::FirstUsage) => {
                let first = meaning == Meaning::FirstUsage;
                self.figures = Figures::read(raw).map(|read| (read, first)).or(self.figures);
            }
            Meaning::Type => {
                self.is_media = raw.starts_with("\"response.")
                    && (raw.ends_with("audio.delta\"") || raw.contains("partial_image"));
                self.account.failed |= raw == "\"error\"";
            }
            Meaning::Error => self.account.failed |= has_content(raw),
            _ => {}
        }
    }

    /// Counts a delta that is a string as text, although no known API has such deltas.
    fn string(&mut self, path: &[&str], text: &str) {
        if matches!(path, ["choices", "delta" | "message"] | ["delta"]) {
            let tokens = self.account.tokens(text);
            self.add_text(path, tokens);
        }
    }

    fn close(&mut self, path: &[&str]) {
        if path == ["choices"] {
            self.end_choice();
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("api", &self.api)
            .field("reported", &self.reported)
            .field("counted", &self.counted)
            .field("since", &self.since)
            .field("unread", &self.unread)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Bytes that may come before the first of an answer: white space, and a byte order mark.
const OPENING: &[u8] = b" \t\r\n\xef\xbb\xbf";
